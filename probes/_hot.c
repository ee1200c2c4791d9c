/* The inner loops of the sender of probes: `launch` and `take` for probes/sockets/sender.py, `fold` for
 * probes/summary.py. Each has a Python form there that does the same; tests compare them.
 *
 * What is done here is the common case alone: a reply that fits an open probe in time. Everything else (late, twice,
 * forged, relayed, in PTP's format, with a clock that drifts) is handed to Python, one arrival at a time, before
 * anything has been changed for it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>

enum {
    BASE = 44, FOLLOW_UP = 20, SIGNED = 112, SIGNED_TEXT = 96, PTP_FLAG = 0x4000, CLOCK_SLACK_US = 2000,
    MAX_UNFOLDED = 1024, BUCKETS = 2304, /* of either sign; 2^63 lies in bucket 2206 */
};
static const int64_t EPOCH_US = INT64_C(2208988800) * 1000000;
static double log_gamma;
static PyObject *minus_one;

#define NAMES(X) X(row) X(key) X(wrap) X(envelope) X(follow_up) X(ssid) X(raw) X(last_port) X(next_sequence) \
    X(_opened) X(_open) X(_summary) X(_sent) X(_received) X(_t3_us) X(last_rtt_us) X(_unfolded) X(_fold) X(fits) \
    X(timeout_us) X(append) X(hops)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)

static uint64_t big(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0) value = value << 8 | *at++;
    return value;
}

static void put(unsigned char *at, uint64_t value, int bytes)
{
    while (bytes-- > 0) {
        at[bytes] = (unsigned char)value;
        value >>= 8;
    }
}


/* Round to nearest, as probes/stamp/ntp.py; only for stamps of the era that ends in 2036. */
static int64_t micros(uint64_t ntp)
{
    return (int64_t)((((unsigned __int128)ntp * 1000000) + 0x80000000u) >> 32) - EPOCH_US;
}

static int add_to(PyObject *owner, PyObject *name, long more)
{
    PyObject *old = PyObject_GetAttr(owner, name);
    if (old == NULL) return -1;
    long long value = PyLong_AsLongLong(old);
    Py_DECREF(old);
    if (value == -1 && PyErr_Occurred()) return -1;
    PyObject *now = PyLong_FromLongLong(value + more);
    int failed = now == NULL ? -1 : PyObject_SetAttr(owner, name, now);
    Py_XDECREF(now);
    return failed;
}

static int set_to(PyObject *owner, PyObject *name, long long value)
{
    PyObject *now = PyLong_FromLongLong(value);
    int failed = now == NULL ? -1 : PyObject_SetAttr(owner, name, now);
    Py_XDECREF(now);
    return failed;
}

/* --- fold ------------------------------------------------------------------------------------------------------- */

static int bucket_of(int64_t value)
{
    if (value == 0) return 0;
    int magnitude = 1 + (int)(log((double)(value < 0 ? -value : value)) / log_gamma);
    return value > 0 ? magnitude : -magnitude;
}

static int count_into(PyObject *sketch, const int64_t *values, Py_ssize_t count, int64_t base)
{
    static int counts[2 * BUCKETS + 1], touched[MAX_UNFOLDED];
    int kinds = 0, failed = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        int at = bucket_of(values[i] - base) + BUCKETS;
        if (counts[at]++ == 0) touched[kinds++] = at;
    }
    for (int i = 0; i < kinds; i++) {
        PyObject *key = PyLong_FromLong(touched[i] - BUCKETS);
        PyObject *old = key == NULL ? NULL : PyDict_GetItemWithError(sketch, key);
        long long before = old == NULL ? 0 : PyLong_AsLongLong(old);
        PyObject *now = PyErr_Occurred() ? NULL : PyLong_FromLongLong(before + counts[touched[i]]);
        counts[touched[i]] = 0;
        failed |= now == NULL || PyDict_SetItem(sketch, key, now) < 0;
        Py_XDECREF(key);
        Py_XDECREF(now);
    }
    return failed ? -1 : 0;
}

