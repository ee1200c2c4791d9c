/* The end of a bucket of the history of delays; the numpy form is `History._close_each` in history.py. */
#include "_evidence_links.h"

enum { MOST_CLOSED = 16 };

struct closing {
    long long bucket, fallen, up, down;
    double step_spreads, step_share, step_us, keep, tame;
    int64_t *open, *latest, *before, *closed[MOST_CLOSED];
    double *mean, *weight, *spread;
    int8_t *streak;
    int32_t *since, *ring;
    int count; /* of closed buckets, the newest one last */
};

static double least_step(const struct closing *c, double mean)
{
    double share = c->step_share * fabs(mean);
    return share > c->step_us ? share : c->step_us;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Whether the level of link i changed: it starts anew, and what is older is of the old one. */
static int stepped(const struct closing *c, Py_ssize_t i)
{
    double away = (double)c->open[i] - c->mean[i];
    double far = larger(c->step_spreads * c->spread[i], least_step(c, c->mean[i]));
    int side = c->weight[i] <= 1.5 ? 0 : away > far ? 1 : away < -far ? -1 : 0;
    int sign = (c->streak[i] > 0) - (c->streak[i] < 0);
    c->streak[i] = (int8_t)(sign == side ? c->streak[i] + side : side);
    if (c->streak[i] < c->up && c->streak[i] > -c->down)
        return 0;
    int length = abs(c->streak[i]);
    for (int age = 1; age <= c->count; age++)
        if (length <= age)
            c->closed[c->count - age][i] = c->fallen;
    c->since[i] = (int32_t)(c->bucket - (c->count && c->streak[i] > 0 ? 1 : length) + 1);
    c->weight[i] = c->spread[i] = c->mean[i] = 0.0;
    c->streak[i] = 0;
    return 1;
}

static int64_t least_closed(const struct closing *c, int first, int64_t least, Py_ssize_t i)
{
    for (int k = first; k < c->count; k++)
        least = c->closed[k][i] < least ? c->closed[k][i] : least;
    return least;
}

static int close_one(const struct closing *c, Py_ssize_t i)
{
    int fresh = c->open[i] != c->fallen, known = c->latest[i] != c->fallen;
    int step = fresh && stepped(c, i);
    if (c->count)
        c->before[i] = least_closed(c, 0, INT64_MAX, i);
    if (fresh)
        c->latest[i] = c->open[i] < c->before[i] ? c->open[i] : c->before[i];
    if (known) {
        double held = c->weight[i], weight = c->keep * held + 1.0, share = 1.0 / weight;
        double away = (double)c->latest[i] - c->mean[i];
        double far = held > 0 ? larger(c->tame * c->spread[i], least_step(c, c->mean[i])) : INFINITY;
        away = away < -far ? -far : away;
        away = away > far ? far : away;
        c->mean[i] += away * share;
        c->spread[i] += (fabs(away) - c->spread[i]) * share * (held > 0 ? 1.0 : 0.0);
        c->weight[i] = weight;
        int64_t value = c->latest[i] < -c->fallen ? -c->fallen : c->latest[i];
        c->ring[i] = (int32_t)(value > c->fallen - 1 ? c->fallen - 1 : value);
    } else {
        c->weight[i] = 0.0;
        c->ring[i] = (int32_t)c->fallen;
    }
    if (c->count)
        c->before[i] = least_closed(c, 1, c->open[i], i);
    return step;
}

static PyObject *history(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    struct closing c;
    PyObject *arrays;
    Py_ssize_t size, steps = 0;
    if (!PyArg_ParseTuple(arguments, "n(LLLLddddd)O!:history", &size, &c.bucket, &c.fallen, &c.up, &c.down,
                          &c.step_spreads, &c.step_share, &c.step_us, &c.keep, &c.tame, &PyTuple_Type, &arrays))
        return NULL;
    enum { OTHERS = 9 };
    c.count = (int)(PyTuple_GET_SIZE(arrays) - OTHERS);
    if (size < 0 || c.count < 0 || c.count > MOST_CLOSED)
        return PyErr_Format(PyExc_ValueError, "a size that cannot be");
    struct arrays held = {.count = 0};
    c.open = take(&held, arrays, 'q', 0, size);
    c.latest = take(&held, arrays, 'q', 1, size);
    c.before = take(&held, arrays, 'q', 1, size);
    c.mean = take(&held, arrays, 'd', 1, size);
    c.weight = take(&held, arrays, 'd', 1, size);
    c.spread = take(&held, arrays, 'd', 1, size);
    c.streak = take(&held, arrays, 'b', 1, size);
    c.since = take(&held, arrays, 'i', 1, size);
    c.ring = take(&held, arrays, 'i', 1, size);
    for (int k = 0; k < c.count; k++)
        c.closed[k] = take(&held, arrays, 'q', 1, size);
    for (Py_ssize_t i = 0; !held.failed && i < size; i++)
        steps += close_one(&c, i);
    int failed = held.failed;
    give_back(&held);
    return failed ? NULL : PyLong_FromSsize_t(steps);
}
