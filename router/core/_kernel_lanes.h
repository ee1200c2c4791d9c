/* The inner loops, compiled once for each instruction set: `_kernel.c` includes this file again and again.
 *
 * Set by whoever includes: FORM(name) pastes the suffix of the form; TARGET is the attribute that lets the compiler use
 * the instructions; VECTOR, LANES, LOAD, STORE, SPREAD, ADD, MIN work on unsigned 32-bit lanes; ROWS x VECTORS
 * accumulators plus VECTORS of the right operand must fit in the registers.
 */

#define WIDTH (VECTORS * LANES)

/* out[r][w] = min over k of a[k][r] + b[k][w]: everything lives in registers, an add and a min a step. */
TARGET static void FORM(tile)(const uint32_t *a, const uint32_t *b, size_t depth, uint32_t *out, size_t stride)
{
    VECTOR least[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++)
            least[r][v] = SPREAD(MISSING);
    for (size_t k = 0; k < depth; k++, a += ROWS, b += WIDTH) {
        VECTOR right[VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++)
            right[v] = LOAD(b + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            VECTOR left = SPREAD(a[r]);
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++)
                least[r][v] = MIN(least[r][v], ADD(left, right[v]));
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++)
            STORE(out + r * stride + v * LANES, least[r][v]);
}

/* Sort a tile of candidates into the three least so far, lane by lane; `layer` and `stride` are those of top. */
TARGET static void FORM(insert)(uint32_t *top, const uint32_t *candidates, size_t layer, size_t stride)
{
    for (int r = 0; r < ROWS; r++, top += stride, candidates += WIDTH)
        for (int w = 0; w < WIDTH; w += LANES) {
            uint32_t *first = top + w, *second = first + layer, *third = second + layer;
            VECTOR value = LOAD(candidates + w), held = LOAD(first);
            STORE(first, MIN(held, value));
            value = MAX(held, value);
            held = LOAD(second);
            STORE(second, MIN(held, value));
            value = MAX(held, value);
            STORE(third, MIN(LOAD(third), value));
        }
}

/* Pack a piece of a row of the right operand; the range tells what is negative or too long for packing. */
TARGET static struct range FORM(pack_right)(const int64_t *restrict row, size_t width, int64_t limit, int64_t clamp,
                                            int bits, uint32_t *restrict packed)
{
    int64_t most = 0, least = 0;
    for (size_t w = 0; w < width; w++) {
        int64_t cost = row[w], real = cost < limit ? cost : 0;
        least = cost < least ? cost : least;
        most = real > most ? real : most;
        packed[w] = cost < clamp ? (uint32_t)cost << bits : MISSING;
    }
    return (struct range){least, most};
}

/* Pack a row of the left operand, relay number and toll included. */
TARGET static void FORM(pack_left)(const int64_t *restrict row, size_t n, int64_t toll, int64_t clamp, int bits,
                                   uint32_t *restrict packed)
{
    for (size_t k = 0; k < n; k++) /* row[k] may be anything up to INT64_MAX where missing: compare before adding */
        packed[k] = row[k] < clamp - toll ? (uint32_t)(row[k] + toll) << bits | (uint32_t)(k + 1) : MISSING;
}

/* A block of packed left rows, only those that may relay and in their order: [k][row]. */
TARGET static void FORM(interleave)(const uint32_t *restrict rows, size_t n, const int32_t *restrict relays,
                                    size_t depth, uint32_t *restrict block)
{
    for (size_t k = 0; k < depth; k++)
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
            block[k * ROWS + r] = rows[r * n + relays[k]];
}

/* Cost and relay of a row, against the head; returns how many are relayed. */
TARGET static int FORM(unpack)(const uint32_t *restrict packed, const int64_t *restrict head, size_t n, int64_t limit,
                               int bits, int64_t *restrict best, int16_t *restrict relay)
{
    int relayed = 0;
    for (size_t w = 0; w < n; w++) {
        int64_t straight = head[w] < limit ? head[w] : 2 * limit;
        int64_t via = packed[w] < MISSING ? (int64_t)(packed[w] >> bits) : 2 * limit;
        int better = via < straight;
        best[w] = better ? via : straight;
        relay[w] = better ? (int16_t)((packed[w] & ((1u << bits) - 1)) - 1) : DIRECT;
        relayed += better;
    }
    return relayed;
}

