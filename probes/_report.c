/* The usual text of a probe report, read into the very objects that `decode_report` makes of it.
 *
 * `read(text, ProbeReport, ReportRows, limits)` knows plain JSON: fields that are known, each once; texts without
 * escapes, in ASCII; whole numbers of at most 18 digits. For anything else, and for whatever breaks a rule of the
 * contract, it returns None, and the Python form reads the text again and says what is wrong with it.
 *
 * `pack(columns)` makes the columns of a report small for whoever keeps many: the flight recorder. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

enum { MOST_ROWS = 4096, MOST_VALUES = 8192, MOST_TEXT = 255, COLUMNS = 17, FIELDS = 10 };
enum kind { TEXTS, COUNTS, DELAYS, RAWS, SKETCHES, STATES };

static const struct { const char *name; enum kind kind; } columns[COLUMNS] = {
    {"peer", TEXTS}, {"transport", TEXTS}, {"sent", COUNTS}, {"received", COUNTS}, {"reflected", COUNTS},
    {"late", COUNTS}, {"duplicate", COUNTS}, {"rtt_min_us", DELAYS}, {"forward_min_us", RAWS},
    {"backward_min_us", RAWS}, {"jitter_us", DELAYS}, {"forward_base_us", RAWS}, {"backward_base_us", RAWS},
    {"rtt_sketch", SKETCHES}, {"forward_sketch", SKETCHES}, {"backward_sketch", SKETCHES}, {"state", STATES},
};
enum { PEER, TRANSPORT, SENT, RECEIVED, RTT_MIN = 7, STATE = 16 };
static const char *const fields[FIELDS] = {
    "node", "boot", "sequence", "plan_version", "sent_at_us", "interval_us", "rows", "version", "reflexes", "checks",
};
enum { NODE, BOOT, SEQUENCE, PLAN_VERSION, SENT_AT, INTERVAL, ROWS, VERSION, REFLEXES, CHECKS };

struct limits {
    long long version, rows, count, delay, raw, bucket, buckets, sequence, interval;
};

struct text {
    const char *at, *end;
    const struct limits *limits;
};

/* --- tokens: each returns 1, or 0 where the text is not plain or breaks a rule ------------------------------------- */

static void skip(struct text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
}

static int is_next(struct text *text, char wanted)
{
    skip(text);
    if (text->at == text->end || *text->at != wanted)
        return 0;
    text->at++;
    return 1;
}

/* After a value: 1 if another follows, 0 at the closing mark, -1 for anything else. */
static int goes_on(struct text *text, char closing)
{
    if (is_next(text, ','))
        return 1;
    return is_next(text, closing) ? 0 : -1;
}

static int string(struct text *text, const char **from, Py_ssize_t *length)
{
    if (!is_next(text, '"'))
        return 0;
    const char *at = text->at;
    while (at < text->end && *at >= ' ' && *at < 127 && *at != '"' && *at != '\\')
        at++;
    if (at == text->end || *at != '"')
        return 0;
    *from = text->at;
    *length = at - text->at;
    text->at = at + 1;
    return *length > 0 && *length <= MOST_TEXT;
}

static int integer(struct text *text, long long low, long long high, int64_t *value)
{
    skip(text);
    int negative = text->at < text->end && *text->at == '-';
    const char *first = text->at + negative, *at = first;
    int64_t found = 0;
    while (at < text->end && *at >= '0' && *at <= '9' && at - first < 18)
        found = found * 10 + (*at++ - '0');
    if (at == first || (*first == '0' && at - first > 1))
        return 0;
    if (at < text->end && ((*at >= '0' && *at <= '9') || *at == '.' || *at == 'e' || *at == 'E'))
        return 0;
    text->at = at;
    *value = negative ? -found : found;
    return low <= *value && *value <= high;
}

/* --- columns: a new reference; NULL without an exception where the text is not plain ------------------------------- */

static PyObject *ascii(const char *from, Py_ssize_t length)
{
    PyObject *made = PyUnicode_New(length, 127);
    if (made != NULL)
        memcpy(PyUnicode_1BYTE_DATA(made), from, (size_t)length);
    return made;
}

