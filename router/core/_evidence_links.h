/* A report into the estimates of links; the numpy form is in estimate.py, change.py and history.py. */
#include "_evidence_arrays.h"

enum { RING = 5 };
enum { PEER, TRANSPORT, SENT, RECEIVED, REFLECTED, RTT, FORWARD, BACKWARD, JITTER, ROW_COLUMNS };
enum { DONE, STEPPED, MISPLACED, SIBLINGS };

struct row {
    int64_t at, t, v, values[ROW_COLUMNS], there, back, held;
    double offset, packets, gone;
    int ok, placed, known;
};

struct rules {
    long long contradiction, step, empty, unknown, fallen, no_cost, silences;
    double light, jitter_gain, memory, recent;
};

struct state {
    long long u, n, transports, now, slot;
    struct rules rules;
    int64_t *floor, *samples, *last_at, *jitter, *delivered_at, *lost_since, *raw[RING], *rtt[RING];
    double *sent, *usual_sent, *usual_lost, *score;
    char *lossy;
    double *potential;
    char *is_placed;
    int64_t *latest, *open, *before;
    double *mean, *weight;
    int64_t *silence;
    double *ended, *lasted;
    int64_t *out;
    Py_ssize_t rows;
};

static int take_arrays(struct arrays *held, struct state *s, PyObject *arrays)
{
    Py_ssize_t square = s->n * s->n, all = square * s->transports;
    s->floor = take(held, arrays, 'q', 0, square);
    s->samples = take(held, arrays, 'q', 1, all);
    s->last_at = take(held, arrays, 'q', 1, all);
    s->jitter = take(held, arrays, 'q', 1, all);
    s->delivered_at = take(held, arrays, 'q', 1, all);
    s->lost_since = take(held, arrays, 'q', 1, all);
    for (int i = 0; i < RING; i++)
        s->raw[i] = take(held, arrays, 'q', i == s->slot, all);
    for (int i = 0; i < RING; i++)
        s->rtt[i] = take(held, arrays, 'q', i == s->slot, all);
    s->sent = take(held, arrays, 'd', 1, all);
    s->usual_sent = take(held, arrays, 'd', 1, all);
    s->usual_lost = take(held, arrays, 'd', 1, all);
    s->score = take(held, arrays, 'd', 0, all);
    s->lossy = take(held, arrays, '?', 0, all);
    s->potential = take(held, arrays, 'd', 0, s->n);
    s->is_placed = take(held, arrays, '?', 0, s->n);
    s->latest = take(held, arrays, 'q', 1, all);
    s->open = take(held, arrays, 'q', 1, all);
    s->before = take(held, arrays, 'q', 0, all);
    s->mean = take(held, arrays, 'd', 0, all);
    s->weight = take(held, arrays, 'd', 0, all);
    s->silence = take(held, arrays, 'q', 0, s->n);
    s->ended = take(held, arrays, 'd', 0, s->rules.silences);
    s->lasted = take(held, arrays, 'd', 0, s->rules.silences);
    s->out = take(held, arrays, 'q', 1, 10 * s->rows);
    return !held->failed;
}

/* Fill in rows about other data centers; *siblings counts those about our own, whose places go to `out`. Returns how
 * many, -1 if a column is not as usual, -2 with an exception. Nothing is changed before all of it is known. */
static Py_ssize_t read_rows(struct state *s, PyObject *columns, PyObject *vertex, PyObject *transport, struct row *rows,
                            int64_t *unknown, int64_t *siblings)
{
    PyObject *found[ROW_COLUMNS], *last = NULL;
    int64_t t = -1;
    Py_ssize_t count = 0;
    for (int c = 0; c < ROW_COLUMNS; c++)
        if ((found[c] = column(columns, c, s->rows)) == NULL)
            return -1;
    for (Py_ssize_t i = 0; i < s->rows; i++) {
        struct row *row = &rows[count];
        PyObject *name = PyTuple_GET_ITEM(found[TRANSPORT], i);
        for (int c = SENT; c < ROW_COLUMNS; c++)
            if (!number(found[c], i, &row->values[c]))
                return -1;
        if (name != last)
            t = number_of(transport, name, s->transports);
        last = name;
        int64_t v = number_of(vertex, PyTuple_GET_ITEM(found[PEER], i), s->n);
        if (t == -2 || v == -2)
            return -2;
        if (t < 0 || v < 0) {
            ++*unknown;
        } else if (v == s->u) {
            s->out[(*siblings)++] = i;
        } else {
            row->at = i;
            row->t = t;
            row->v = v;
            row->there = (t * s->n + s->u) * s->n + v;
            row->back = (t * s->n + v) * s->n + s->u;
            count++;
        }
    }
    return count;
}

