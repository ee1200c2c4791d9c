/* The compiled engine of router.core.kernel: best paths between all ordered pairs; engine.py is its contract.
 *
 * This file is the door: it checks what Python hands over, lets go of the interpreter, and calls
 *   _kernel_forms.h     the inner loops for each instruction set (_kernel_lanes.h) and the choice among them
 *   _kernel_parallel.h  a loop shared among threads
 *   _kernel_operands.h  packing of operands
 *   _kernel_product.h   products and alternatives
 *   _kernel_update.h    repair after some changes
 *   _kernel_tables.h    relays in order, transposes, potentials
 * Answers depend on neither the instruction set nor the number of threads.
 */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "_kernel_forms.h"
#include "_kernel_parallel.h"

#include "_kernel_operands.h"
#include "_kernel_product.h"
#include "_kernel_tables.h"
#include "_kernel_update.h"

#define MOST_VERTICES INT16_MAX
#define MOST_ARRAYS 16


/* Buffers taken so far in one call; all are given back together. */
struct arrays {
    Py_buffer views[MOST_ARRAYS];
    int count;
    int failed;
};

/* What an argument must be: element kind ('q' int64, 'h' int16, '*' either, '?' bool, 'B' byte), shape, and writable or not. */
struct wanted {
    const char *name;
    char kind;
    int writable, dimensions; /* the last of three is optional */
    Py_ssize_t shape[3];
};

static int is_kind(const Py_buffer *view, char kind)
{
    const char *format = view->format ? view->format : "B";
    if (*format == '=' || *format == '@')
        format++;
    if (kind == '*')
        return is_kind(view, 'q') || is_kind(view, 'h');
    if (kind == 'q')
        return view->itemsize == 8 && (!strcmp(format, "l") || !strcmp(format, "q"));
    return format[0] == kind && !format[1];
}

/* The memory of one argument, or NULL with a ValueError set. Length -1 in the wanted shape means any. */
static void *take(struct arrays *arrays, PyObject *object, struct wanted wanted)
{
    if (arrays->failed)
        return NULL;
    Py_buffer *view = &arrays->views[arrays->count];
    int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (wanted.writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags)) {
        arrays->failed = 1;
        PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous%s array", wanted.name,
                     wanted.writable ? " writable" : "");
        return NULL;
    }
    arrays->count++;
    int optional = wanted.dimensions == 3;
    int fits = is_kind(view, wanted.kind) && view->ndim <= wanted.dimensions &&
               view->ndim >= wanted.dimensions - optional;
    for (int axis = 0; fits && axis < view->ndim; axis++)
        fits = wanted.shape[axis] < 0 || view->shape[axis] == wanted.shape[axis];
    if (!fits) {
        arrays->failed = 1;
        PyErr_Format(PyExc_ValueError, "%s has format %s and %d dimensions, or lengths that do not fit the others",
                     wanted.name, view->format ? view->format : "B", view->ndim);
        return NULL;
    }
    return view->buf;
}

static void give_back(struct arrays *arrays)
{
    while (arrays->count)
        PyBuffer_Release(&arrays->views[--arrays->count]);
}

static void *square(struct arrays *arrays, PyObject *object, const char *name, char kind, int writable, Py_ssize_t n)
{
    return take(arrays, object, (struct wanted){name, kind, writable, 2, {n, n}});
}

static void *cube(struct arrays *arrays, PyObject *object, const char *name, char kind, Py_ssize_t n)
{
    return take(arrays, object, (struct wanted){name, kind, 1, 3, {n, n, SLOTS}});
}

/* Numbers shared by all calls; fails with a ValueError outside their ranges. */
static int check_numbers(Py_ssize_t n, long long toll, long long limit, int threads)
{
    if (n <= MOST_VERTICES && toll >= 0 && limit > 0 && toll <= limit && limit <= INT64_MAX / 16 && threads >= 1)
        return 1;
    PyErr_Format(PyExc_ValueError,
                 "at most %d vertices (%zd), relay_cost_us in 0..limit (%lld), limit (%lld) below 2**59, threads from 1 (%d)",
                 MOST_VERTICES, n, toll, limit, threads);
    return 0;
}

