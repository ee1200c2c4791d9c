/* Min-plus products tile by tile, and the three best paths that share no group, from the same tiles. */

/* Entries of a row that may be better served by a link too long to pack; returns how many more are relayed. */
static int look_again(struct product *p, struct scratch *scratch, size_t i)
{
    int more = 0;
    for (size_t j = 0; j < p->n; j++) {
        int64_t *best = p->best + i * p->n + j, straight = p->head[i * p->n + j], cost;
        if (*best < p->clamp || !may_be_longer(p, i, j))
            continue;
        straight = straight < p->limit ? straight : p->limit; /* a path of `limit` or more counts as none */
        size_t at = search(row_through(p, scratch, i), p->right_t + j * p->depth, 0, p->depth, straight, &cost);
        int found = at < p->depth, had = scratch->chosen[j] != DIRECT;
        more += found - had;
        scratch->chosen[j] = found ? (int16_t)p->relays[at] : DIRECT;
        if (found)
            *best = cost;
    }
    return more;
}

static void finish_product(struct product *p, struct scratch *scratch, size_t i, const uint32_t *packed)
{
    int64_t *best = p->best + i * p->n;
    int relayed = form->unpack(packed, p->head + i * p->n, p->n, p->limit, p->bits, best, scratch->chosen);
    if (p->any_long)
        relayed += look_again(p, scratch, i);
    relayed -= scratch->chosen[i] != DIRECT;
    best[i] = 2 * p->limit;
    scratch->chosen[i] = DIRECT;
    if (p->slots == 1)
        memcpy(p->relay + i * p->n, scratch->chosen, p->n * sizeof(int16_t));
    else
        form->spread(scratch->chosen, p->n, p->relay + i * p->n * SLOTS);
    atomic_fetch_add_explicit(&p->relayed, relayed, memory_order_relaxed);
}

/* The direct links of a group of rows are their first alternatives. */
static void start_alternatives(struct product *p, struct scratch *scratch, size_t top, size_t bottom)
{
    size_t stride = padded(p), layer = GROUP * form->rows * stride;
    for (size_t x = 0; x < TOP * layer; x++)
        scratch->packed[x] = MISSING;
    for (size_t i = top; i < bottom; i++)
        form->pack_right(p->head + i * p->n, p->n, p->limit, p->clamp, p->bits, scratch->packed + (i - top) * stride);
}

/* The best relay of each group, sorted into the three best of every entry of a tile. */
static void tile_of_alternatives(struct product *p, struct scratch *scratch, const uint32_t *block,
                                 const uint32_t *panel, uint32_t *packed)
{
    size_t stride = padded(p), layer = GROUP * form->rows * stride;
    for (size_t g = 0; g < p->group_count; g++) {
        size_t start = p->groups[g], depth = p->groups[g + 1] - start;
        form->tile(block + start * form->rows, panel + start * form->width, depth, scratch->tile, form->width);
        form->insert(packed, scratch->tile, layer, stride);
    }
}

/* The three best of one entry in 64 bits, where a link too long to pack may be among them. */
static void alternatives_again(struct product *p, struct scratch *scratch, size_t i, size_t j)
{
    int64_t *best = p->best + (i * p->n + j) * TOP, straight = p->head[i * p->n + j];
    int16_t *relay = p->relay + (i * p->n + j) * TOP;
    const int64_t *through = row_through(p, scratch, i), *right = p->right_t + j * p->depth;
    for (int slot = 0; slot < TOP; slot++) {
        best[slot] = slot || straight >= p->limit ? 2 * p->limit : straight;
        relay[slot] = DIRECT;
    }
    for (size_t g = 0; g < p->group_count; g++) {
        int64_t cost;
        size_t at = search(through, right, p->groups[g], p->groups[g + 1], p->limit, &cost);
        if (at == p->groups[g + 1])
            continue;
        int16_t k = (int16_t)p->relays[at];
        for (int slot = 0; slot < TOP; slot++)
            if (cost < best[slot] || (cost == best[slot] && cost < p->limit && k < relay[slot])) {
                int64_t was_cost = best[slot];
                int16_t was = relay[slot];
                best[slot] = cost, relay[slot] = k;
                cost = was_cost, k = was;
            }
    }
}

