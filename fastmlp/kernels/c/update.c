// Updates of flat buffers, in one pass. A stretch of them is (outer, M, inner): the members of the first layer lie side
// by side in each of its rows, those of other tensors one after the other (outer = 1). lr, penalty (M,).

// new (S,)  ->  running (S,)
OPERATION(moving_average) {
    const REAL* new = POINTER(REAL, 0);
    REAL *running = POINTER(REAL, 1), keep = NUMBER(3), take = NUMBER(4);
    Range mine = SHARE(INTEGER(2), CACHE_LINE);
    EACH(k, mine.first, mine.last) running[k] = keep * running[k] + take * new[k];
}

// Runs the statement for each of this thread's stretches of one member: member m, numbers first .. last of the buffer.
#define EACH_STRETCH(outer, members, inner, ...) do {                                                       \
        Range mine = SHARE((outer) * (members) * (inner), CACHE_LINE);                                      \
        for (int64_t first = mine.first, last; first < mine.last; first = last) {                           \
            int64_t stretch = first / (inner), m = stretch % (members), end = (stretch + 1) * (inner);      \
            last = end < mine.last ? end : mine.last;                                                       \
            __VA_ARGS__                                                                                     \
        }                                                                                                   \
    } while (0)

OPERATION(sgd) {
    const REAL *restrict g = POINTER(REAL, 0), *lr = POINTER(REAL, 1), *l2 = POINTER(REAL, 2);
    REAL* restrict p = POINTER(REAL, 3);
    REAL twice = NUMBER(7);         // 2 where there is a penalty, else 0: d/dw of l2 w^2 is 2 l2 w
    EACH_STRETCH(INTEGER(4), INTEGER(5), INTEGER(6), {
        REAL rate = lr[m], keep = 1 - lr[m] * (twice * l2[m]);
        EACH(k, first, last) p[k] = keep * p[k] - rate * g[k];
    });
}

OPERATION(sgd_momentum) {
    const REAL *restrict g = POINTER(REAL, 0), *lr = POINTER(REAL, 1), *l2 = POINTER(REAL, 2);
    REAL *restrict p = POINTER(REAL, 3), *restrict v = POINTER(REAL, 8), momentum = NUMBER(9);
    REAL twice = NUMBER(7), ahead = INTEGER(10) ? momentum : 0, now = INTEGER(10) ? 1 : 0;
    EACH_STRETCH(INTEGER(4), INTEGER(5), INTEGER(6), {
        REAL rate = lr[m], penalty = twice * l2[m];
        EACH(k, first, last) {
            REAL slope = g[k] + penalty * p[k];
            v[k] = momentum * v[k] + slope;
            p[k] -= rate * (now ? slope + ahead * v[k] : v[k]);
        }
    });
}

OPERATION(adam) {
    const REAL *restrict g = POINTER(REAL, 0), *lr = POINTER(REAL, 1), *l2 = POINTER(REAL, 2);
    REAL *restrict p = POINTER(REAL, 3), *restrict mean = POINTER(REAL, 8), *restrict square = POINTER(REAL, 9);
    const REAL* corrections = POINTER(REAL, 10);
    REAL twice = NUMBER(7), keep1 = NUMBER(11), take1 = NUMBER(12), keep2 = NUMBER(13), take2 = NUMBER(14), eps = NUMBER(15);
    int64_t decoupled = INTEGER(16);
    EACH_STRETCH(INTEGER(4), INTEGER(5), INTEGER(6), {
        REAL penalty = twice * l2[m], keep = decoupled ? 1 - lr[m] * penalty : 1, inside = decoupled ? 0 : penalty;
        REAL rate = lr[m] / corrections[0], over = 1 / corrections[1];
        EACH(k, first, last) {
            REAL slope = g[k] + inside * p[k];
            mean[k] = keep1 * mean[k] + take1 * slope;
            square[k] = keep2 * square[k] + take2 * (slope * slope);
            p[k] = keep * p[k] - rate * mean[k] / (SQRT(square[k] * over) + eps);
        }
    });
}
