/* What every probe report goes through, over the arrays of the core: `links` for estimate.py, `health` for health.py,
 * `cells` for blame/cells.py, `noted` for rollup.py, `history` for history.py. Each has a numpy form there that says what is done and why; both
 * leave the same arrays, bit for bit: whole numbers, and doubles by the same operations in the same order. Compiled as
 * ISO C, so that no compiler joins a product and a sum into one rounding.
 *
 * A numpy statement over rows reads all of them before it writes any, which shows where two rows are about one link.
 * So what reads and writes the same array is a loop of its own here, or two. */
#include "_evidence_history.h"

/* --- health --------------------------------------------------------------------------------------------------------- */

static PyObject *health(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    long long u, n, now;
    Py_ssize_t k;
    PyObject *arrays;
    if (!PyArg_ParseTuple(arguments, "LLLnO!:health", &u, &n, &now, &k, &PyTuple_Type, &arrays))
        return NULL;
    if (n < 1 || n > 1 << 14 || u < 0 || u >= n || k < 0)
        return PyErr_Format(PyExc_ValueError, "a vertex or a size that cannot be");
    struct arrays held = {.count = 0};
    const int64_t *v = take(&held, arrays, 'q', 0, k), *received = take(&held, arrays, 'q', 0, k);
    const int64_t *lost = take(&held, arrays, 'q', 0, k);
    int64_t *losses = take(&held, arrays, 'q', 1, n), *lost_at = take(&held, arrays, 'q', 1, n * n);
    int64_t *ok_at = take(&held, arrays, 'q', 1, n * n);
    double *sent = take(&held, arrays, 'd', 1, n * n), *gone = take(&held, arrays, 'd', 1, n * n);
    for (Py_ssize_t i = 0; !held.failed && i < k; i++)
        if (v[i] < 0 || v[i] >= n) {
            held.failed = 1;
            PyErr_SetString(PyExc_ValueError, "a vertex that cannot be");
        }
    if (held.failed) {
        give_back(&held);
        return NULL;
    }
    int64_t all = 0;
    int heard = 0;
    for (Py_ssize_t i = 0; i < k; i++) {
        all += lost[i];
        heard |= received[i] > 0;
    }
    losses[u] += all;
    for (Py_ssize_t i = 0; i < k; i++)
        losses[v[i]] += lost[i];
    for (Py_ssize_t i = 0; i < k; i++) {
        if (lost[i] > 0)
            lost_at[u * n + v[i]] = lost_at[v[i] * n + u] = now;
        if (received[i] > 0) {
            ok_at[u * n + v[i]] = ok_at[v[i] * n + u] = now;
            losses[v[i]] = 0;
        }
        sent[u * n + v[i]] += (double)(received[i] + lost[i]);
        gone[u * n + v[i]] += (double)lost[i];
    }
    if (heard)
        losses[u] = 0;
    give_back(&held);
    Py_RETURN_TRUE;
}

/* --- cells of blame ------------------------------------------------------------------------------------------------- */

/* Rows whose cell is not made yet are found before anything is changed: False, and Python makes them. */
static PyObject *cells(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *columns, *numbers, *arrays;
    long long source, nodes, now, never, slow_us;
    double slow_share;
    Py_ssize_t room;
    if (!PyArg_ParseTuple(arguments, "O!O!LLLn(LLd)O!:cells", &PyTuple_Type, &columns, &PyDict_Type, &numbers, &source,
                          &nodes, &now, &room, &never, &slow_us, &slow_share, &PyTuple_Type, &arrays))
        return NULL;
    enum { NAME, PROBES, ANSWERS, TRIP, ALL };
    PyObject *found[ALL], *answer = Py_False;
    Py_ssize_t count = PyTuple_GET_SIZE(columns) > 0 && PyTuple_CheckExact(PyTuple_GET_ITEM(columns, 0))
                           ? PyTuple_GET_SIZE(PyTuple_GET_ITEM(columns, 0)) : 0;
    for (int c = 0; c < ALL; c++)
        if ((found[c] = column(columns, c, count)) == NULL)
            Py_RETURN_FALSE;
    if (source < 0 || source >= nodes)
        return PyErr_Format(PyExc_ValueError, "a number that is out of range");
    struct seen { int64_t row, sent, received, trip; } *rows = malloc((size_t)(count + 1) * sizeof *rows);
    struct arrays held = {.count = 0};
    const int32_t *cell_of = take(&held, arrays, 'i', 0, (Py_ssize_t)(nodes * nodes));
    const int64_t *usual = take(&held, arrays, 'q', 0, room);
    int64_t *fastest = take(&held, arrays, 'q', 1, room), *last_bad = take(&held, arrays, 'q', 1, room);
    double *total[3], *bad[3];
    for (int span = 0; span < 3; span++)
        total[span] = take(&held, arrays, 'd', 1, room);
    for (int span = 0; span < 3; span++)
        bad[span] = take(&held, arrays, 'd', 1, room);
    if (rows == NULL)
        PyErr_NoMemory();
    Py_ssize_t k = 0;
    int usable = rows != NULL && !held.failed;
    for (Py_ssize_t i = 0; usable && i < count; i++) {
        int64_t peer = number_of(numbers, PyTuple_GET_ITEM(found[NAME], i), nodes);
        if (peer == -2 || peer == -1 || peer == source) {
            usable = peer != -2;
            continue;
        }
        rows[k].row = cell_of[source * nodes + peer];
        usable = rows[k].row >= 0 && rows[k].row < room && number(found[PROBES], i, &rows[k].sent) &&
                 number(found[ANSWERS], i, &rows[k].received) && number(found[TRIP], i, &rows[k].trip);
        k++;
    }
    for (Py_ssize_t i = 0; usable && i < k; i++)
        if (rows[i].received > 0 && rows[i].trip >= 0 && rows[i].trip < fastest[rows[i].row])
            fastest[rows[i].row] = rows[i].trip;
    for (Py_ssize_t i = 0; usable && i < k; i++) {
        int64_t row = rows[i].row, trip = rows[i].received > 0 ? rows[i].trip : -1, lost = rows[i].sent - rows[i].received;
        double mark = (double)usual[row] + fmax((double)slow_us, slow_share * (double)usual[row]);
        int late = trip >= 0 && usual[row] < never && (double)trip > mark;
        double worse = (double)(late ? rows[i].sent : lost);
        for (int span = 0; span < 3; span++) {
            total[span][row] += (double)rows[i].sent;
            bad[span][row] += worse;
        }
        if (worse > 0)
            last_bad[row] = now;
    }
    if (usable)
        answer = Py_True;
    give_back(&held);
    free(rows);
    return PyErr_Occurred() ? NULL : Py_NewRef(answer);
}