static void *reject_memory(struct arrays *arrays)
{
    give_back(arrays);
    return PyErr_NoMemory();
}

static int bit_length(size_t n)
{
    int bits = 0;
    for (; n; n >>= 1)
        bits++;
    return bits;
}

/* Number the vertices that may relay, in the order of `group` (NULL: all one group) and then of index. */
static int32_t *number_relays(struct product *p, const unsigned char *may_relay, const int16_t *group, size_t *groups)
{
    int32_t *relays = malloc((2 * p->n + 1) * sizeof(int32_t)), *slot_of = relays + p->n;
    if (!relays)
        return NULL;
    memset(slot_of, 0xff, p->n * sizeof(int32_t));
    p->depth = p->group_count = 0;
    for (int name = INT16_MIN; name <= INT16_MAX; name++) {
        size_t before = p->depth;
        int next = INT16_MAX + 1; /* the smallest name above this one */
        for (size_t k = 0; k < p->n; k++) {
            int its = group ? group[k] : INT16_MIN;
            if (may_relay[k] && its == name) {
                slot_of[k] = (int32_t)p->depth;
                relays[p->depth++] = (int32_t)k;
            } else if (may_relay[k] && its > name && its < next)
                next = its;
        }
        if (groups && p->depth > before)
            groups[p->group_count++] = before;
        name = next - 1;
    }
    if (groups)
        groups[p->group_count] = p->depth;
    p->relays = relays;
    p->slot_of = slot_of;
    p->bits = bit_length(p->n);
    p->clamp = (int64_t)1 << (OPERAND_BITS - p->bits);
    return relays;
}


#define STEPS_WORTH_A_THREAD 4e6 /* a tenth of a millisecond; to start a thread takes a third of that */

static int as_threads(int threads, double steps)
{
    double worth = 1 + steps / STEPS_WORTH_A_THREAD;
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    return threads < worth ? threads : (int)worth;
}

/* may_relay [vertex], which also says how many vertices there are. */
static const unsigned char *take_vertices(struct arrays *arrays, PyObject *object, Py_ssize_t *n)
{
    const unsigned char *may_relay = take(arrays, object, (struct wanted){"may_relay", '?', 0, 1, {-1}});
    *n = may_relay ? arrays->views[arrays->count - 1].shape[0] : 0;
    return may_relay;
}

static PyObject *kernel_product(PyObject *self, PyObject *args)
{
    PyObject *head, *left, *right, *may, *best, *relay;
    struct arrays arrays = {.count = 0};
    struct product p = {.slots = 1};
    long long toll, limit;
    Py_ssize_t n;
    int threads, ok;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOLLiOO:product", &head, &left, &right, &may, &toll, &limit, &threads, &best,
                          &relay))
        return NULL;
    const unsigned char *may_relay = take_vertices(&arrays, may, &n);
    p.n = (size_t)n;
    p.toll = toll;
    p.limit = limit;
    p.head = square(&arrays, head, "head", 'q', 0, n);
    p.left = square(&arrays, left, "left", 'q', 0, n);
    p.right = square(&arrays, right, "right", 'q', 0, n);
    p.best = square(&arrays, best, "best", 'q', 1, n);
    p.relay = take(&arrays, relay, (struct wanted){"relay", 'h', 1, 3, {n, n, SLOTS}});
    if (arrays.failed || !check_numbers(n, toll, limit, threads))
        return give_back(&arrays), NULL;
    if (arrays.views[arrays.count - 1].ndim == 3)
        p.slots = (size_t)arrays.views[arrays.count - 1].shape[2];
    int32_t *relays = number_relays(&p, may_relay, NULL, NULL);
    if (!relays)
        return reject_memory(&arrays);
    Py_BEGIN_ALLOW_THREADS
    ok = solve(&p, as_threads(threads, (double)n * n * p.depth));
    Py_END_ALLOW_THREADS
    free(relays);
    if (!ok)
        return reject_memory(&arrays);
    give_back(&arrays);
    return PyLong_FromLongLong(p.negative ? -1 : p.relayed);
}