static PyObject *tuple_of(PyObject **items, Py_ssize_t count)
{
    PyObject *made = PyTuple_New(count);
    if (made == NULL) {
        while (count > 0)
            Py_DECREF(items[--count]);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(made, i, items[i]);
    if (count > 0)
        PyObject_GC_UnTrack(made); /* of texts, numbers and tuples of numbers: no part of any cycle */
    return made;
}

static PyObject *texts(struct text *text)
{
    PyObject *items[MOST_ROWS];
    Py_ssize_t count = 0, length, last_length = -1;
    const char *from, *last = NULL;
    int more = !is_next(text, ']');
    for (; more == 1; more = goes_on(text, ']')) {
        if (count == text->limits->rows || !string(text, &from, &length))
            break;
        if (length == last_length && memcmp(from, last, (size_t)length) == 0) {
            items[count] = Py_NewRef(items[count - 1]); /* most rows share a transport */
        } else if ((items[count] = ascii(from, length)) == NULL) {
            break;
        }
        last = from;
        last_length = length;
        count++;
    }
    if (more == 0)
        return tuple_of(items, count);
    while (count > 0)
        Py_DECREF(items[--count]);
    return NULL;
}

static PyObject *numbers(const int64_t *values, Py_ssize_t count)
{
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t i = 0; made != NULL && i < count; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (value == NULL)
            Py_CLEAR(made);
        else
            PyTuple_SET_ITEM(made, i, value);
    }
    if (made != NULL && count > 0)
        PyObject_GC_UnTrack(made);
    return made;
}

static PyObject *integers(struct text *text, long long low, long long high)
{
    int64_t values[MOST_ROWS];
    Py_ssize_t count = 0;
    int more = !is_next(text, ']');
    for (; more == 1; more = goes_on(text, ']'))
        if (count == text->limits->rows || !integer(text, low, high, &values[count++]))
            return NULL;
    return more == 0 ? numbers(values, count) : NULL;
}

static PyObject *sketch(struct text *text)
{
    int64_t values[MOST_VALUES];
    const struct limits *limits = text->limits;
    Py_ssize_t count = 0;
    if (!is_next(text, '['))
        return NULL;
    int more = !is_next(text, ']');
    for (; more == 1; more = goes_on(text, ']')) {
        int is_count = count % 2;
        if (count == 2 * limits->buckets ||
            !integer(text, is_count ? 1 : -limits->bucket, is_count ? limits->count : limits->bucket, &values[count]))
            return NULL;
        if (!is_count && count > 0 && values[count] <= values[count - 2])
            return NULL;
        count++;
    }
    return more == 0 && count % 2 == 0 ? numbers(values, count) : NULL;
}

static PyObject *sketches(struct text *text)
{
    PyObject *items[MOST_ROWS];
    Py_ssize_t count = 0;
    int more = !is_next(text, ']');
    for (; more == 1; more = goes_on(text, ']')) {
        if (count == text->limits->rows || (items[count] = sketch(text)) == NULL)
            break;
        count++;
    }
    if (more == 0)
        return tuple_of(items, count);
    while (count > 0)
        Py_DECREF(items[--count]);
    return NULL;
}

static PyObject *column(struct text *text, enum kind kind)
{
    const struct limits *limits = text->limits;
    if (!is_next(text, '['))
        return NULL;
    switch (kind) {
    case TEXTS:
        return texts(text);
    case COUNTS:
        return integers(text, 0, limits->count);
    case DELAYS:
        return integers(text, -1, limits->delay);
    case RAWS:
        return integers(text, -limits->raw, limits->raw);
    case STATES:
        return integers(text, 0, 2);
    default:
        return sketches(text);
    }
}

/* --- what columns say together ------------------------------------------------------------------------------------- */

static int same_text(PyObject *one, PyObject *other)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(one);
    return one == other || (length == PyUnicode_GET_LENGTH(other) &&
                            memcmp(PyUnicode_1BYTE_DATA(one), PyUnicode_1BYTE_DATA(other), (size_t)length) == 0);
}

