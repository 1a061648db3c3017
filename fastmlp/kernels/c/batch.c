// Rows of the data set -> one batch, standardised, and its one-hot targets; the examples' weights.

// data (n, D) Source, labels (n,), rows (N,), mean, inv_std (D,) or none  ->  x (N, D), targets (N, C). One pass: bytes
// become numbers in registers. The threads share the columns, as they do in the first layer's products, so that what one
// has made need not move to the other's cache.
#define GATHER(name, Source)                                                                                \
    OPERATION(name) {                                                                                       \
        const Source* data = POINTER(Source, 0);                                                            \
        const int64_t *labels = POINTER(int64_t, 1), *rows = POINTER(int64_t, 2);                           \
        const REAL *mean = POINTER(REAL, 3), *inv_std = POINTER(REAL, 4);                                   \
        REAL *x = POINTER(REAL, 5), *targets = POINTER(REAL, 6);                                            \
        int64_t n = INTEGER(7), d = INTEGER(8), c = INTEGER(9);                                             \
        Range mine = SHARE(d, CACHE_LINE);                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                                   \
            const Source* restrict from = data + rows[i] * d;                                               \
            REAL* restrict to = x + i * d;                                                                  \
            if (mean)                                                                                       \
                for (int64_t k = mine.first; k < mine.last; k++) to[k] = ((REAL)from[k] - mean[k]) * inv_std[k]; \
            else                                                                                            \
                for (int64_t k = mine.first; k < mine.last; k++) to[k] = (REAL)from[k];                     \
        }                                                                                                   \
        for (int64_t i = 0; thread == 0 && i < n; i++)                                                      \
            for (int64_t k = 0; k < c; k++) targets[i * c + k] = labels[rows[i]] == k;                      \
    }

GATHER(gather_bytes, uint8_t)
GATHER(gather_numbers, REAL)

// sample_weight (n,), rows (N,)  ->  weights (N,): shares of their sum, or 0 if that is 0.
OPERATION(batch_weights) {
    if (thread > 0) return;
    const REAL* sample_weight = POINTER(REAL, 0);
    const int64_t* rows = POINTER(int64_t, 1);
    REAL* weights = POINTER(REAL, 2);
    double total = 0;
    for (int64_t i = 0; i < INTEGER(3); i++) total += sample_weight[rows[i]];
    for (int64_t i = 0; i < INTEGER(3); i++) weights[i] = (REAL)(sample_weight[rows[i]] / (total > 0 ? total : 1));
}