static PyObject *fold(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *values, *sketches[3];
    long long bases[3] = {0}, last, jitter;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!LLLL", &PyList_Type, &values, &PyDict_Type, &sketches[0], &PyDict_Type,
                          &sketches[1], &PyDict_Type, &sketches[2], &bases[1], &bases[2], &last, &jitter)) {
        return NULL;
    }
    static int64_t columns[3][MAX_UNFOLDED];
    int64_t least[3] = {INT64_MAX, INT64_MAX, INT64_MAX};
    Py_ssize_t count = PyList_GET_SIZE(values);
    if (count < 1 || count > MAX_UNFOLDED) return PyErr_Format(PyExc_ValueError, "1 to %d values", MAX_UNFOLDED);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *three = PyList_GET_ITEM(values, i);
        if (!PyTuple_Check(three) || PyTuple_GET_SIZE(three) != 3) {
            return PyErr_Format(PyExc_TypeError, "values come in threes");
        }
        for (int k = 0; k < 3; k++) {
            columns[k][i] = PyLong_AsLongLong(PyTuple_GET_ITEM(three, k));
            if (columns[k][i] < least[k]) least[k] = columns[k][i];
        }
        if (PyErr_Occurred()) return NULL;
        int64_t rtt = columns[0][i];
        if (last >= 0) jitter += (rtt > last ? rtt - last : last - rtt) - ((jitter + 8) >> 4);
        last = rtt;
    }
    for (int k = 0; k < 3; k++) {
        if (count_into(sketches[k], columns[k], count, bases[k]) < 0) return NULL;
    }
    return Py_BuildValue("(LLLLL)", (long long)least[0], (long long)least[1], (long long)least[2], last, jitter);
}

/* --- launch ----------------------------------------------------------------------------------------------------- */

static PyObject *follow_up_request; /* the TLV as it is sent, unsealed */

/* Open a probe of this target; its sequence number, -1 with an exception set. */
static int64_t open_probe(PyObject *row, PyObject *t1, PyObject *now, PyObject **probe)
{
    PyObject *sequence = PyObject_GetAttr(row, n_next_sequence), *open = PyObject_GetAttr(row, n__open);
    PyObject *summary = PyObject_GetAttr(row, n__summary), *sent = NULL, *pair = NULL, *done = NULL;
    int64_t number = sequence == NULL ? -1 : PyLong_AsLongLong(sequence);
    *probe = NULL;
    if (number < 0 || open == NULL || !PyDict_Check(open) || summary == NULL) goto failed;
    if ((*probe = PyList_New(4)) == NULL) goto failed;
    PyList_SET_ITEM(*probe, 0, Py_NewRef(t1));
    PyList_SET_ITEM(*probe, 1, Py_NewRef(now));
    PyList_SET_ITEM(*probe, 2, Py_NewRef(t1));
    PyList_SET_ITEM(*probe, 3, Py_NewRef(sequence));
    if (set_to(row, n_next_sequence, (number + 1) & 0xFFFFFFFF) < 0 || add_to(row, n__opened, 1) < 0) goto failed;
    if (PyDict_SetItem(open, sequence, *probe) < 0) goto failed;
    if ((sent = PyObject_GetAttr(summary, n__sent)) == NULL || (pair = PyTuple_Pack(2, *probe, row)) == NULL) goto failed;
    if ((done = PyObject_CallMethodOneArg(sent, n_append, pair)) == NULL) goto failed;
    goto out;
failed:
    Py_CLEAR(*probe);
    number = -1;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "not a row");
out:
    Py_XDECREF(sequence);
    Py_XDECREF(open);
    Py_XDECREF(summary);
    Py_XDECREF(sent);
    Py_XDECREF(pair);
    Py_XDECREF(done);
    return number;
}

