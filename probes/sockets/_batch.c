/* recvmmsg and sendmmsg for probes/sockets/batch.py, which says what the functions mean and has their Python form; `wait`
 * for probes/sockets/loop.py and `set_timer` for probes/sockets/timer.py likewise.
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

static PyMethodDef methods[] = {
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
    return PyModule_Create(&module);
}
