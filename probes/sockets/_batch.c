/* recvmmsg and sendmmsg for probes/sockets/batch.py, which says what the functions mean and has their Python form; `wait`
 * for probes/sockets/loop.py, `set_timer` for probes/sockets/timer.py and `mirror` for probes/sockets/reflector.py likewise.
 *
 * The interpreter lock is held while the buffers are in use: only `wait` waits, and it has buffers of its own.
 * Whatever arrives is only copied; lengths are the kernel's, and ancillary data is read with its bounds. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>

#include <linux/errqueue.h>

enum { BATCH = 64, ADDRESS = 32, ANCILLARY = 256, PACKET = 2048, UNREADABLE_TTL = 255 };

static struct slot {
    _Alignas(8) char address[ADDRESS], ancillary[ANCILLARY], packet[PACKET];
} slots[BATCH];
static struct mmsghdr arriving[BATCH], leaving[BATCH];
static struct iovec arriving_vectors[BATCH], leaving_vectors[BATCH];

static void make_ready(int count)
{
    for (int i = 0; i < count; i++) {
        arriving_vectors[i] = (struct iovec){slots[i].packet, PACKET};
        arriving[i].msg_hdr = (struct msghdr){
            .msg_name = slots[i].address, .msg_namelen = ADDRESS, .msg_iov = &arriving_vectors[i], .msg_iovlen = 1,
            .msg_control = slots[i].ancillary, .msg_controllen = ANCILLARY,
        };
    }
}

/* What came: a count, 0 if nothing, -1 with an exception set. The headers are made ready again by who reads them. */
static int receive(PyObject *socket, int flags)
{
    int fd = PyObject_AsFileDescriptor(socket);
    if (fd < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) return -1;
        PyErr_Clear(); /* a closed socket, as the system call says it */
    }
    int count = recvmmsg(fd, arriving, BATCH, MSG_DONTWAIT | flags, NULL);
    if (count >= 0) return count;
    if (errno == EAGAIN || errno == EINTR) return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static int64_t nanoseconds(const struct cmsghdr *control)
{
    struct timespec stamp;
    memcpy(&stamp, CMSG_DATA(control), sizeof stamp);
    return (int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec;
}

/* A tuple that takes over the references to its parts; NULL if one of them is. */
static PyObject *tuple_of(int count, PyObject **parts)
{
    PyObject *found = PyTuple_New(count);
    for (int i = 0; i < count; i++) {
        if (parts[i] == NULL) Py_CLEAR(found);
    }
    for (int i = 0; i < count; i++) {
        if (found == NULL) Py_XDECREF(parts[i]);
        else PyTuple_SET_ITEM(found, i, parts[i]);
    }
    return found;
}

static PyObject *arrival(const struct mmsghdr *from)
{
    struct msghdr header = from->msg_hdr;
    int64_t stamp_ns = 0;
    int ttl = UNREADABLE_TTL;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c)) {
        size_t size = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level == SOL_SOCKET && (c->cmsg_type == SO_TIMESTAMPNS || c->cmsg_type == SO_TIMESTAMPING)
            && (size == 16 || size == 48)) {
            stamp_ns = nanoseconds(c);
        } else if (size == sizeof(int) && ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL)
                                           || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))) {
            int told;
            memcpy(&told, CMSG_DATA(c), sizeof told);
            ttl = (ttl & ~0xFF) | (told & 0xFF);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && size == 1) {
            ttl = (ttl & 0xFF) | (*CMSG_DATA(c) + 1) << 8;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS && size == sizeof(int)) {
            int told;
            memcpy(&told, CMSG_DATA(c), sizeof told);
            ttl = (ttl & 0xFF) | ((told & 0xFF) + 1) << 8;
        }
    }
    Py_ssize_t address = header.msg_namelen < ADDRESS ? header.msg_namelen : ADDRESS;
    PyObject *packet = header.msg_flags & MSG_TRUNC
                           ? Py_NewRef(Py_None)
                           : PyBytes_FromStringAndSize(header.msg_iov->iov_base, from->msg_len);
    PyObject *parts[] = {packet, PyLong_FromLongLong(stamp_ns), PyLong_FromLong(ttl),
                         PyBytes_FromStringAndSize(header.msg_name, address)};
    return tuple_of(4, parts);
}

