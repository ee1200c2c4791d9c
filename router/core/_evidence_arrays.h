/* Arguments of `_evidence.c`: arrays, and columns of a report. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ARRAYS = 40 };
static const int64_t MOST = INT64_C(1) << 53; /* of a value in a report; beyond it numpy's own overflow would count */

struct arrays {
    Py_buffer views[MOST_ARRAYS];
    int count, failed;
};

/* The memory of an array of so many items; NULL with ValueError set. Kinds: q int64, d double, ? bool, i int32. */
static void *take(struct arrays *arrays, PyObject *tuple, char kind, int writable, Py_ssize_t items)
{
    if (arrays->failed)
        return NULL;
    int i = arrays->count;
    if (i == MOST_ARRAYS || i >= PyTuple_GET_SIZE(tuple)) {
        arrays->failed = 1;
        PyErr_SetString(PyExc_ValueError, "too few arrays");
        return NULL;
    }
    Py_buffer *view = &arrays->views[i];
    int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(tuple, i), view, flags)) {
        arrays->failed = 1;
        return NULL;
    }
    arrays->count++;
    char is = view->format[0] == 'l' && view->itemsize == 8 ? 'q' : view->format[0];
    if (is != kind || view->format[1] || view->len != items * view->itemsize) {
        arrays->failed = 1;
        PyErr_Format(PyExc_ValueError, "array %d has format %s and %zd bytes, wanted %c and %zd items", i, view->format,
                     view->len, kind, items);
        return NULL;
    }
    return view->buf;
}

static void give_back(struct arrays *arrays)
{
    while (arrays->count)
        PyBuffer_Release(&arrays->views[--arrays->count]);
}

/* Column i of a report: a tuple of `rows` items, or NULL without an exception. */
static PyObject *column(PyObject *columns, Py_ssize_t i, Py_ssize_t rows)
{
    PyObject *found = i < PyTuple_GET_SIZE(columns) ? PyTuple_GET_ITEM(columns, i) : NULL;
    return found != NULL && PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == rows ? found : NULL;
}

/* A value that is exact as a double; 0 without an exception for any other. */
static int number(PyObject *column, Py_ssize_t i, int64_t *value)
{
    PyObject *item = PyTuple_GET_ITEM(column, i);
    int overflow = 0;
    if (!PyLong_CheckExact(item))
        return 0;
    *value = PyLong_AsLongLongAndOverflow(item, &overflow);
    return !overflow && *value >= -MOST && *value <= MOST;
}

/* The number of a name, -1 if it has none; -2 with an exception. */
static int64_t number_of(PyObject *names, PyObject *name, int64_t most)
{
    PyObject *found = PyDict_GetItemWithError(names, name);
    if (found == NULL)
        return PyErr_Occurred() ? -2 : -1;
    int64_t value = PyLong_AsLongLong(found);
    if (value >= 0 && value < most)
        return value;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a number that is out of range");
    return -2;
}