static PyObject *kernel_alternatives(PyObject *self, PyObject *args)
{
    PyObject *cost, *may, *group, *best, *relay;
    struct arrays arrays = {.count = 0};
    struct product p = {.slots = TOP};
    long long toll, limit;
    Py_ssize_t n;
    int threads, ok;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOLLiOO:alternatives", &cost, &may, &group, &toll, &limit, &threads, &best,
                          &relay))
        return NULL;
    const unsigned char *may_relay = take_vertices(&arrays, may, &n);
    p.n = (size_t)n;
    p.toll = toll;
    p.limit = limit;
    p.head = p.left = p.right = square(&arrays, cost, "cost", 'q', 0, n);
    const int16_t *groups_of = take(&arrays, group, (struct wanted){"group", 'h', 0, 1, {n}});
    p.best = cube(&arrays, best, "best", 'q', n);
    p.relay = cube(&arrays, relay, "relay", 'h', n);
    if (arrays.failed || !check_numbers(n, toll, limit, threads))
        return give_back(&arrays), NULL;
    size_t *groups = malloc((p.n + 1) * sizeof(size_t));
    int32_t *relays = groups ? number_relays(&p, may_relay, groups_of, groups) : NULL;
    p.groups = groups;
    if (!relays)
        return free(groups), reject_memory(&arrays);
    Py_BEGIN_ALLOW_THREADS
    ok = solve(&p, as_threads(threads, (double)n * n * p.depth));
    Py_END_ALLOW_THREADS
    free(relays);
    free(groups);
    if (!ok)
        return reject_memory(&arrays);
    give_back(&arrays);
    return PyBool_FromLong(!p.negative);
}

static int are_vertices(const int16_t *table, size_t n)
{
    int wrong = 0;
    for (size_t at = 0; at < n * n; at++)
        wrong |= table[at] < DIRECT || table[at] >= (int)n;
    return !wrong;
}

static PyObject *kernel_compose(PyObject *self, PyObject *args)
{
    PyObject *first, *last, *relays;
    struct arrays arrays = {.count = 0};
    struct composition c;
    int threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOiiO:compose", &first, &last, &c.max_relays, &threads, &relays))
        return NULL;
    c.relays = take(&arrays, relays, (struct wanted){"relays", 'h', 1, 3, {-1, -1, SLOTS}});
    Py_ssize_t n = c.relays ? arrays.views[0].shape[0] : 0;
    c.first = square(&arrays, first, "first", 'h', 0, n);
    c.last = square(&arrays, last, "last", 'h', 0, n);
    c.n = (size_t)n;
    if (!arrays.failed && (arrays.views[0].ndim != 3 || arrays.views[0].shape[1] != n || threads < 1 ||
                           !are_vertices(c.first, c.n) || !are_vertices(c.last, c.n))) {
        PyErr_SetString(PyExc_ValueError, "tables must be square and hold vertices or -1, threads start from 1");
        arrays.failed = 1;
    }
    if (arrays.failed)
        return give_back(&arrays), NULL;
    Py_BEGIN_ALLOW_THREADS
    run(compose_band, &c, pieces(c.n, BAND), as_threads(threads, 64.0 * n * n));
    Py_END_ALLOW_THREADS
    give_back(&arrays);
    Py_RETURN_NONE;
}

static PyObject *kernel_transpose(PyObject *self, PyObject *args)
{
    PyObject *table, *result;
    struct arrays arrays = {.count = 0};
    (void)self;
    if (!PyArg_ParseTuple(args, "OO:transpose", &table, &result))
        return NULL;
    const void *from = square(&arrays, table, "table", '*', 0, -1);
    Py_ssize_t n = from ? arrays.views[0].shape[0] : 0;
    void *to = square(&arrays, result, "result", '*', 1, n);
    if (!arrays.failed && (arrays.views[0].shape[1] != n || arrays.views[0].itemsize != arrays.views[1].itemsize)) {
        PyErr_SetString(PyExc_ValueError, "table must be square, and result of its type");
        arrays.failed = 1;
    }
    if (arrays.failed)
        return give_back(&arrays), NULL;
    int wide = arrays.views[0].itemsize == sizeof(int64_t);
    Py_BEGIN_ALLOW_THREADS
    if (wide)
        transpose_wide(from, to, (size_t)n);
    else
        transpose_narrow(from, to, (size_t)n);
    Py_END_ALLOW_THREADS
    give_back(&arrays);
    Py_RETURN_NONE;
}

