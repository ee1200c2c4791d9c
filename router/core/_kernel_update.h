/* Repair of a product after some operands have changed: O(n) a changed operand, O(n) an entry that got dearer. */

struct update {
    size_t n;
    const int64_t *head, *left, *left_t, *right, *right_t;
    int64_t *best, *best_t;
    int16_t *relay, *relay_t;
    const unsigned char *may_relay;
    int64_t toll, limit;
    const int64_t *changed_head, *changed_left, *changed_right;
    size_t head_count, left_count, right_count;
    unsigned char *mark;
    int64_t *touched;
    size_t room, count;
    int full;
};

enum { TOUCHED = 1, STALE = 2 };

static void touch(struct update *u, size_t entry, unsigned char why)
{
    if (!u->mark[entry]) {
        if (u->count == u->room) {
            u->full = 1;
            return;
        }
        u->touched[u->count++] = (int64_t)entry;
    }
    u->mark[entry] |= why | TOUCHED;
}

static void store(struct update *u, size_t i, size_t j, int64_t cost, int16_t k)
{
    u->best[i * u->n + j] = u->best_t[j * u->n + i] = cost;
    u->relay[i * u->n + j] = u->relay_t[j * u->n + i] = k;
}

/* The path from i to j over k (or the head's) costs this now: better than what is there, or new truth about it? */
static void offer(struct update *u, size_t i, size_t j, int64_t cost, int16_t k)
{
    size_t entry = i * u->n + j;
    int64_t had = u->best[entry];
    if (i == j)
        return;
    if (cost >= u->limit)
        cost = 2 * u->limit;
    if (u->relay[entry] == k) {
        touch(u, entry, cost > had ? STALE : TOUCHED);
        if (cost < had)
            store(u, i, j, cost, k);
    } else if (cost < had || (cost == had && cost < u->limit && k < u->relay[entry])) {
        touch(u, entry, TOUCHED);
        store(u, i, j, cost, k);
    }
}

/* left[a, b] changed: row a over relay b. */
static void offer_row(struct update *u, size_t a, size_t b)
{
    size_t n = u->n;
    int64_t base = u->left[a * n + b] + u->toll;
    const int64_t *rest = u->right + b * n, *best = u->best + a * n;
    const int16_t *relays = u->relay + a * n;
    for (size_t from = 0; from < n; from += STRIDE) {
        size_t width = smaller(STRIDE, n - from);
        if (form->concerns(base, rest + from, best + from, relays + from, (int16_t)b, width))
            for (size_t j = from; j < from + width; j++)
                if (base + rest[j] <= best[j] || relays[j] == (int16_t)b)
                    offer(u, a, j, base + rest[j], (int16_t)b);
    }
}

/* right[a, b] changed: column b over relay a, read along the transposes. */
static void offer_column(struct update *u, size_t a, size_t b)
{
    size_t n = u->n;
    int64_t base = u->right[a * n + b] + u->toll;
    const int64_t *rest = u->left_t + a * n, *best = u->best_t + b * n;
    const int16_t *relays = u->relay_t + b * n;
    for (size_t from = 0; from < n; from += STRIDE) {
        size_t width = smaller(STRIDE, n - from);
        if (form->concerns(base, rest + from, best + from, relays + from, (int16_t)a, width))
            for (size_t i = from; i < from + width; i++)
                if (base + rest[i] <= best[i] || relays[i] == (int16_t)a)
                    offer(u, i, b, base + rest[i], (int16_t)a);
    }
}

/* The entry's path has become dearer: look at every relay. */
static void compute_again(struct update *u, size_t i, size_t j, const int64_t *through)
{
    int64_t straight = u->head[i * u->n + j], cost;
    int64_t ceiling = straight < u->limit ? straight : u->limit;
    size_t k = search(through, u->right_t + j * u->n, 0, u->n, ceiling, &cost);
    if (k < u->n)
        store(u, i, j, cost, (int16_t)k);
    else
        store(u, i, j, straight < u->limit ? straight : 2 * u->limit, DIRECT);
}

/* All stale entries; consecutive ones of a row share the row with its tolls. */
static void compute_stale(struct update *u, int64_t *through)
{
    size_t n = u->n, row = n;
    for (size_t at = 0; at < u->count; at++) {
        size_t entry = (size_t)u->touched[at], i = entry / n;
        if (!(u->mark[entry] & STALE))
            continue;
        if (i != row)
            for (size_t k = 0; k < n; k++)
                through[k] = u->left[i * n + k] + (u->may_relay[k] ? u->toll : 2 * u->limit);
        row = i;
        compute_again(u, i, entry % n, through);
    }
}

static void update_product(struct update *u, int64_t *through)
{
    for (size_t at = 0; at < u->head_count; at++) {
        size_t entry = (size_t)u->changed_head[at];
        offer(u, entry / u->n, entry % u->n, u->head[entry], DIRECT);
    }
    for (size_t at = 0; at < u->left_count; at++) {
        size_t a = (size_t)u->changed_left[at] / u->n, b = (size_t)u->changed_left[at] % u->n;
        if (u->may_relay[b] && a != b)
            offer_row(u, a, b);
    }
    for (size_t at = 0; at < u->right_count; at++) {
        size_t a = (size_t)u->changed_right[at] / u->n, b = (size_t)u->changed_right[at] % u->n;
        if (u->may_relay[a] && a != b)
            offer_column(u, a, b);
    }
    if (!u->full)
        compute_stale(u, through);
    for (size_t at = 0; at < u->count; at++)
        u->mark[u->touched[at]] = 0;
}

/* Write changed links into a table and its transpose; returns how many are off the diagonal, -1 if one is negative. */
static long long place(int64_t *links, int64_t *links_t, size_t n, const int64_t *source, const int64_t *target,
                       const int64_t *cost, size_t count, int64_t limit, int64_t *changed)
{
    long long placed = 0;
    for (size_t at = 0; at < count; at++)
        if (cost[at] < 0 && source[at] != target[at])
            return -1;
    for (size_t at = 0; at < count; at++) {
        size_t i = (size_t)source[at], j = (size_t)target[at];
        if (i == j)
            continue;
        links[i * n + j] = links_t[j * n + i] = cost[at] < limit ? cost[at] : 2 * limit;
        changed[placed++] = (int64_t)(i * n + j);
    }
    return placed;
}
