// Threads that run a list of operations together, in order, each doing its share of every operation.
//
// Between two operations all wait for the last one: a few hundred nanoseconds, as they look for each other without
// sleeping. Who waits for long gives the processor away, so that a busy machine is no catastrophe, and between two
// lists the threads sleep. A process that was forked begins with no threads and makes new ones.

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

typedef struct { void (*run)(const Word*, int64_t, int64_t); const Word* arguments; } Call;

// In every thread, while it computes, denormal numbers count as zero: see kernels/denormals.py.
#if defined(__SSE__)
typedef uint32_t Rounding;
static Rounding rounding(void) { return __builtin_ia32_stmxcsr(); }
static void set_rounding(Rounding mode) { __builtin_ia32_ldmxcsr(mode); }
#define FLUSHING 0x8040     // results, and what is read
#elif defined(__aarch64__)
typedef uint64_t Rounding;
static Rounding rounding(void) { Rounding mode; __asm__ volatile("mrs %0, fpcr" : "=r"(mode)); return mode; }
static void set_rounding(Rounding mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#define FLUSHING (1 << 24)
#else
typedef int Rounding;
static Rounding rounding(void) { return 0; }
static void set_rounding(Rounding mode) { (void)mode; }
#define FLUSHING 0
#endif

#define MOST_THREADS 64
#define PATIENCE 2000       // looks before the processor is given away: some 50 microseconds

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER;      // one list at a time
static pthread_mutex_t asleep = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static int64_t workers;                                         // threads that were made; the caller is one more
static const Call* list;
static int64_t list_length;
static _Atomic int64_t order;       // lists so far * MOST_THREADS + threads of this one, so that both are read at once
static _Atomic int64_t arrivals;    // at all barriers so far; it only grows, so nobody can miss its goal

static void wait_for(_Atomic int64_t* counter, int64_t goal) {
    for (int64_t looks = 0; atomic_load_explicit(counter, memory_order_acquire) < goal; looks++)
        if (looks < PATIENCE) RELAX();
        else sched_yield();
}

static void do_share(const Call* calls, int64_t n, int64_t thread, int64_t threads, int64_t arrived_before) {
    for (int64_t k = 0; k < n; k++) {
        calls[k].run(calls[k].arguments, thread, threads);
        if (threads > 1) {
            atomic_fetch_add_explicit(&arrivals, 1, memory_order_acq_rel);
            wait_for(&arrivals, arrived_before + (k + 1) * threads);
        }
    }
}

static int64_t begun_at;        // `arrivals` when the list at hand began

static void* work(void* number) {
    int64_t thread = (int64_t)(intptr_t)number, seen = 0;
    set_rounding(rounding() | FLUSHING);
    for (;;) {
        int64_t looks = 0;
        while (atomic_load_explicit(&order, memory_order_acquire) == seen && looks++ < PATIENCE) RELAX();
        if (looks > PATIENCE) {
            pthread_mutex_lock(&asleep);
            while (atomic_load(&order) == seen) pthread_cond_wait(&wake, &asleep);
            pthread_mutex_unlock(&asleep);
        }
        seen = atomic_load_explicit(&order, memory_order_acquire);
        int64_t threads = seen % MOST_THREADS;
        if (thread < threads) do_share(list, list_length, thread, threads, begun_at);
    }
    return NULL;
}

static void forget_threads(void) {
    workers = 0;
    atomic_store(&order, 0);
    pthread_mutex_init(&in_use, NULL);
    pthread_mutex_init(&asleep, NULL);
    pthread_cond_init(&wake, NULL);
}

// When the library is loaded: also a process of one thread may be forked while it computes.
static __attribute__((constructor)) void prepare_for_forks(void) { pthread_atfork(NULL, NULL, forget_threads); }

static void make_threads(int64_t wanted) {
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_t ignored;
    while (workers < wanted && !pthread_create(&ignored, &detached, work, (void*)(intptr_t)(workers + 1))) workers++;
    pthread_attr_destroy(&detached);
}

// Run the calls on so many threads, the calling one among them; fewer, where the system gives no more.
void run_calls(const Call* calls, int64_t n, int64_t threads) {
    pthread_mutex_lock(&in_use);
    if (threads > MOST_THREADS - 1) threads = MOST_THREADS - 1;
    if (threads - 1 > workers) make_threads(threads - 1);
    if (threads > workers + 1) threads = workers + 1;
    int64_t before = atomic_load(&arrivals);
    if (threads > 1) {
        list = calls, list_length = n, begun_at = before;
        pthread_mutex_lock(&asleep);
        atomic_store(&order, (atomic_load(&order) / MOST_THREADS + 1) * MOST_THREADS + threads);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&asleep);
    }
    Rounding usual = rounding();
    set_rounding(usual | FLUSHING);
    do_share(calls, n, 0, threads, before);
    set_rounding(usual);
    pthread_mutex_unlock(&in_use);
}