static PyObject *kernel_relax(PyObject *self, PyObject *args)
{
    PyObject *cost, *potential, *before;
    struct arrays arrays = {.count = 0};
    long long limit;
    int changed;
    (void)self;
    if (!PyArg_ParseTuple(args, "OLOO:relax", &cost, &limit, &potential, &before))
        return NULL;
    int64_t *h = take(&arrays, potential, (struct wanted){"potential", 'q', 1, 1, {-1}});
    Py_ssize_t n = h ? arrays.views[0].shape[0] : 0;
    int64_t *from = take(&arrays, before, (struct wanted){"before", 'q', 1, 1, {n}});
    const int64_t *table = square(&arrays, cost, "cost", 'q', 0, n);
    if (arrays.failed || !check_numbers(n, 0, limit, 1))
        return give_back(&arrays), NULL;
    Py_BEGIN_ALLOW_THREADS
    changed = relax(table, (size_t)n, limit, h, from);
    Py_END_ALLOW_THREADS
    give_back(&arrays);
    return PyBool_FromLong(changed);
}

static PyObject *kernel_shift(PyObject *self, PyObject *args)
{
    PyObject *table, *potential, *result;
    struct arrays arrays = {.count = 0};
    struct shifting s = {.lost = 0};
    long long limit, new_limit;
    int threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "OLOLiO:shift", &table, &limit, &potential, &new_limit, &threads, &result))
        return NULL;
    s.potential = take(&arrays, potential, (struct wanted){"potential", 'q', 0, 1, {-1}});
    Py_ssize_t n = s.potential ? arrays.views[0].shape[0] : 0;
    s.table = square(&arrays, table, "table", 'q', 0, n);
    s.result = square(&arrays, result, "result", 'q', 1, n);
    if (arrays.failed || !check_numbers(n, 0, limit, threads) || !check_numbers(n, 0, new_limit, threads))
        return give_back(&arrays), NULL;
    s.n = (size_t)n, s.limit = limit, s.new_limit = new_limit;
    Py_BEGIN_ALLOW_THREADS
    run(shift_rows, &s, pieces(s.n, ROWS_AT_ONCE), as_threads(threads, 16.0 * n * n));
    Py_END_ALLOW_THREADS
    give_back(&arrays);
    return PyLong_FromLongLong(s.lost);
}

/* Indexes [change], all below `end`; their number goes to *count. */
static const int64_t *take_indexes(struct arrays *arrays, PyObject *object, const char *name, size_t end, size_t *count)
{
    const int64_t *entries = take(arrays, object, (struct wanted){name, 'q', 0, 1, {-1}});
    *count = entries ? (size_t)arrays->views[arrays->count - 1].shape[0] : 0;
    for (size_t at = 0; at < *count; at++)
        if (entries[at] < 0 || entries[at] >= (int64_t)end) {
            PyErr_Format(PyExc_ValueError, "%s holds an index outside the table", name);
            arrays->failed = 1;
            return NULL;
        }
    return entries;
}

static PyObject *kernel_place(PyObject *self, PyObject *args)
{
    PyObject *links, *links_t, *in_source, *in_target, *in_cost, *out;
    struct arrays arrays = {.count = 0};
    long long limit;
    size_t count, again;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOLO:place", &links, &links_t, &in_source, &in_target, &in_cost, &limit, &out))
        return NULL;
    int64_t *table = square(&arrays, links, "links", 'q', 1, -1);
    Py_ssize_t n = table ? arrays.views[0].shape[1] : 0;
    int64_t *table_t = square(&arrays, links_t, "links_t", 'q', 1, n);
    const int64_t *source = take_indexes(&arrays, in_source, "source", (size_t)n, &count);
    const int64_t *target = take_indexes(&arrays, in_target, "target", (size_t)n, &again);
    struct wanted changes = {"cost", 'q', 0, 1, {(Py_ssize_t)count}};
    const int64_t *cost = take(&arrays, in_cost, changes);
    changes.name = "changed", changes.writable = 1;
    int64_t *changed = take(&arrays, out, changes);
    if (!arrays.failed && (arrays.views[0].shape[0] != n || again != count || !check_numbers(n, 0, limit, 1))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "links must be square, source and target of one length");
        arrays.failed = 1;
    }
    if (arrays.failed)
        return give_back(&arrays), NULL;
    long long placed = place(table, table_t, (size_t)n, source, target, cost, count, limit, changed);
    give_back(&arrays);
    return PyLong_FromLongLong(placed);
}

