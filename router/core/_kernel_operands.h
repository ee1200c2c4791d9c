/* Operands of min-plus products: the right one packed into panels of columns, the left one into blocks of rows.
 *
 * A packed operand is cost << bits | relay + 1 (the relay in the left one), so one minimum finds the cost and, among
 * equals, the smallest relay. `clamp` is the first cost that does not fit. Longer links count as missing here; a path
 * that uses one costs at least `clamp`, so only entries that found nothing cheaper than that, in a row or column with
 * such a link, are looked at again in 64 bits. So the answer is exact whatever the costs, and nothing can overflow.
 */

#define GROUP 4    /* blocks of rows a thread takes at a time: a panel comes from far away once for all of them */
#define TOP 3       /* alternatives */
#define SLOTS 3    /* relays of a path */
#define ROWS_AT_ONCE 16 /* of the simpler stages */
#define STRIDE 64  /* entries looked at together, before looking at each */
#define SQUARE 32  /* side of the squares in which tables are transposed */

/* What one thread needs. */
struct scratch {
    uint32_t *blocks;  /* left: [block][k][row] */
    uint32_t *rows;    /* left: [row][vertex], one block before it is interleaved */
    uint32_t *packed;  /* answers: [row][column] of a group; of the alternatives one layer each */
    uint32_t *tile;    /* candidates for alternatives: [row][column] */
    int16_t *chosen;   /* relays of one row */
    int64_t *through;  /* a row of left in 64 bits, tolls included: [k] */
    size_t through_row;
};

struct product {
    size_t n, depth;        /* vertices; those that may relay */
    const int32_t *relays;  /* [k] their indexes, group by group */
    const int32_t *slot_of; /* [vertex] its k, or -1 */
    const size_t *groups;   /* where in relays each group starts, and depth at the end; NULL for a plain product */
    size_t group_count;
    const int64_t *head, *left, *right;
    int64_t toll, limit, clamp;
    int bits;
    int64_t *best;
    int16_t *relay;
    size_t slots; /* of relay, per entry */

    uint32_t *panels;                       /* right: [panel][k][column] */
    int64_t *right_t;                       /* [to][k] in 64 bits; only if something is too long to pack */
    atomic_uchar *long_left, *long_right;   /* [from] and [to]: has a real link that is too long */
    atomic_int negative, any_long;
    atomic_llong relayed;
    struct scratch scratch[MOST_THREADS];
};

static size_t smaller(size_t x, size_t y)
{
    return x < y ? x : y;
}

static size_t pieces(size_t n, size_t size)
{
    return (n + size - 1) / size;
}

/* Columns of a table whose rows are padded to whole tiles. */
static size_t padded(const struct product *p)
{
    return pieces(p->n, form->width) * form->width;
}

static int is_long(const struct product *p, int64_t cost)
{
    return cost < p->limit && cost >= p->clamp - p->toll;
}

/* Stage 1: pack one row of right into all panels, and note what is negative or too long. */
static void pack_row(struct product *p, size_t k)
{
    _Alignas(64) uint32_t unused[MOST_WIDTH];
    for (size_t from = 0; from < p->n; from += form->width) {
        const int64_t *piece = p->right + k * p->n + from;
        size_t width = smaller(p->n - from, form->width);
        uint32_t *packed = unused;
        if (p->slot_of[k] >= 0)
            packed = p->panels + from * p->depth + (size_t)p->slot_of[k] * form->width;
        struct range seen = form->pack_right(piece, width, p->limit, p->clamp, p->bits, packed);
        for (size_t w = width; w < form->width; w++)
            packed[w] = MISSING;
        if (k >= from && k < from + width)
            packed[k - from] = MISSING; /* the diagonal */
        if (seen.min < 0)
            p->negative = 1;
        if (seen.max < p->clamp - p->toll)
            continue;
        p->any_long = p->long_left[k] = 1; /* if right is left too; else one row more than need be is looked at again */
        for (size_t w = 0; w < width; w++)
            if (is_long(p, piece[w]))
                p->long_right[from + w] = 1;
    }
}

static void pack_rows(void *job, size_t index, int thread)
{
    struct product *p = job;
    (void)thread;
    for (size_t k = index * ROWS_AT_ONCE; k < smaller(p->n, (index + 1) * ROWS_AT_ONCE); k++)
        pack_row(p, k);
}

/* Stage 1 for a left operand or head that is not the right one too. */
static void scan_left(void *job, size_t row, int thread)
{
    struct product *p = job;
    (void)thread;
    for (size_t k = 0; k < p->n; k++) {
        int64_t cost = p->left[row * p->n + k];
        if (cost < 0)
            p->negative = 1;
        if (is_long(p, cost))
            p->any_long = p->long_left[row] = 1;
    }
}

static void scan_head(void *job, size_t row, int thread)
{
    struct product *p = job;
    (void)thread;
    for (size_t k = 0; k < p->n; k++)
        if (p->head[row * p->n + k] < 0)
            p->negative = 1;
}

/* Stage 2, if need be: some columns of right by rows, in 64 bits. */
static void transpose_right(void *job, size_t square, int thread)
{
    struct product *p = job;
    size_t from = square * SQUARE, to = smaller(p->n, from + SQUARE);
    (void)thread;
    for (size_t at = 0; at < p->depth; at++) {
        size_t k = p->relays[at];
        for (size_t j = from; j < to; j++) {
            int64_t cost = p->right[k * p->n + j];
            p->right_t[j * p->depth + at] = cost < p->limit && j != k ? cost : 2 * p->limit;
        }
    }
}

/* Left operand of a group of rows, [block][k][row]; rows beyond the last are missing. */
static void pack_blocks(struct product *p, struct scratch *scratch, size_t top, size_t bottom)
{
    for (size_t block = top; block < bottom; block += form->rows) {
        for (size_t r = 0; r < form->rows; r++) {
            uint32_t *packed = scratch->rows + r * p->n;
            size_t i = block + r;
            if (i < bottom) {
                form->pack_left(p->left + i * p->n, p->n, p->toll, p->clamp, p->bits, packed);
                packed[i] = MISSING; /* the diagonal */
            } else
                for (size_t k = 0; k < p->n; k++)
                    packed[k] = MISSING;
        }
        form->interleave(scratch->rows, p->n, p->relays, p->depth, scratch->blocks + (block - top) * p->depth);
    }
}

/* The row of left in 64 bits, made when first needed. */
static const int64_t *row_through(struct product *p, struct scratch *scratch, size_t i)
{
    if (scratch->through_row != i)
        for (size_t at = 0; at < p->depth; at++) {
            size_t k = p->relays[at];
            int64_t cost = p->left[i * p->n + k];
            scratch->through[at] = cost < p->limit && k != i ? cost + p->toll : 2 * p->limit;
        }
    scratch->through_row = i;
    return scratch->through;
}

/* Cheapest of relays[from..to): its position, or `to` if there is no path below `ceiling`. */
static size_t search(const int64_t *through, const int64_t *right, size_t from, size_t to, int64_t ceiling, int64_t *cost)
{
    *cost = form->least_sum(through + from, right + from, to - from);
    if (*cost >= ceiling)
        return to;
    while (form->least_sum(through + from, right + from, smaller(STRIDE, to - from)) != *cost)
        from += STRIDE;
    while (through[from] + right[from] != *cost)
        from++;
    return from;
}

static int may_be_longer(const struct product *p, size_t i, size_t j)
{
    return i != j && (p->long_left[i] || p->long_right[j]);
}