static PyObject *departure(const struct mmsghdr *from)
{
    struct msghdr header = from->msg_hdr;
    int64_t stamp_ns = 0, number = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c)) {
        size_t size = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING && size == 48) {
            stamp_ns = nanoseconds(c);
        } else if (((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR)
                    || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
                   && size >= sizeof(struct sock_extended_err)) {
            struct sock_extended_err told;
            memcpy(&told, CMSG_DATA(c), sizeof told);
            if (told.ee_origin == SO_EE_ORIGIN_TIMESTAMPING) number = told.ee_data;
        }
    }
    PyObject *parts[] = {PyLong_FromLongLong(stamp_ns ? number : -1), PyLong_FromLongLong(stamp_ns)};
    return tuple_of(2, parts);
}

static PyObject *all(PyObject *socket, int flags, PyObject *(*read)(const struct mmsghdr *))
{
    int count = receive(socket, flags);
    if (count < 0) return NULL;
    PyObject *found = PyList_New(count);
    for (int i = 0; found != NULL && i < count; i++) {
        PyObject *one = read(&arriving[i]);
        if (one == NULL) Py_CLEAR(found);
        else PyList_SET_ITEM(found, i, one);
    }
    make_ready(count);
    return found;
}

static PyObject *receive_batch(PyObject *Py_UNUSED(self), PyObject *socket)
{
    return all(socket, 0, arrival);
}

static PyObject *departures(PyObject *Py_UNUSED(self), PyObject *socket)
{
    return all(socket, MSG_ERRQUEUE, departure);
}

static int put(int index, PyObject *datagram)
{
    if (!PyTuple_Check(datagram) || PyTuple_GET_SIZE(datagram) != 2
        || !PyBytes_Check(PyTuple_GET_ITEM(datagram, 0)) || !PyBytes_Check(PyTuple_GET_ITEM(datagram, 1))) {
        PyErr_SetString(PyExc_TypeError, "a datagram is a pair of bytes: packet and address");
        return -1;
    }
    PyObject *packet = PyTuple_GET_ITEM(datagram, 0), *address = PyTuple_GET_ITEM(datagram, 1);
    leaving_vectors[index] = (struct iovec){PyBytes_AS_STRING(packet), (size_t)PyBytes_GET_SIZE(packet)};
    leaving[index].msg_hdr = (struct msghdr){
        .msg_name = PyBytes_AS_STRING(address), .msg_namelen = (socklen_t)PyBytes_GET_SIZE(address),
        .msg_iov = &leaving_vectors[index], .msg_iovlen = 1,
    };
    return 0;
}

static PyObject *send_batch(PyObject *Py_UNUSED(self), PyObject *const *given, Py_ssize_t arguments)
{
    if (arguments != 2) return PyErr_Format(PyExc_TypeError, "send_batch takes a socket and its datagrams");
    int fd = PyObject_AsFileDescriptor(given[0]);
    if (fd < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) return NULL;
        PyErr_Clear();
    }
    PyObject *datagrams = PySequence_Fast(given[1], "datagrams are a sequence"); /* keeps what is pointed at alive */
    if (datagrams == NULL) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(datagrams);
    if (count > BATCH) {
        Py_DECREF(datagrams);
        return PyErr_Format(PyExc_ValueError, "at most %d datagrams at once, not %zd", BATCH, count);
    }
    for (int i = 0; i < count; i++) {
        if (put(i, PySequence_Fast_GET_ITEM(datagrams, i)) < 0) {
            Py_DECREF(datagrams);
            return NULL;
        }
    }
    int sent = sendmmsg(fd, leaving, (unsigned)count, MSG_DONTWAIT), number = sent < 0 ? errno : 0;
    Py_DECREF(datagrams);
    return Py_BuildValue("(ii)", sent < 0 ? 0 : sent, number);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Serve one readable descriptor: 1 and the loop need not hear of it, 0 and it has to, -1 with an exception set. */