static PyObject *kernel_update(PyObject *self, PyObject *args)
{
    PyObject *head, *left, *left_t, *right, *right_t, *best, *best_t, *relay, *relay_t, *may, *in_head, *in_left,
        *in_right, *mark, *touched;
    struct arrays arrays = {.count = 0};
    struct update u = {.count = 0};
    long long toll, limit;
    Py_ssize_t n;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOOLLOOOOO:update", &head, &left, &left_t, &right, &right_t, &best, &best_t,
                          &relay, &relay_t, &may, &toll, &limit, &in_head, &in_left, &in_right, &mark, &touched))
        return NULL;
    u.may_relay = take_vertices(&arrays, may, &n);
    u.n = (size_t)n, u.toll = toll, u.limit = limit;
    u.head = square(&arrays, head, "head", 'q', 0, n);
    u.left = square(&arrays, left, "left", 'q', 0, n);
    u.left_t = square(&arrays, left_t, "left_t", 'q', 0, n);
    u.right = square(&arrays, right, "right", 'q', 0, n);
    u.right_t = square(&arrays, right_t, "right_t", 'q', 0, n);
    u.best = square(&arrays, best, "best", 'q', 1, n);
    u.best_t = square(&arrays, best_t, "best_t", 'q', 1, n);
    u.relay = square(&arrays, relay, "relay", 'h', 1, n);
    u.relay_t = square(&arrays, relay_t, "relay_t", 'h', 1, n);
    u.mark = square(&arrays, mark, "mark", 'B', 1, n);
    u.changed_head = take_indexes(&arrays, in_head, "changed_head", u.n * u.n, &u.head_count);
    u.changed_left = take_indexes(&arrays, in_left, "changed_left", u.n * u.n, &u.left_count);
    u.changed_right = take_indexes(&arrays, in_right, "changed_right", u.n * u.n, &u.right_count);
    u.touched = take(&arrays, touched, (struct wanted){"touched", 'q', 1, 1, {-1}});
    if (arrays.failed || !check_numbers(n, toll, limit, 1))
        return give_back(&arrays), NULL;
    u.room = (size_t)arrays.views[arrays.count - 1].shape[0];
    int64_t *through = allocate((u.n + 1) * sizeof(int64_t));
    if (!through)
        return reject_memory(&arrays);
    Py_BEGIN_ALLOW_THREADS
    update_product(&u, through);
    Py_END_ALLOW_THREADS
    free(through);
    give_back(&arrays);
    return PyLong_FromLongLong(u.full ? -1 : (long long)u.count);
}

static PyObject *kernel_use(PyObject *self, PyObject *args)
{
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(args, "s:use", &name))
        return NULL;
    if (!choose_form(name))
        return PyErr_Format(PyExc_ValueError, "this machine cannot run the form %s", name);
    return PyUnicode_FromString(form->name);
}

static PyMethodDef methods[] = {
    {"product", kernel_product, METH_VARARGS, "Min-plus product with relays."},
    {"compose", kernel_compose, METH_VARARGS, "Relays in order from two products."},
    {"transpose", kernel_transpose, METH_VARARGS, "Transpose of a square table."},
    {"alternatives", kernel_alternatives, METH_VARARGS, "The three best paths of different groups."},
    {"relax", kernel_relax, METH_VARARGS, "A round of Bellman-Ford."},
    {"shift", kernel_shift, METH_VARARGS, "A table under potentials."},
    {"place", kernel_place, METH_VARARGS, "Changed links into a table and its transpose."},
    {"update", kernel_update, METH_VARARGS, "Repair of a product after changes."},
    {"use", kernel_use, METH_VARARGS, "Switch to a form of the inner loops by name ('' the fastest); returns its name."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_doc = "Compiled engine of router.core.kernel.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    choose_form("");
    return PyModule_Create(&module);
}