/* Loss: calm cells are counted; those that the tests must look at are told in `out` 7 to 9. Returns how many. */
static int64_t count_losses(const struct state *s, struct row *rows, Py_ssize_t k, int32_t *first)
{
    int64_t uncalm = 0;
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        int64_t sent = row->values[SENT], lost = sent - row->values[RECEIVED];
        int32_t *place = &first[row->t * s->n + row->v];
        if (*place == 0)
            *place = (int32_t)i + 1;
        row->packets = row->gone = 0.0;
        rows[*place - 1].packets += (double)sent;
        rows[*place - 1].gone += (double)(lost < sent ? lost : sent);
    }
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        int64_t low = s->u < row->v ? s->u : row->v, high = s->u < row->v ? row->v : s->u;
        int64_t cell = (row->t * s->n + low) * s->n + high;
        if (first[row->t * s->n + row->v] != i + 1 || !(row->packets > 0))
            continue;
        if (row->gone != 0 || s->lossy[cell] || s->score[cell] != 0) {
            s->out[7 * s->rows + uncalm] = cell;
            s->out[8 * s->rows + uncalm] = (int64_t)row->packets;
            s->out[9 * s->rows + uncalm++] = (int64_t)row->gone;
            continue;
        }
        double forget = fmax(0.0, 1 - row->packets / s->rules.memory);
        s->sent[cell] += row->packets;
        s->usual_sent[cell] = s->usual_sent[cell] * forget + row->packets;
        s->usual_lost[cell] = s->usual_lost[cell] * forget + row->gone;
    }
    return uncalm;
}

static void count_delivery(const struct state *s, const struct row *rows, Py_ssize_t k)
{
    for (Py_ssize_t i = 0; i < k; i++) {
        int64_t lost = rows[i].values[SENT] - rows[i].values[RECEIVED];
        s->lost_since[rows[i].there] += lost;
        s->lost_since[rows[i].back] += lost;
    }
    for (Py_ssize_t i = 0; i < k; i++) {
        if (rows[i].ok) {
            s->lost_since[rows[i].there] = 0;
            s->delivered_at[rows[i].there] = s->now;
        }
        if (rows[i].ok || rows[i].values[REFLECTED] > 0) {
            s->lost_since[rows[i].back] = 0;
            s->delivered_at[rows[i].back] = s->now;
        }
    }
}

static void blend_jitter(const struct state *s, struct row *rows, Py_ssize_t k)
{
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        int64_t one_way = row->values[JITTER] * 707 / 1000, held = s->jitter[row->there];
        double blended = (double)held + s->rules.jitter_gain * (double)(one_way - held);
        row->held = held == s->rules.unknown ? one_way : (int64_t)rint(blended);
    }
    for (Py_ssize_t i = 0; i < k; i++)
        if (rows[i].ok && rows[i].values[JITTER] >= 0)
            s->jitter[rows[i].there] = rows[i].held;
}

static int64_t least(int64_t *const *ring, int64_t link)
{
    int64_t found = ring[0][link];
    for (int i = 1; i < RING; i++)
        found = ring[i][link] < found ? ring[i][link] : found;
    return found;
}

static int64_t distance(int64_t a, int64_t b)
{
    return a < b ? b - a : a - b;
}

static int has_stepped(const struct state *s, const struct row *row)
{
    int64_t forward = row->values[FORWARD], backward = row->values[BACKWARD];
    int64_t out = least(s->raw, row->there), home = least(s->raw, row->back);
    if (out >= s->rules.empty || home >= s->rules.empty)
        return 0;
    int64_t shift = distance(forward - backward, out - home) / 2;
    if (shift <= s->rules.step)
        return 0;
    int64_t there = least(s->rtt, row->there), back = least(s->rtt, row->back);
    int64_t trips = distance(row->values[RTT], there < back ? there : back);
    int64_t sums = distance(forward + backward, out + home);
    return (trips > sums ? trips : sums) < shift;
}