static int serve(PyObject *quick, const struct epoll_event *event, PyObject *others)
{
    PyObject *fd = PyLong_FromLong(event->data.fd), *ready = NULL;
    if (fd == NULL) return -1;
    ready = Py_XNewRef(PyDict_GetItemWithError(quick, fd));
    Py_DECREF(fd);
    if (ready == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *other = Py_BuildValue("(iI)", event->data.fd, (unsigned)event->events);
        int failed = other == NULL ? -1 : PyList_Append(others, other);
        Py_XDECREF(other);
        return failed;
    }
    PyObject *done = PyObject_CallNoArgs(ready);
    Py_DECREF(ready);
    int quiet = done == NULL ? -1 : done == Py_True;
    Py_XDECREF(done);
    return quiet;
}

/* wait(epoll, timeout_ms, quick) -> [(descriptor, events)] of those that are not quick */
static PyObject *wait_quick(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    int epoll, timeout_ms;
    PyObject *quick;
    if (!PyArg_ParseTuple(arguments, "iiO!", &epoll, &timeout_ms, &PyDict_Type, &quick)) return NULL;
    int64_t until_ms = timeout_ms > 0 ? now_ms() + timeout_ms : 0;
    PyObject *others = PyList_New(0);
    while (others != NULL) {
        struct epoll_event events[BATCH];
        int count, quiet;
        Py_BEGIN_ALLOW_THREADS;
        count = epoll_wait(epoll, events, BATCH, timeout_ms);
        Py_END_ALLOW_THREADS;
        if (count < 0 && errno != EINTR) PyErr_SetFromErrno(PyExc_OSError);
        quiet = count > 0 ? 1 : count < 0 && (errno != EINTR || PyErr_CheckSignals() < 0) ? -1 : 0;
        for (int i = 0; quiet >= 0 && i < count; i++) {
            int one = serve(quick, &events[i], others);
            quiet = one < quiet ? one : quiet;
        }
        if (quiet < 0) Py_CLEAR(others);
        if (quiet <= 0 || timeout_ms == 0) break;
        if (timeout_ms > 0) {
            int64_t left_ms = until_ms - now_ms();
            if (left_ms <= 0) break;
            timeout_ms = (int)left_ms;
        }
    }
    return others;
}

/* set_timer(descriptor, at_us): a timerfd of the monotonic clock rings then; 0: not at all */
static PyObject *set_timer(PyObject *Py_UNUSED(self), PyObject *const *given, Py_ssize_t arguments)
{
    if (arguments != 2) return PyErr_Format(PyExc_TypeError, "set_timer takes a descriptor and a time");
    long fd = PyLong_AsLong(given[0]);
    long long at_us = PyLong_AsLongLong(given[1]);
    if (PyErr_Occurred()) return NULL;
    struct itimerspec setting = {.it_value = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000}};
    if (timerfd_settime((int)fd, TFD_TIMER_ABSTIME, &setting, NULL) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

/* --- mirror: the usual request, 44 bytes in a session that is known, is answered here ----------------------------- */

enum { PLAIN = 44, REPLAY_WINDOW = 1024, TOKEN = 1000000 };

#define NAMES(X) X(_sessions) X(_reflectors) X(error_estimate) X(closed) X(newest) X(sequence) X(stamp) \
    X(stamp_sequence) X(move_to_end) X(_buckets) X(_at_us) X(_level_us) X(_capacity_us) X(_per_s)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)