/* 1 if no two rows have the same peer and transport; -1 with an exception. */
static int are_distinct(PyObject *peers, PyObject *transports, Py_ssize_t rows)
{
    int16_t seen[2 * MOST_ROWS];
    size_t room = 16;
    while (room < 2 * (size_t)rows)
        room *= 2;
    memset(seen, -1, room * sizeof *seen);
    for (Py_ssize_t i = 0; i < rows; i++) {
        PyObject *peer = PyTuple_GET_ITEM(peers, i), *transport = PyTuple_GET_ITEM(transports, i);
        Py_hash_t hash = PyObject_Hash(peer);
        if (hash == -1)
            return -1;
        size_t place = (size_t)hash & (room - 1);
        for (; seen[place] >= 0; place = (place + 1) & (room - 1))
            if (same_text(peer, PyTuple_GET_ITEM(peers, seen[place])) &&
                same_text(transport, PyTuple_GET_ITEM(transports, seen[place])))
                return 0;
        seen[place] = (int16_t)i;
    }
    return 1;
}

static int are_consistent(PyObject **found)
{
    Py_ssize_t rows = PyTuple_GET_SIZE(found[PEER]);
    for (int i = 0; i < COLUMNS; i++)
        if (PyTuple_GET_SIZE(found[i]) != rows && (i != STATE || PyTuple_GET_SIZE(found[i]) > 0))
            return 0;
    for (Py_ssize_t i = 0; i < rows; i++) {
        long sent = PyLong_AsLong(PyTuple_GET_ITEM(found[SENT], i));
        long received = PyLong_AsLong(PyTuple_GET_ITEM(found[RECEIVED], i));
        long rtt_min = PyLong_AsLong(PyTuple_GET_ITEM(found[RTT_MIN], i));
        if (received > sent || (received == 0) != (rtt_min == -1))
            return 0;
    }
    return are_distinct(found[PEER], found[TRANSPORT], rows);
}

/* --- objects -------------------------------------------------------------------------------------------------------- */

static int is_named(const char *name, const char *from, Py_ssize_t length)
{
    return strlen(name) == (size_t)length && memcmp(name, from, (size_t)length) == 0;
}

static void forget(PyObject **found, int count)
{
    for (int i = 0; i < count; i++)
        Py_CLEAR(found[i]);
}

static PyObject *rows(struct text *text, PyObject *type)
{
    PyObject *found[COLUMNS] = {NULL}, *made = NULL;
    const char *from;
    Py_ssize_t length;
    int guess = 0, more = is_next(text, '{');
    for (; more == 1; more = goes_on(text, '}'), guess++) {
        int i = guess;
        if (!string(text, &from, &length) || !is_next(text, ':'))
            break;
        if (i >= COLUMNS || !is_named(columns[i].name, from, length)) /* not in the usual order */
            for (i = 0; i < COLUMNS && !is_named(columns[i].name, from, length); i++)
                ;
        if (i == COLUMNS || found[i] != NULL || (found[i] = column(text, columns[i].kind)) == NULL)
            break;
    }
    if (more == 0 && found[STATE] == NULL)
        found[STATE] = PyTuple_New(0);
    for (int i = 0; more == 0 && i < COLUMNS; i++)
        if (found[i] == NULL)
            more = -1;
    if (more == 0 && !PyErr_Occurred() && are_consistent(found) == 1)
        made = PyObject_Vectorcall(type, found, COLUMNS, NULL);
    forget(found, COLUMNS);
    return made;
}

static PyObject *whole(struct text *text, long long low, long long high)
{
    int64_t value;
    return integer(text, low, high, &value) ? PyLong_FromLongLong(value) : NULL;
}

static PyObject *name(struct text *text)
{
    const char *from;
    Py_ssize_t length;
    return string(text, &from, &length) ? ascii(from, length) : NULL;
}

static PyObject *field(struct text *text, int i, PyObject *rows_type)
{
    const struct limits *limits = text->limits;
    switch (i) {
    case NODE:
    case BOOT:
        return name(text);
    case SEQUENCE:
    case PLAN_VERSION:
        return whole(text, 0, limits->sequence);
    case SENT_AT:
        return whole(text, -limits->raw, limits->raw);
    case INTERVAL:
        return whole(text, 0, limits->interval);
    case ROWS:
        return rows(text, rows_type);
    case VERSION:
        return whole(text, limits->version, limits->version);
    default: /* reflexes and checks are rare: only the lack of them is plain */
        return is_next(text, '[') && is_next(text, ']') ? PyTuple_New(0) : NULL;
    }
}

