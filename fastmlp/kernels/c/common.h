// What all files share: the number type, an operation's arguments, and a thread's share of the work.
//
// REAL is float or double. Everything is compiled as one file, once for each. An operation is a function of its
// arguments and of the thread that runs it: all threads call it and each does its share, with nothing to wait for
// inside. Which thread does what never changes a result: a sum is made by one thread, in a fixed order.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if DOUBLE
typedef double REAL;
#define EXP exp
#define LOG log
#define SQRT sqrt
#define TANH_OF tanh
#else
typedef float REAL;
#define EXP expf
#define LOG logf
#define SQRT sqrtf
#define TANH_OF tanhf
#endif

typedef union { void* address; int64_t integer; double number; } Word;

#define OPERATION(name) void name(const Word* arguments, int64_t thread, int64_t threads __attribute__((unused)))
#define POINTER(type, k) ((type*)arguments[k].address)
#define INTEGER(k) (arguments[k].integer)
#define NUMBER(k) ((REAL)arguments[k].number)

// An array (M, N, H): where it begins, its strides between members and between rows in elements; the last is 1.
typedef struct { REAL* at; int64_t member, row; } Array3;
#define ARRAY3(k) ((Array3){POINTER(REAL, k), INTEGER((k) + 1), INTEGER((k) + 2)})
#define ROW(array, m, i) ((array).at + (m) * (array).member + (i) * (array).row)

typedef struct { int64_t first, last; } Range;

// The part of 0 .. n that belongs to this thread, in whole grains.
static inline Range share(int64_t n, int64_t grain, int64_t thread, int64_t threads) {
    int64_t grains = (n + grain - 1) / grain;
    int64_t first = grains * thread / threads * grain, last = grains * (thread + 1) / threads * grain;
    return (Range){first, last < n ? last : n};
}

#define SHARE(n, grain) share(n, grain, thread, threads)
#define CACHE_LINE (64 / (int64_t)sizeof(REAL))