struct mirror { /* the arguments */
    int fd, estimate;
    PyObject *sessions, *reflectors, *addresses, *bucket, *buckets, *hear;
    long long offset_us, now_us;
};

static void put_big(unsigned char *at, uint64_t value, int bytes)
{
    while (bytes-- > 0) {
        at[bytes] = (unsigned char)value;
        value >>= 8;
    }
}

static uint32_t big32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t number_of(PyObject *owner, PyObject *name)
{
    PyObject *found = PyObject_GetAttr(owner, name);
    int64_t value = found == NULL ? -1 : PyLong_AsLongLong(found);
    Py_XDECREF(found);
    return value;
}

static int set_number(PyObject *owner, PyObject *name, uint64_t value)
{
    PyObject *made = PyLong_FromUnsignedLongLong(value);
    int failed = made == NULL ? -1 : PyObject_SetAttr(owner, name, made);
    Py_XDECREF(made);
    return failed;
}

/* As probes/stamp/ntp.py rounds. */
static uint64_t ntp_of(int64_t micros)
{
    int64_t seconds = micros / 1000000, rest = micros % 1000000;
    if (rest < 0) {
        rest += 1000000;
        seconds--;
    }
    return ((uint64_t)(seconds + INT64_C(2208988800)) & 0xFFFFFFFF) << 32
           | (((uint64_t)rest << 32) + 500000) / 1000000;
}

struct taken { /* a bucket once a token is taken out of it */
    int64_t at_us, level_us;
};

/* As TokenBucket.take, but nothing is written: 1 there is one, 0 there is none, -1 an exception. */
static int would_take(PyObject *bucket, int64_t now_us, struct taken *to)
{
    int64_t at_us = number_of(bucket, n__at_us), level_us = number_of(bucket, n__level_us);
    int64_t capacity_us = number_of(bucket, n__capacity_us), per_s = number_of(bucket, n__per_s);
    if (PyErr_Occurred()) return -1;
    __int128 level = level_us;
    if (now_us > at_us) {
        level += (__int128)(now_us - at_us) * per_s;
        at_us = now_us;
    }
    if (level > capacity_us) level = capacity_us;
    *to = (struct taken){at_us, (int64_t)level - TOKEN};
    return level >= TOKEN;
}

static int write_taken(PyObject *bucket, const struct taken *from)
{
    if (set_number(bucket, n__at_us, (uint64_t)from->at_us) < 0) return -1;
    return set_number(bucket, n__level_us, (uint64_t)from->level_us);
}

/* Whether a token of all and one of this source are there; then they are used up. */
static int admit(const struct mirror *to, PyObject *source)
{
    PyObject *host = PyBytes_FromStringAndSize(PyBytes_AS_STRING(source) + 4, PyBytes_GET_SIZE(source) - 12);
    PyObject *own = host == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(to->buckets, host));
    Py_XDECREF(host);
    if (own == NULL) return PyErr_Occurred() ? -1 : 0;
    struct taken all, its;
    int found = would_take(to->bucket, to->now_us, &all);
    if (found > 0) found = would_take(own, to->now_us, &its);
    if (found > 0 && (write_taken(to->bucket, &all) < 0 || write_taken(own, &its) < 0)) found = -1;
    Py_DECREF(own);
    return found;
}

/* Enter a request that lies so far ahead in its session; the reply's number, -1: an exception. */
static int64_t enter(PyObject *session, uint32_t asked, uint32_t ahead)
{
    int64_t next = number_of(session, n_sequence);
    if (next < 0 || (ahead < UINT32_C(1) << 31 && set_number(session, n_newest, asked) < 0)) return -1;
    return set_number(session, n_sequence, (uint32_t)next + UINT32_C(1)) < 0 ? -1 : next;
}