static PyObject *report(struct text *text, PyObject *type, PyObject *rows_type)
{
    PyObject *found[FIELDS] = {NULL}, *made = NULL;
    const char *from;
    Py_ssize_t length;
    int more = is_next(text, '{');
    for (; more == 1; more = goes_on(text, '}')) {
        int i = 0;
        if (!string(text, &from, &length) || !is_next(text, ':'))
            break;
        while (i < FIELDS && !is_named(fields[i], from, length))
            i++;
        if (i == FIELDS || found[i] != NULL || (found[i] = field(text, i, rows_type)) == NULL)
            break;
    }
    skip(text);
    if (more == 0 && text->at == text->end) {
        for (int i = REFLEXES; i <= CHECKS; i++)
            if (found[i] == NULL)
                found[i] = PyTuple_New(0);
        int missing = 0;
        for (int i = 0; i < FIELDS; i++)
            missing |= found[i] == NULL;
        if (!missing && !PyErr_Occurred())
            made = PyObject_Vectorcall(type, found, FIELDS, NULL);
    }
    forget(found, FIELDS);
    return made;
}

static PyObject *read_text(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    struct limits limits;
    struct text text = {.limits = &limits};
    PyObject *type, *rows_type;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(arguments, "y#OO(LLLLLLLLL):read", &text.at, &length, &type, &rows_type, &limits.version,
                          &limits.rows, &limits.count, &limits.delay, &limits.raw, &limits.bucket, &limits.buckets,
                          &limits.sequence, &limits.interval))
        return NULL;
    if (limits.rows > MOST_ROWS || 2 * limits.buckets > MOST_VALUES || limits.count > 1 << 30 ||
        limits.delay > 1 << 30) {
        PyErr_SetString(PyExc_ValueError, "limits beyond those that this was compiled for");
        return NULL;
    }
    text.end = text.at + length;
    PyObject *made = report(&text, type, rows_type);
    if (made == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return made;
}

/* --- packed columns ------------------------------------------------------------------------------------------------- */

struct bytes {
    unsigned char *data;
    size_t used, room;
};

/* A number as its zigzag form (0, -1, 1, -2, …) in groups of seven bits, the lowest first; 0 without memory. */
static int put(struct bytes *to, int64_t value)
{
    if (to->room - to->used < 10) {
        size_t room = 2 * to->room + 1024;
        unsigned char *data = PyMem_Realloc(to->data, room);
        if (data == NULL)
            return 0;
        to->data = data;
        to->room = room;
    }
    uint64_t left = ((uint64_t)value << 1) ^ (uint64_t)-(value < 0);
    for (; left >= 128; left >>= 7)
        to->data[to->used++] = (unsigned char)(left | 128);
    to->data[to->used++] = (unsigned char)left;
    return 1;
}

/* 1, or 0 where something is neither a whole number of 64 bits nor, once, a tuple of such; or without memory. */
static int put_all(struct bytes *to, PyObject *column, int is_nested)
{
    Py_ssize_t count = PyTuple_GET_SIZE(column);
    if (!put(to, count))
        return 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(column, i);
        int overflow = 0;
        if (PyLong_CheckExact(item)) {
            int64_t value = PyLong_AsLongLongAndOverflow(item, &overflow);
            if (overflow || !put(to, value))
                return 0;
        } else if (is_nested || !PyTuple_CheckExact(item) || !put_all(to, item, 1)) {
            return 0;
        }
    }
    return 1;
}

static PyObject *pack(PyObject *Py_UNUSED(self), PyObject *columns)
{
    struct bytes to = {NULL, 0, 0};
    PyObject *made = NULL;
    int is_packed = PyTuple_CheckExact(columns);
    for (Py_ssize_t i = 0; is_packed && i < PyTuple_GET_SIZE(columns); i++) {
        PyObject *item = PyTuple_GET_ITEM(columns, i);
        is_packed = PyTuple_CheckExact(item) && put_all(&to, item, 0);
    }
    if (is_packed)
        made = PyBytes_FromStringAndSize((const char *)to.data, (Py_ssize_t)to.used);
    PyMem_Free(to.data);
    return is_packed ? made : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"read", read_text, METH_VARARGS, "Read a plain report, or return None."},
    {"pack", pack, METH_O, "Columns of whole numbers, or of tuples of them, as bytes; None if they are not that."},
    {0},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_report", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__report(void)
{
    return PyModule_Create(&module);
}