static void lower(int64_t *array, int64_t place, int64_t value)
{
    if (value < array[place])
        array[place] = value;
}

/* Into the history; how many rows the clocks contradict, and in *believed how many they do not. */
static int64_t remember(const struct state *s, struct row *rows, Py_ssize_t k, int64_t *believed)
{
    int64_t contradicted = 0;
    *believed = 0;
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        if (!row->placed)
            continue;
        int64_t ahead = (int64_t)rint(s->potential[row->v] - s->potential[s->u]), rtt = row->values[RTT];
        row->values[FORWARD] -= ahead;
        row->values[BACKWARD] += ahead;
        int64_t lower_one = row->values[FORWARD] < row->values[BACKWARD] ? row->values[FORWARD] : row->values[BACKWARD];
        int64_t half = rtt > 0 ? (rtt + 1) / 2 : rtt / 2; /* -rtt // 2 is -half */
        int known = s->is_placed[row->v] && s->is_placed[s->u], fits = lower_one >= -half - s->rules.contradiction;
        row->known = known && fits;
        contradicted += known && !fits;
        *believed += row->known;
    }
    return contradicted;
}

static void put(const struct state *s, struct row *rows, Py_ssize_t k, int forward)
{
    for (Py_ssize_t i = 0; i < k; i++) {
        int64_t link = forward ? rows[i].there : rows[i].back, delay = rows[i].values[forward ? FORWARD : BACKWARD];
        rows[i].held = s->open[link] < delay ? s->open[link] : delay;
    }
    for (Py_ssize_t i = 0; i < k; i++)
        if (rows[i].placed && rows[i].known)
            s->open[forward ? rows[i].there : rows[i].back] = rows[i].held;
    for (Py_ssize_t i = 0; i < k; i++)
        if (rows[i].placed && rows[i].known) {
            int64_t link = forward ? rows[i].there : rows[i].back;
            s->latest[link] = s->open[link] < s->before[link] ? s->open[link] : s->before[link];
        }
}

static int64_t expected(const struct state *s, int64_t link, int64_t source)
{
    int64_t silence = s->silence[source], latest = s->latest[link];
    if (silence >= s->rules.silences)
        silence = s->rules.silences - 1;
    if (latest == s->rules.fallen)
        return s->rules.no_cost;
    double recent = 1 - s->ended[silence] / s->lasted[silence] * (1 - s->rules.recent);
    double level = s->weight[link] > 0 ? s->mean[link] : (double)latest;
    return (int64_t)rint(recent * (double)latest + (1 - recent) * level);
}