/* Whether a request of this target is the plain 44 bytes, perhaps with the TLV behind them. */
static int is_plain(PyObject *target)
{
    PyObject *key = PyObject_GetAttr(target, n_key), *wrap = PyObject_GetAttr(target, n_wrap);
    PyObject *envelope = PyObject_GetAttr(target, n_envelope);
    int plain = key == Py_None && wrap == Py_None && envelope != NULL && PyBytes_Check(envelope)
                && PyBytes_GET_SIZE(envelope) == 0;
    Py_XDECREF(key);
    Py_XDECREF(wrap);
    Py_XDECREF(envelope);
    return plain;
}

static PyObject *plain_request(PyObject *target, int64_t sequence, uint64_t timestamp, unsigned estimate)
{
    PyObject *ssid = PyObject_GetAttr(target, n_ssid), *follow = PyObject_GetAttr(target, n_follow_up);
    int follows = follow == Py_True;
    long number = ssid == NULL ? -1 : PyLong_AsLong(ssid);
    Py_XDECREF(ssid);
    Py_XDECREF(follow);
    if (PyErr_Occurred()) return NULL;
    PyObject *packet = PyBytes_FromStringAndSize(NULL, BASE + (follows ? FOLLOW_UP : 0));
    if (packet == NULL) return NULL;
    unsigned char *at = (unsigned char *)PyBytes_AS_STRING(packet);
    memset(at, 0, BASE);
    put(at, (uint64_t)sequence, 4);
    put(at + 4, timestamp, 8);
    put(at + 12, estimate, 2);
    put(at + 14, (uint64_t)number, 2);
    if (follows) memcpy(at + BASE, PyBytes_AS_STRING(follow_up_request), FOLLOW_UP);
    return packet;
}

/* launch(targets, port_index, t1_us, now_us, timestamp, estimate, request) -> (datagrams, probes) */
static PyObject *launch(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    PyObject *targets, *port, *t1, *now, *stamp, *make;
    unsigned int estimate;
    if (!PyArg_ParseTuple(arguments, "OOO!O!O!IO", &targets, &port, &PyLong_Type, &t1, &PyLong_Type, &now,
                          &PyLong_Type, &stamp, &estimate, &make)) {
        return NULL;
    }
    uint64_t timestamp = PyLong_AsUnsignedLongLong(stamp);
    if (PyErr_Occurred()) return NULL;
    if ((targets = PySequence_Fast(targets, "targets are a sequence")) == NULL) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(targets);
    PyObject *datagrams = PyList_New(count), *probes = PyList_New(count);
    for (Py_ssize_t i = 0; datagrams != NULL && probes != NULL && i < count; i++) {
        PyObject *target = PySequence_Fast_GET_ITEM(targets, i), *row = PyObject_GetAttr(target, n_row);
        PyObject *probe = NULL, *packet = NULL, *raw = NULL, *datagram = NULL;
        int64_t sequence = row == NULL ? -1 : open_probe(row, t1, now, &probe);
        if (sequence >= 0 && PyObject_SetAttr(target, n_last_port, port) == 0) {
            packet = is_plain(target)
                         ? plain_request(target, sequence, timestamp, estimate)
                         : PyObject_CallFunctionObjArgs(make, target, PyList_GET_ITEM(probe, 3), stamp, NULL);
        }
        if (packet != NULL && (raw = PyObject_GetAttr(target, n_raw)) != NULL) datagram = PyTuple_Pack(2, packet, raw);
        Py_XDECREF(row);
        Py_XDECREF(packet);
        Py_XDECREF(raw);
        if (datagram == NULL) {
            Py_XDECREF(probe);
            Py_CLEAR(datagrams);
            break;
        }
        PyList_SET_ITEM(datagrams, i, datagram);
        PyList_SET_ITEM(probes, i, probe);
    }
    Py_DECREF(targets);
    if (datagrams == NULL || probes == NULL) {
        Py_XDECREF(datagrams);
        Py_XDECREF(probes);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "not a target");
        return NULL;
    }
    PyObject *both = PyTuple_Pack(2, datagrams, probes);
    Py_DECREF(datagrams);
    Py_DECREF(probes);
    return both;
}