static void finish_alternatives(struct product *p, struct scratch *scratch, size_t i, const uint32_t *packed)
{
    int64_t *best = p->best + i * p->n * TOP;
    int16_t *relay = p->relay + i * p->n * TOP;
    form->unpack_top(packed, GROUP * form->rows * padded(p), p->n, p->limit, p->bits, best, relay);
    for (int slot = 0; slot < TOP; slot++) { /* the diagonal */
        best[i * TOP + slot] = 2 * p->limit;
        relay[i * TOP + slot] = DIRECT;
    }
    if (p->any_long)
        for (size_t j = 0; j < p->n; j++)
            if (best[j * TOP + TOP - 1] >= p->clamp && may_be_longer(p, i, j))
                alternatives_again(p, scratch, i, j);
}

/* Stage 3: a group of blocks of rows against every panel; then its rows are whole. */
static void multiply(void *job, size_t group, int thread)
{
    struct product *p = job;
    struct scratch *scratch = &p->scratch[thread];
    size_t top = group * GROUP * form->rows, bottom = smaller(p->n, top + GROUP * form->rows), stride = padded(p);
    pack_blocks(p, scratch, top, bottom);
    if (p->groups)
        start_alternatives(p, scratch, top, bottom);
    for (size_t from = 0; from < p->n; from += form->width)
        for (size_t i = top; i < bottom; i += form->rows) {
            const uint32_t *block = scratch->blocks + (i - top) * p->depth, *panel = p->panels + from * p->depth;
            uint32_t *packed = scratch->packed + (i - top) * stride + from;
            if (p->groups)
                tile_of_alternatives(p, scratch, block, panel, packed);
            else
                form->tile(block, panel, p->depth, packed, stride);
        }
    for (size_t i = top; i < bottom; i++)
        (p->groups ? finish_alternatives : finish_product)(p, scratch, i, scratch->packed + (i - top) * stride);
}

static int prepare(struct product *p, int threads)
{
    size_t rows = form->rows, layers = p->groups ? TOP : 1, word = sizeof(uint32_t);
    p->panels = allocate(padded(p) * p->depth * word);
    p->long_left = calloc(p->n + 1, 1);
    p->long_right = calloc(p->n + 1, 1);
    int ok = p->panels && p->long_left && p->long_right;
    for (int thread = 0; thread < threads; thread++) {
        struct scratch *scratch = &p->scratch[thread];
        scratch->blocks = allocate(GROUP * rows * p->depth * word);
        scratch->rows = allocate(rows * p->n * word);
        scratch->packed = allocate(layers * GROUP * rows * padded(p) * word);
        scratch->tile = allocate(rows * form->width * word);
        scratch->chosen = allocate(p->n * sizeof(int16_t));
        scratch->through = allocate(p->depth * sizeof(int64_t));
        scratch->through_row = p->n; /* none */
        ok = ok && scratch->blocks && scratch->rows && scratch->packed && scratch->tile && scratch->chosen &&
             scratch->through;
    }
    return ok;
}

static void release(struct product *p, int threads)
{
    free(p->panels);
    free(p->right_t);
    free(p->long_left);
    free(p->long_right);
    for (int thread = 0; thread < threads; thread++) {
        struct scratch *scratch = &p->scratch[thread];
        free(scratch->blocks);
        free(scratch->rows);
        free(scratch->packed);
        free(scratch->tile);
        free(scratch->chosen);
        free(scratch->through);
    }
}

/* The whole product or set of alternatives. False: not enough memory. It stops early if an operand is negative. */
static int solve(struct product *p, int threads)
{
    int ok = prepare(p, threads);
    if (ok) {
        run(pack_rows, p, pieces(p->n, ROWS_AT_ONCE), threads);
        if (p->left != p->right)
            run(scan_left, p, p->n, threads);
        if (p->head != p->left && p->head != p->right)
            run(scan_head, p, p->n, threads);
    }
    if (ok && !p->negative && p->any_long) {
        p->right_t = allocate(p->n * p->depth * sizeof(int64_t));
        ok = p->right_t != NULL;
        if (ok)
            run(transpose_right, p, pieces(p->n, SQUARE), threads);
    }
    if (ok && !p->negative)
        run(multiply, p, pieces(p->n, GROUP * form->rows), threads);
    release(p, threads);
    return ok;
}