/* --- the present roll-up bucket ------------------------------------------------------------------------------------- */

static int is_narrow(int64_t value)
{
    return value >= INT32_MIN && value <= INT32_MAX;
}

/* Rows about other data centers as int32: transport, target, sent, received, least round trip, length of the sketch, and
 * all sketches one after the other. Returns (rows, values of the sketches), or None for what does not fit. */
static PyObject *noted(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *columns, *homes, *transports, *arrays;
    long long own;
    Py_ssize_t count, room;
    if (!PyArg_ParseTuple(arguments, "O!O!O!LnnO!:noted", &PyTuple_Type, &columns, &PyDict_Type, &homes, &PyDict_Type,
                          &transports, &own, &count, &room, &PyTuple_Type, &arrays))
        return NULL;
    enum { NAME, WAY, PROBES, ANSWERS, TRIP, SKETCH, ALL };
    PyObject *found[ALL], *last = NULL;
    for (int c = 0; c < ALL; c++)
        if ((found[c] = column(columns, c, count)) == NULL)
            Py_RETURN_NONE;
    struct arrays held = {.count = 0};
    int32_t *out = take(&held, arrays, 'i', 1, 6 * count), *flat = take(&held, arrays, 'i', 1, room);
    Py_ssize_t k = 0, used = 0;
    int64_t transport = -1;
    int usable = !held.failed;
    for (Py_ssize_t i = 0; usable && i < count; i++) {
        PyObject *way = PyTuple_GET_ITEM(found[WAY], i), *sketch = PyTuple_GET_ITEM(found[SKETCH], i);
        if (way != last)
            transport = number_of(transports, way, INT32_MAX);
        last = way;
        int64_t target = number_of(homes, PyTuple_GET_ITEM(found[NAME], i), INT32_MAX), value;
        usable = transport != -2 && target != -2 && PyTuple_CheckExact(sketch);
        if (!usable || transport < 0 || target < 0 || target == own)
            continue;
        out[k] = (int32_t)transport;
        out[count + k] = (int32_t)target;
        for (int c = PROBES; usable && c <= TRIP; c++) {
            usable = number(found[c], i, &value) && is_narrow(value);
            out[c * count + k] = usable ? (int32_t)value : 0;
        }
        Py_ssize_t length = PyTuple_GET_SIZE(sketch);
        out[5 * count + k++] = (int32_t)length;
        usable = usable && length <= room - used;
        for (Py_ssize_t at = 0; usable && at < length; at++) {
            usable = number(sketch, at, &value) && is_narrow(value);
            flat[used++] = usable ? (int32_t)value : 0;
        }
    }
    give_back(&held);
    if (PyErr_Occurred())
        return NULL;
    if (!usable)
        Py_RETURN_NONE;
    return Py_BuildValue("nn", k, used);
}

static PyMethodDef methods[] = {
    {"links", links, METH_VARARGS, "Put a report into the estimates; None if it is not as usual."},
    {"health", health, METH_VARARGS, "Count a report's evidence about data centers."},
    {"cells", cells, METH_VARARGS, "Count a report's probes; False, and nothing done, if it is not as usual."},
    {"history", history, METH_VARARGS, "End a bucket of the history; how many levels changed."},
    {"noted", noted, METH_VARARGS, "Note a report for the roll-up; None if it is not as usual."},
    {0},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_evidence", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__evidence(void)
{
    return PyModule_Create(&module);
}