/* --- take ------------------------------------------------------------------------------------------------------- */

struct reply { /* what a reply says, its T4, and its numbers as Python has them */
    uint32_t number, sequence;
    long hops;
    unsigned estimate, ssid;
    int64_t t1_us, t2_us, t3_us, t4_us;
    int is_signed;
};

/* Whether this may be the reply that most are; nothing is believed yet. */
static int read_reply(PyObject *arrival, int64_t offset_us, struct reply *to)
{
    if (!PyTuple_Check(arrival) || PyTuple_GET_SIZE(arrival) != 4) return 0;
    PyObject *packet = PyTuple_GET_ITEM(arrival, 0);
    if (!PyBytes_Check(packet)) return 0;
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(packet);
    Py_ssize_t size = PyBytes_GET_SIZE(packet);
    if (size < BASE) return 0;
    to->is_signed = at[13] == 0;
    if (to->is_signed ? size < SIGNED : size != BASE && size != BASE + FOLLOW_UP) return 0;
    const unsigned char *times = to->is_signed ? at + 16 : at + 4;
    const unsigned char *received = at + (to->is_signed ? 32 : 16), *echo = at + (to->is_signed ? 48 : 24);
    const unsigned char *sent = at + (to->is_signed ? 64 : 28);
    uint64_t t3 = big(times, 8), t2 = big(received, 8), t1 = big(sent, 8);
    to->estimate = (unsigned)big(times + 8, 2);
    to->ssid = (unsigned)big(times + 10, 2);
    if (!(to->estimate & 0xFF) || !sent[9] || to->estimate & PTP_FLAG) return 0;
    if (!((t1 & t2 & t3) >> 63)) return 0; /* before 1968, or after 2036 */
    long ttl = PyLong_AsLong(PyTuple_GET_ITEM(arrival, 2));
    if (ttl == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    to->hops = (long)at[to->is_signed ? 80 : 40] << 8 | (ttl & 0xFF);
    to->number = (uint32_t)big(at, 4);
    to->sequence = (uint32_t)big(echo, 4);
    to->t1_us = micros(t1);
    to->t2_us = micros(t2);
    to->t3_us = micros(t3);
    int64_t stamp_ns = PyLong_AsLongLong(PyTuple_GET_ITEM(arrival, 1));
    if (stamp_ns <= 0) { /* no kernel stamp */
        PyErr_Clear();
        return 0;
    }
    to->t4_us = stamp_ns / 1000 + offset_us;
    return 1;
}

/* Whether target and packet agree on whether there is a key, and the packet was made with it; -1: an exception. */
static int is_proved(PyObject *target, PyObject *packet, const struct reply *reply)
{
    PyObject *key = PyObject_GetAttr(target, n_key);
    if (key == NULL) return -1;
    if (key == Py_None || !reply->is_signed) {
        int agree = key == Py_None && !reply->is_signed;
        Py_DECREF(key);
        return agree;
    }
    PyObject *text = PyBytes_FromStringAndSize(PyBytes_AS_STRING(packet), SIGNED_TEXT);
    PyObject *mac = PyBytes_FromStringAndSize(PyBytes_AS_STRING(packet) + SIGNED_TEXT, SIGNED - SIGNED_TEXT);
    PyObject *told = text == NULL || mac == NULL ? NULL : PyObject_CallMethodObjArgs(key, n_fits, text, mac, NULL);
    Py_XDECREF(text);
    Py_XDECREF(mac);
    Py_DECREF(key);
    int proved = told == NULL ? -1 : told == Py_True;
    Py_XDECREF(told);
    return proved;
}

/* Row.answer for a probe that is open, in time, and of believable stamps: 1; 0: not such a one; -1: an exception. */
static int close_probe(PyObject *row, const struct reply *reply, int64_t now_us, int64_t timeout_us, int64_t *rtt_us)
{
    PyObject *open = PyObject_GetAttr(row, n__open), *unfolded = NULL, *sequence = NULL, *values = NULL;
    int found = -1;
    if (open == NULL || !PyDict_Check(open) || (sequence = PyLong_FromUnsignedLong(reply->sequence)) == NULL) goto out;
    PyObject *probe = PyDict_GetItemWithError(open, sequence);
    if (probe == NULL || !PyList_Check(probe) || PyList_GET_SIZE(probe) != 4) {
        found = PyErr_Occurred() ? -1 : 0;
        goto out;
    }
    int64_t t1_us = PyLong_AsLongLong(PyList_GET_ITEM(probe, 0)), at_us = PyLong_AsLongLong(PyList_GET_ITEM(probe, 1));
    int64_t departed_us = PyLong_AsLongLong(PyList_GET_ITEM(probe, 2));
    if (PyErr_Occurred()) goto out;
    int64_t away_us = now_us - at_us, elapsed_us = reply->t4_us - departed_us;
    int64_t residence_us = reply->t3_us - reply->t2_us;
    found = 0;
    if (t1_us != reply->t1_us || away_us > timeout_us || elapsed_us < 0 || elapsed_us > away_us + CLOCK_SLACK_US
        || residence_us < 0 || residence_us > elapsed_us) {
        goto out;
    }
    found = -1;
    *rtt_us = elapsed_us - residence_us;
    PyList_SetItem(probe, 3, Py_NewRef(minus_one));
    if (PyDict_DelItem(open, sequence) < 0) goto out;
    if (add_to(row, n__sent, 1) < 0 || add_to(row, n__received, 1) < 0) goto out;
    if (set_to(row, n__t3_us, reply->t3_us) < 0 || set_to(row, n_last_rtt_us, *rtt_us) < 0) goto out;
    values = Py_BuildValue("(LLL)", (long long)*rtt_us, (long long)(reply->t2_us - departed_us),
                           (long long)(reply->t4_us - reply->t3_us));
    if (values == NULL || (unfolded = PyObject_GetAttr(row, n__unfolded)) == NULL || !PyList_Check(unfolded)) goto out;
    if (PyList_Append(unfolded, values) < 0) goto out;
    if (PyList_GET_SIZE(unfolded) >= MAX_UNFOLDED) {
        PyObject *done = PyObject_CallMethodNoArgs(row, n__fold);
        if (done == NULL) goto out;
        Py_DECREF(done);
    }
    found = 1;
out:
    if (found < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "not a row");
    Py_XDECREF(open);
    Py_XDECREF(unfolded);
    Py_XDECREF(sequence);
    Py_XDECREF(values);
    return found;
}

/* Whether the hops there and back are as many as last time; -1: an exception. */
static int same_hops(PyObject *target, const struct reply *reply)
{
    PyObject *hops = PyObject_GetAttr(target, n_hops);
    long known = hops == NULL ? -1 : PyLong_AsLong(hops);
    Py_XDECREF(hops);
    return PyErr_Occurred() ? -1 : known == reply->hops;
}

struct hearing { /* the arguments of take */
    PyObject *targets, *relays, *followed, *heard, *now;
    long long offset_us, now_us;
};

/* One arrival: 1 taken, 0 somebody else has to look at it, -1 an exception. */
static int take_one(const struct hearing *to, PyObject *arrival)
{
    struct reply reply;
    if (!read_reply(arrival, to->offset_us, &reply)) return 0;
    PyObject *source = PyTuple_GET_ITEM(arrival, 3), *ssid = PyLong_FromLong((long)reply.ssid);
    PyObject *name = ssid == NULL ? NULL : PyTuple_Pack(2, source, ssid);
    Py_XDECREF(ssid);
    if (name == NULL) return -1;
    PyObject *target = Py_XNewRef(PyDict_GetItemWithError(to->targets, name));
    Py_DECREF(name);
    if (target == NULL) return PyErr_Occurred() ? -1 : 0;
    PyObject *row = NULL, *summary = NULL, *timeout = NULL, *follow = NULL, *done = NULL;
    int64_t rtt_us = 0;
    int relayed = PySet_Contains(to->relays, source);
    int result = relayed ? (relayed < 0 ? -1 : 0) : is_proved(target, PyTuple_GET_ITEM(arrival, 0), &reply);
    if (result > 0) result = same_hops(target, &reply);
    if (result <= 0) goto out;
    result = -1;
    if ((row = PyObject_GetAttr(target, n_row)) == NULL || (summary = PyObject_GetAttr(row, n__summary)) == NULL) goto out;
    if ((timeout = PyObject_GetAttr(summary, n_timeout_us)) == NULL) goto out;
    if ((follow = PyObject_GetAttr(target, n_follow_up)) == NULL) goto out;
    int64_t timeout_us = PyLong_AsLongLong(timeout);
    if (PyErr_Occurred()) goto out;
    if ((result = close_probe(row, &reply, to->now_us, timeout_us, &rtt_us)) <= 0) goto out;
    if (follow == Py_True) {
        done = PyObject_CallFunction(to->followed, "OOII", target, PyTuple_GET_ITEM(arrival, 0), reply.number,
                                     reply.estimate);
        if (done == NULL) result = -1;
        Py_CLEAR(done);
    }
    if (result > 0 && to->heard != Py_None) {
        done = PyObject_CallFunction(to->heard, "OILO", target, reply.sequence, (long long)rtt_us, to->now);
        if (done == NULL) result = -1;
        Py_XDECREF(done);
    }
out:
    Py_DECREF(target);
    Py_XDECREF(row);
    Py_XDECREF(summary);
    Py_XDECREF(timeout);
    Py_XDECREF(follow);
    return result;
}

/* take(arrivals, targets, relays, offset_us, now_us, followed, heard, other) */
static PyObject *take(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    struct hearing to;
    PyObject *arrivals, *other;
    if (!PyArg_ParseTuple(arguments, "O!O!O!LO!OOO", &PyList_Type, &arrivals, &PyDict_Type, &to.targets,
                          &PyFrozenSet_Type, &to.relays, &to.offset_us, &PyLong_Type, &to.now, &to.followed, &to.heard,
                          &other)) {
        return NULL;
    }
    to.now_us = PyLong_AsLongLong(to.now);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(arrivals); i++) {
        PyObject *arrival = Py_NewRef(PyList_GET_ITEM(arrivals, i));
        int taken = take_one(&to, arrival);
        if (taken == 0) {
            PyObject *done = PyObject_CallFunctionObjArgs(other, arrival, to.now, NULL);
            taken = done == NULL ? -1 : 1;
            Py_XDECREF(done);
        }
        Py_DECREF(arrival);
        if (taken < 0) return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fold", fold, METH_VARARGS, "Count measured values into sketches."},
    {"launch", launch, METH_VARARGS, "Open probes and make their datagrams."},
    {"take", take, METH_VARARGS, "File replies under their rows."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_hot", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__hot(void)
{
    volatile double gamma = 1.02; /* so that it is this machine's logarithm, as Python's is */
    log_gamma = log(gamma);
    static const unsigned char request[FOLLOW_UP] = {0x80, 7, 0, 16};
    follow_up_request = PyBytes_FromStringAndSize((const char *)request, FOLLOW_UP);
    minus_one = PyLong_FromLong(-1);
#define INTERN(name) if ((n_##name = PyUnicode_InternFromString(#name)) == NULL) return NULL;
    NAMES(INTERN)
    if (follow_up_request == NULL || minus_one == NULL) return NULL;
    return PyModule_Create(&module);
}