static PyObject *put_links(struct state *s, struct row *rows, Py_ssize_t k, int64_t unknown, PyObject *offsets,
                           PyObject *peers, double own, int32_t *first)
{
    int64_t light = 0, contradiction = 0, m = 0, clock = 0, believed = 0, code = DONE;
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        int64_t rtt = row->values[RTT], both = row->values[FORWARD] + row->values[BACKWARD];
        double floor = s->rules.light * (double)s->floor[s->u * s->n + row->v];
        int heard = row->values[RECEIVED] > 0, fast = heard && ((double)rtt < floor || (double)both < floor);
        int odd = heard && !fast && both > rtt + s->rules.contradiction;
        light += fast;
        contradiction += odd;
        row->ok = heard && !fast && !odd;
        s->out[i] = row->v;
        s->out[s->rows + i] = row->values[RECEIVED];
        s->out[2 * s->rows + i] = row->values[SENT] - row->values[RECEIVED];
        PyObject *offset = PyDict_GetItemWithError(offsets, PyTuple_GET_ITEM(peers, row->at));
        if (offset == NULL && PyErr_Occurred())
            return NULL;
        row->offset = (offset == NULL ? NAN : PyFloat_AsDouble(offset)) - own;
        if (PyErr_Occurred())
            return NULL;
        row->placed = row->ok && !isnan(row->offset);
    }
    int64_t uncalm = count_losses(s, rows, k, first);
    count_delivery(s, rows, k);
    blend_jitter(s, rows, k);
    for (Py_ssize_t i = 0; i < k; i++) {
        struct row *row = &rows[i];
        if (!row->ok)
            continue;
        s->samples[row->there] += row->values[RECEIVED];
        s->last_at[row->there] = s->now;
        s->out[3 * s->rows + m] = row->t;
        s->out[4 * s->rows + m++] = row->v;
        if (row->placed) {
            int64_t shift = (int64_t)rint(row->offset);
            row->values[FORWARD] -= shift;
            row->values[BACKWARD] += shift;
            if (has_stepped(s, row))
                code = STEPPED;
        }
    }
    for (Py_ssize_t i = 0; code == DONE && i < k; i++) {
        if (rows[i].ok)
            lower(s->rtt[s->slot], rows[i].there, rows[i].values[RTT]);
        if (rows[i].placed) {
            lower(s->raw[s->slot], rows[i].there, rows[i].values[FORWARD]);
            lower(s->raw[s->slot], rows[i].back, rows[i].values[BACKWARD]);
        }
    }
    if (code == DONE) {
        clock = remember(s, rows, k, &believed);
        if (clock > 0 && believed == 0)
            code = MISPLACED;
    }
    if (code == DONE) {
        put(s, rows, k, 1);
        put(s, rows, k, 0);
        for (Py_ssize_t i = 0, at = 0; i < k; i++)
            if (rows[i].ok) {
                s->out[5 * s->rows + at] = expected(s, rows[i].there, s->u);
                s->out[6 * s->rows + at++] = expected(s, rows[i].back, rows[i].v);
            }
    }
    return Py_BuildValue("LnLLLLLL", (long long)code, k, (long long)m, (long long)uncalm, (long long)unknown,
                         (long long)light, (long long)contradiction, (long long)clock);
}

static PyObject *links(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *columns, *vertex, *transport, *offsets, *arrays, *answer = NULL;
    struct state s = {0};
    struct rules *r = &s.rules;
    double own;
    int heed;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!d(LLLLL)(LLLLLLLdddd)pO!:links", &PyTuple_Type, &columns, &PyDict_Type,
                          &vertex, &PyDict_Type, &transport, &PyDict_Type, &offsets, &own, &s.u, &s.n, &s.transports,
                          &s.now, &s.slot, &r->contradiction, &r->step, &r->empty, &r->unknown, &r->fallen, &r->no_cost,
                          &r->silences, &r->light, &r->jitter_gain, &r->memory, &r->recent, &heed, &PyTuple_Type,
                          &arrays))
        return NULL;
    PyObject *peers = PyTuple_GET_SIZE(columns) > 0 ? PyTuple_GET_ITEM(columns, PEER) : NULL;
    if (peers == NULL || !PyTuple_CheckExact(peers))
        Py_RETURN_NONE;
    if (s.n < 1 || s.n > 1 << 14 || s.transports < 1 || s.transports > 255 || s.u < 0 || s.u >= s.n || r->silences < 1)
        return PyErr_Format(PyExc_ValueError, "a vertex, a size or a bound that cannot be");
    s.rows = PyTuple_GET_SIZE(peers);
    struct arrays held = {.count = 0};
    struct row *rows = malloc((size_t)(s.rows + 1) * sizeof *rows);
    int32_t *first = calloc((size_t)(s.transports * s.n), sizeof *first);
    if (rows == NULL || first == NULL) {
        PyErr_NoMemory();
    } else if (take_arrays(&held, &s, arrays)) {
        int64_t unknown = 0, siblings = 0;
        Py_ssize_t k = read_rows(&s, columns, vertex, transport, rows, &unknown, &siblings);
        if (k == -1)
            answer = Py_NewRef(Py_None);
        else if (k >= 0 && heed && siblings > 0)
            answer = Py_BuildValue("iLiiiiii", SIBLINGS, (long long)siblings, 0, 0, 0, 0, 0, 0);
        else if (k >= 0)
            answer = put_links(&s, rows, k, unknown, offsets, peers, own, first);
    }
    give_back(&held);
    free(first);
    free(rows);
    return answer;
}
