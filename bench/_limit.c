/* The add+min limit of this machine: the two instructions of a min-plus step, in registers only, nothing loaded or stored.
 *
 * Each variant keeps a block of accumulators; a step is `vpaddd` into a scratch register and `vpminsd` into an
 * accumulator, which is what the inside of a dense product cannot do without. The scratch register is renamed by the
 * processor, and each accumulator's chain is one cycle long and comes round after a whole block, so neither delays
 * anything. `add` and `min` variants issue only one of the two: from them the caller learns how many ports there are.
 * The clock is measured by a chain of dependent register adds, one cycle each (adds of a constant would not do: some
 * processors fold them before they execute). Assembly, because a compiler would move the invariant add out of the loop.
 */
#include <pthread.h>

#define BLOCK "0,1,2,3,4,5,6,7,8,9,10,11"
#define TWELVE(body) ".irp r," BLOCK "\n" body ".endr\n"
#define LOOP(body, ...) \
    __asm__ volatile(".p2align 5\n1:\n" body body "dec %0\njnz 1b\n" : "+r"(rounds) : : "cc", __VA_ARGS__)
#define VECTORS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
    "xmm12", "xmm13", "xmm14", "xmm15"

#define ADD(v) "vpaddd %%" v "12, %%" v "13, %%" v "14\n"
#define MIN(v) "vpminsd %%" v "14, %%" v "\\r, %%" v "\\r\n"

/* A round of every vector loop below is 24 instructions (or pairs of add and min). */
static void both_avx2(long rounds) { LOOP(TWELVE(ADD("ymm") MIN("ymm")), VECTORS); }
static void adds_avx2(long rounds) { LOOP(TWELVE("vpaddd %%ymm12, %%ymm13, %%ymm\\r\n"), VECTORS); }
static void mins_avx2(long rounds) { LOOP(TWELVE("vpminsd %%ymm12, %%ymm13, %%ymm\\r\n"), VECTORS); }
static void both_avx512(long rounds) { LOOP(TWELVE(ADD("zmm") MIN("zmm")), VECTORS); }
static void adds_avx512(long rounds) { LOOP(TWELVE("vpaddd %%zmm12, %%zmm13, %%zmm\\r\n"), VECTORS); }
static void mins_avx512(long rounds) { LOOP(TWELVE("vpminsd %%zmm12, %%zmm13, %%zmm\\r\n"), VECTORS); }

/* 24 dependent adds a round: 24 cycles, whatever the machine's width. */
static void clock_chain(long rounds) {
    long sum = 0, one = 1;
    __asm__ volatile(".p2align 5\n1:\n.rept 24\nadd %2, %1\n.endr\ndec %0\njnz 1b\n"
                     : "+r"(rounds), "+r"(sum) : "r"(one) : "cc");
}

typedef void loop(long);
static loop *const LOOPS[] = {clock_chain, both_avx2, adds_avx2, mins_avx2, both_avx512, adds_avx512, mins_avx512};

/* 0: none, 1: AVX2, 2: AVX-512 too. */
int limit_isa(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return 0;
    return __builtin_cpu_supports("avx512f") ? 2 : 1;
}

struct job { loop *work; long rounds; };

static void *run(void *job) {
    const struct job *mine = job;
    mine->work(mine->rounds);
    return 0;
}

/* Runs one loop on so many threads at once, the caller being the last of them; 0, or -1 if a thread cannot start. */
int limit_run(int which, long rounds, int threads) {
    struct job job = {LOOPS[which], rounds};
    pthread_t others[64];
    int started = 0, failed = 0;
    while (started < threads - 1 && started < 64) {
        if (pthread_create(&others[started], 0, run, &job)) { failed = -1; break; }
        started++;
    }
    run(&job);
    for (int i = 0; i < started; i++) pthread_join(others[i], 0);
    return failed;
}