/* The session of a request that may be answered here, borrowed, and its name, which is new; NULL: not one. */
static PyObject *session_of(const struct mirror *to, PyObject *arrival, PyObject **name, PyObject **address)
{
    *name = NULL;
    if (!PyTuple_Check(arrival) || PyTuple_GET_SIZE(arrival) != 4) return NULL;
    PyObject *packet = PyTuple_GET_ITEM(arrival, 0), *source = PyTuple_GET_ITEM(arrival, 3);
    if (!PyBytes_Check(packet) || PyBytes_GET_SIZE(packet) != PLAIN || !PyBytes_Check(source)) return NULL;
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(packet);
    if (at[13] == 0 || PyBytes_GET_SIZE(source) < 16 || PyBytes_GET_SIZE(source) > ADDRESS) return NULL;
    *address = PyDict_GetItemWithError(to->addresses, source);
    if (*address == NULL || PySet_Contains(to->reflectors, *address) != 0) return NULL;
    *name = Py_BuildValue("(Oi)", *address, at[14] << 8 | at[15]);
    return *name == NULL ? NULL : PyDict_GetItemWithError(to->sessions, *name);
}

static int reply_to(const struct mirror *to, PyObject *arrival, PyObject *session, int64_t t2_us, uint32_t sequence)
{
    PyObject *source = PyTuple_GET_ITEM(arrival, 3);
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(PyTuple_GET_ITEM(arrival, 0));
    unsigned char reply[PLAIN] = {0};
    put_big(reply, sequence, 4);
    put_big(reply + 12, (uint64_t)to->estimate, 2);
    memcpy(reply + 14, at + 14, 2);
    put_big(reply + 16, ntp_of(t2_us), 8);
    memcpy(reply + 24, at, 4);
    memcpy(reply + 28, at + 4, 8);
    memcpy(reply + 36, at + 12, 2);
    reply[40] = (unsigned char)(PyLong_AsLong(PyTuple_GET_ITEM(arrival, 2)) & 0xFF);
    if (PyErr_Occurred()) return -1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t t3 = ntp_of((int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + to->offset_us);
    put_big(reply + 4, t3, 8);
    struct sockaddr_storage where = {0};
    socklen_t size = (socklen_t)PyBytes_GET_SIZE(source);
    memcpy(&where, PyBytes_AS_STRING(source), size);
    int gone = sendto(to->fd, reply, PLAIN, MSG_DONTWAIT, (struct sockaddr *)&where, size) == PLAIN;
    if (set_number(session, n_stamp_sequence, sequence) < 0 || set_number(session, n_stamp, t3) < 0) return -1;
    return gone;
}

/* One arrival: 1 answered, 2 the kernel would not send, 0 somebody else has to look at it, -1 an exception. */
static int mirror_one(const struct mirror *to, PyObject *arrival)
{
    PyObject *name, *address;
    PyObject *session = Py_XNewRef(session_of(to, arrival, &name, &address)), *done = NULL;
    int result = PyErr_Occurred() ? -1 : 0;
    if (session == NULL) goto out;
    int64_t stamp_ns = PyLong_AsLongLong(PyTuple_GET_ITEM(arrival, 1));
    if (stamp_ns <= 0) { /* no kernel stamp */
        PyErr_Clear();
        goto out;
    }
    uint32_t asked = big32((const unsigned char *)PyBytes_AS_STRING(PyTuple_GET_ITEM(arrival, 0)));
    int64_t newest = number_of(session, n_newest);
    if (newest < 0) {
        result = -1;
        goto out;
    }
    uint32_t ahead = asked - (uint32_t)newest;
    if (ahead >= UINT32_C(1) << 31 && ahead <= UINT32_MAX - REPLAY_WINDOW + 1) goto out; /* it begins anew */
    if ((result = admit(to, PyTuple_GET_ITEM(arrival, 3))) <= 0) goto out;
    result = -1;
    int64_t sequence = enter(session, asked, ahead);
    if (sequence < 0) goto out;
    if ((done = PyObject_CallMethodOneArg(to->sessions, n_move_to_end, name)) == NULL) goto out;
    Py_CLEAR(done);
    int gone = reply_to(to, arrival, session, stamp_ns / 1000 + to->offset_us, (uint32_t)sequence);
    if (gone < 0) goto out;
    if (gone && (done = PyObject_CallOneArg(to->hear, PyTuple_GET_ITEM(address, 0))) == NULL) goto out;
    result = gone ? 1 : 2;
out:
    Py_XDECREF(done);
    Py_XDECREF(name);
    Py_XDECREF(session);
    return result;
}

static int fetch(struct mirror *to, PyObject *reflection, PyObject *sources)
{
    PyObject *closed = PyObject_GetAttr(reflection, n_closed);
    int is_closed = closed == NULL ? -1 : PyObject_IsTrue(closed);
    Py_XDECREF(closed);
    if (is_closed < 0) return -1;
    to->estimate = (int)number_of(reflection, n_error_estimate);
    to->sessions = PyObject_GetAttr(reflection, n__sessions);
    to->reflectors = PyObject_GetAttr(reflection, n__reflectors);
    to->buckets = PyObject_GetAttr(sources, n__buckets);
    if (PyErr_Occurred()) return -1;
    return !is_closed && PyDict_Check(to->sessions) && PyFrozenSet_Check(to->reflectors) && PyDict_Check(to->buckets);
}

/* mirror(socket, arrivals, reflection, addresses, bucket, sources, offset_us, now_us, hear, other) -> (sent, refused) */
static PyObject *mirror(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    struct mirror to = {0};
    PyObject *arrivals, *reflection, *sources, *other, *now, *told = NULL;
    int counts[3] = {0};
    if (!PyArg_ParseTuple(arguments, "iO!OO!OOLO!OO", &to.fd, &PyList_Type, &arrivals, &reflection, &PyDict_Type,
                          &to.addresses, &to.bucket, &sources, &to.offset_us, &PyLong_Type, &now, &to.hear, &other)) {
        return NULL;
    }
    to.now_us = PyLong_AsLongLong(now);
    int usual = PyErr_Occurred() ? -1 : fetch(&to, reflection, sources);
    for (Py_ssize_t i = 0; usual >= 0 && i < PyList_GET_SIZE(arrivals); i++) {
        PyObject *arrival = Py_NewRef(PyList_GET_ITEM(arrivals, i));
        int done = usual ? mirror_one(&to, arrival) : 0;
        if (done == 0) {
            PyObject *heard = PyObject_CallFunctionObjArgs(other, arrival, now, NULL);
            if (heard == NULL) done = -1;
            Py_XDECREF(heard);
        }
        Py_DECREF(arrival);
        if (done < 0) usual = -1;
        else counts[done]++;
    }
    if (usual >= 0) told = Py_BuildValue("(ii)", counts[1], counts[2]);
    Py_XDECREF(to.sessions);
    Py_XDECREF(to.reflectors);
    Py_XDECREF(to.buckets);
    return told;
}

static PyMethodDef methods[] = {
    {"mirror", mirror, METH_VARARGS, "Answer probes."},
    {"wait", wait_quick, METH_VARARGS, "Wait for descriptors and serve the quick ones."},
    {"set_timer", (PyCFunction)(void (*)(void))set_timer, METH_FASTCALL, "Set a timerfd."},
    {"receive_batch", receive_batch, METH_O, "Datagrams that have arrived."},
    {"departures", departures, METH_O, "Entries of the error queue."},
    {"send_batch", (PyCFunction)(void (*)(void))send_batch, METH_FASTCALL, "Send datagrams in one system call."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_batch", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__batch(void)
{
    make_ready(BATCH);
#define INTERN(name) if ((n_##name = PyUnicode_InternFromString(#name)) == NULL) return NULL;
    NAMES(INTERN)
    return PyModule_Create(&module);
}
