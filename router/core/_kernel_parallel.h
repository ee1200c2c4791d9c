/* A loop shared among threads, and memory for large tables. */

#define MOST_THREADS 64
#define HUGE_PAGE ((size_t)2 << 20)

/* A stage is run by every thread at once; each takes the next index until there are no more. */
struct loop {
    void (*stage)(void *job, size_t index, int thread);
    void *job;
    size_t count;
    atomic_size_t next;
};

struct worker {
    struct loop *loop;
    int thread;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct loop *loop = worker->loop;
    for (size_t at; (at = atomic_fetch_add(&loop->next, 1)) < loop->count;)
        loop->stage(loop->job, at, worker->thread);
    return NULL;
}

/* Run the stage for every index below count. Threads live as long as the loop: there is nothing to break at a fork. */
static void run(void (*stage)(void *, size_t, int), void *job, size_t count, int threads)
{
    struct loop loop = {.stage = stage, .job = job, .count = count};
    struct worker workers[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    int started = 1;
    for (; started < threads && (size_t)started < count; started++) {
        workers[started] = (struct worker){&loop, started};
        if (pthread_create(&ids[started], NULL, work, &workers[started]))
            break; /* then those that run do all the work */
    }
    workers[0] = (struct worker){&loop, 0};
    work(&workers[0]);
    for (int thread = 1; thread < started; thread++)
        pthread_join(ids[thread], NULL);
}

/* Aligned for vectors. Large tables get huge pages where the system has them: faults would cost as much as the work. */
static void *allocate(size_t bytes)
{
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *memory = aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
#ifdef MADV_HUGEPAGE
    if (memory && bytes >= HUGE_PAGE)
        madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}
