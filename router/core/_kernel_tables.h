/* What else has to be done with whole tables: relays in order, transposes, potentials. */

/* Relays in order from the tables of two products; see engine.py. */
struct composition {
    size_t n;
    int max_relays;
    const int16_t *first, *last;
    int16_t *relays;
};

#define BAND 128 /* columns whose part of `first` stays in the cache while all rows look into it */

/* No branch: whether there is a relay is as good as random. DIRECT is all ones, so its sign is a mask of itself. */
static void compose_piece(const struct composition *c, size_t i, size_t from, size_t to)
{
    const int16_t *last = c->last + i * c->n;
    const int32_t n = (int32_t)c->n, here = (int32_t)i, one_link = -(c->max_relays != 3);
    const int16_t *first = c->first;
    for (size_t j = from; j < to; j++) {
        int16_t *relays = c->relays + (i * c->n + j) * SLOTS;
        int32_t k = last[j], none = k >> 15;
        int32_t middle = (k & ~none) | (here & none), end = (k & ~none) | ((int32_t)j & none);
        int32_t head = first[here * n + end], tail = first[middle * n + (int32_t)j] | none | one_link;
        int32_t gap = head >> 15; /* no relay before k: what follows moves up */
        relays[0] = (int16_t)((head & ~gap) | (k & gap));
        relays[1] = (int16_t)((k & ~gap) | (tail & gap));
        relays[2] = (int16_t)(tail | gap);
    }
}

static void compose_band(void *job, size_t band, int thread)
{
    const struct composition *c = job;
    (void)thread;
    for (size_t i = 0; i < c->n; i++)
        compose_piece(c, i, band * BAND, smaller(c->n, (band + 1) * BAND));
}

/* In squares, so that both sides stay in the cache. */
#define DEFINE_TRANSPOSE(name, type)                                              \
    static void name(const type *table, type *result, size_t n)                   \
    {                                                                             \
        for (size_t top = 0; top < n; top += SQUARE)                              \
            for (size_t from = 0; from < n; from += SQUARE)                       \
                for (size_t i = top; i < smaller(n, top + SQUARE); i++)           \
                    for (size_t j = from; j < smaller(n, from + SQUARE); j++)     \
                        result[j * n + i] = table[i * n + j];                     \
    }
DEFINE_TRANSPOSE(transpose_wide, int64_t)
DEFINE_TRANSPOSE(transpose_narrow, int16_t)

/* See engine.py; this one sees its own changes, so it needs fewer rounds. */
static int relax(const int64_t *cost, size_t n, int64_t limit, int64_t *potential, int64_t *before)
{
    int64_t taken = 0;
    for (size_t u = 0; u < n; u++) {
        const int64_t *row = cost + u * n;
        int64_t base = potential[u]; /* nobody takes the way over itself, even if the diagonal were negative */
        taken += form->relax(row, u, limit, base, (int64_t)u, potential, before);
        taken += form->relax(row + u + 1, n - u - 1, limit, base, (int64_t)u, potential + u + 1, before + u + 1);
    }
    return taken != 0;
}

struct shifting {
    size_t n;
    const int64_t *table, *potential;
    int64_t limit, new_limit;
    int64_t *result;
    atomic_llong lost;
};

static void shift_rows(void *job, size_t index, int thread)
{
    struct shifting *s = job;
    int64_t lost = 0;
    (void)thread;
    for (size_t i = index * ROWS_AT_ONCE; i < smaller(s->n, (index + 1) * ROWS_AT_ONCE); i++) {
        const int64_t *row = s->table + i * s->n;
        int64_t *result = s->result + i * s->n;
        lost += form->shift(row, s->n, s->limit, s->potential[i], s->potential, s->new_limit, result);
        lost -= row[i] < s->limit && row[i] >= s->new_limit; /* the diagonal, which nothing shifts, does not count */
        result[i] = 2 * s->new_limit;
    }
    atomic_fetch_add(&s->lost, lost);
}
