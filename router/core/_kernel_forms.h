/* The inner loops in every form this machine's compiler knows, and the choice among them when the module is loaded. */

#define MISSING ((uint32_t)INT32_MAX) /* of a packed operand; two of them do not overflow 32 unsigned bits */
#define OPERAND_BITS 30               /* real packed operands are below 1 << 30, so two of them are below MISSING */
#define DIRECT (-1)
#define MOST_WIDTH 48 /* of a tile below */

struct range {
    int64_t min, max;
};

/* One instruction set's loops; `_kernel_lanes.h` says what each does. */
struct form {
    const char *name;
    size_t rows, width;
    void (*tile)(const uint32_t *, const uint32_t *, size_t, uint32_t *, size_t);
    void (*insert)(uint32_t *, const uint32_t *, size_t, size_t);
    struct range (*pack_right)(const int64_t *, size_t, int64_t, int64_t, int, uint32_t *);
    void (*pack_left)(const int64_t *, size_t, int64_t, int64_t, int, uint32_t *);
    void (*interleave)(const uint32_t *, size_t, const int32_t *, size_t, uint32_t *);
    int (*unpack)(const uint32_t *, const int64_t *, size_t, int64_t, int, int64_t *, int16_t *);
    void (*unpack_top)(const uint32_t *, size_t, size_t, int64_t, int, int64_t *, int16_t *);
    void (*spread)(const int16_t *, size_t, int16_t *);
    int64_t (*relax)(const int64_t *, size_t, int64_t, int64_t, int64_t, int64_t *, int64_t *);
    int64_t (*shift)(const int64_t *, size_t, int64_t, int64_t, const int64_t *, int64_t, int64_t *);
    int64_t (*least_sum)(const int64_t *, const int64_t *, size_t);
    int (*concerns)(int64_t, const int64_t *, const int64_t *, const int16_t *, int16_t, size_t);
};

/* Whatever the compiler makes of four lanes: SSE2, NEON, or scalars. */
typedef uint32_t four __attribute__((vector_size(16)));
#define FORM(name) name##_portable
#define FORM_NAME "portable"
#define TARGET
#define VECTOR four
#define LANES 4
#define LOAD(p) (*(const four *)(p))
#define STORE(p, x) (*(four *)(p) = (x))
#define SPREAD(x) ((four){(x), (x), (x), (x)})
#define ADD(x, y) ((x) + (y))
#define MIN(x, y) (((x) & ((x) < (y))) | ((y) & ~((x) < (y))))
#define MAX(x, y) (((y) & ((x) < (y))) | ((x) & ~((x) < (y))))
#define ROWS 4
#define VECTORS 2
#include "_kernel_lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define FORM(name) name##_avx2
#define FORM_NAME "avx2"
#define TARGET __attribute__((target("avx2")))
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define STORE(p, x) _mm256_store_si256((__m256i *)(p), (x))
#define SPREAD(x) _mm256_set1_epi32((int)(x))
#define ADD(x, y) _mm256_add_epi32((x), (y))
#define MIN(x, y) _mm256_min_epu32((x), (y))
#define MAX(x, y) _mm256_max_epu32((x), (y))
#define ROWS 6
#define VECTORS 2
#include "_kernel_lanes.h"

#define FORM(name) name##_avx512
#define FORM_NAME "avx512"
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#define VECTOR __m512i
#define LANES 16
#define LOAD(p) _mm512_load_si512((const void *)(p))
#define STORE(p, x) _mm512_store_si512((void *)(p), (x))
#define SPREAD(x) _mm512_set1_epi32((int)(x))
#define ADD(x, y) _mm512_add_epi32((x), (y))
#define MIN(x, y) _mm512_min_epu32((x), (y))
#define MAX(x, y) _mm512_max_epu32((x), (y))
#define ROWS 8
#define VECTORS 3
#include "_kernel_lanes.h"
#endif

static const struct form *form = &form_portable;

/* Switch to the form of that name if this machine can run it; an empty name means the fastest that it can. */
static int choose_form(const char *name)
{
    const struct form *usable[3] = {&form_portable};
    int count = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        usable[count++] = &form_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        usable[count++] = &form_avx512;
#endif
    for (int at = count - 1; at >= 0; at--)
        if (!*name || !strcmp(usable[at]->name, name)) {
            form = usable[at];
            return 1;
        }
    return 0;
}