/* Cost and relay of the three alternatives of a row, from three layers. */
TARGET static void FORM(unpack_top)(const uint32_t *restrict packed, size_t layer, size_t n, int64_t limit, int bits,
                                    int64_t *restrict best, int16_t *restrict relay)
{
    const uint32_t *first = packed, *second = packed + layer, *third = second + layer, mask = (1u << bits) - 1;
#define COST(x) ((x) < MISSING ? (int64_t)((x) >> bits) : 2 * limit)
#define RELAY(x) ((x) < MISSING ? (int16_t)(((x) & mask) - 1) : DIRECT)
    for (size_t w = 0; w < n; w++) {
        best[3 * w] = COST(first[w]);
        best[3 * w + 1] = COST(second[w]);
        best[3 * w + 2] = COST(third[w]);
    }
    for (size_t w = 0; w < n; w++) {
        relay[3 * w] = RELAY(first[w]);
        relay[3 * w + 1] = RELAY(second[w]);
        relay[3 * w + 2] = RELAY(third[w]);
    }
#undef COST
#undef RELAY
}

/* Relays of a row into the first of three slots, the others being DIRECT. */
TARGET static void FORM(spread)(const int16_t *restrict relay, size_t n, int16_t *restrict slots)
{
    for (size_t w = 0; w < n; w++) {
        slots[3 * w] = relay[w];
        slots[3 * w + 1] = DIRECT;
        slots[3 * w + 2] = DIRECT;
    }
}

/* Offer every vertex the way over u, whose potential is `base`; returns how many take it. */
TARGET static int64_t FORM(relax)(const int64_t *restrict row, size_t n, int64_t limit, int64_t base, int64_t u,
                                  int64_t *restrict potential, int64_t *restrict before)
{
    int64_t taken = 0;
    for (size_t v = 0; v < n; v++) {
        int64_t through = row[v] < limit ? row[v] + base : INT64_MAX;
        int better = through < potential[v];
        potential[v] = better ? through : potential[v];
        before[v] = better ? u : before[v];
        taken += better;
    }
    return taken;
}

/* Add base minus the potential of the end to a row of costs; returns how many are too long now. */
TARGET static int64_t FORM(shift)(const int64_t *restrict row, size_t n, int64_t limit, int64_t base,
                                  const int64_t *restrict potential, int64_t new_limit, int64_t *restrict result)
{
    int64_t lost = 0;
    for (size_t v = 0; v < n; v++) {
        int64_t cost = row[v] < limit ? row[v] + (base - potential[v]) : INT64_MAX;
        result[v] = cost < new_limit ? cost : 2 * new_limit;
        lost += row[v] < limit && cost >= new_limit;
    }
    return lost;
}

/* min over k of a[k] + b[k] in full width, for what cannot be packed. */
TARGET static int64_t FORM(least_sum)(const int64_t *restrict a, const int64_t *restrict b, size_t depth)
{
    int64_t least = INT64_MAX;
    for (size_t k = 0; k < depth; k++)
        least = a[k] + b[k] < least ? a[k] + b[k] : least;
    return least;
}

/* Might any of these entries change if a path over `relay` costs base + rest[w] now? May say yes too often. */
TARGET static int FORM(concerns)(int64_t base, const int64_t *restrict rest, const int64_t *restrict best,
                                 const int16_t *restrict relays, int16_t relay, size_t width)
{
    int64_t cheaper = 0;
    int16_t uses = 0;
    for (size_t w = 0; w < width; w++)
        cheaper |= base + rest[w] <= best[w];
    for (size_t w = 0; w < width; w++)
        uses |= relays[w] == relay;
    return cheaper || uses;
}

static const struct form FORM(form) = {
    .name = FORM_NAME,
    .rows = ROWS,
    .width = WIDTH,
    .tile = FORM(tile),
    .insert = FORM(insert),
    .pack_right = FORM(pack_right),
    .pack_left = FORM(pack_left),
    .interleave = FORM(interleave),
    .unpack = FORM(unpack),
    .unpack_top = FORM(unpack_top),
    .spread = FORM(spread),
    .relax = FORM(relax),
    .shift = FORM(shift),
    .least_sum = FORM(least_sum),
    .concerns = FORM(concerns),
};

#undef WIDTH
#undef FORM
#undef FORM_NAME
#undef TARGET
#undef VECTOR
#undef LANES
#undef LOAD
#undef STORE
#undef SPREAD
#undef ADD
#undef MIN
#undef MAX
#undef ROWS
#undef VECTORS
