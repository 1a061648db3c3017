// Rows of the data set -> one batch, standardised, and its one-hot targets; images moved on the way; the examples'
// weights.

static void one_hot(const int64_t* labels, const int64_t* rows, int64_t n, int64_t c, REAL* targets) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++) targets[i * c + k] = labels[rows[i]] == k;
}

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
        if (thread == 0) one_hot(labels, rows, n, c, targets);                                              \
    }

GATHER(gather_bytes, uint8_t)
GATHER(gather_numbers, REAL)

#define SMALLER(a, b) ((a) < (b) ? (a) : (b))
#define CLAMP(value, low, high) ((value) < (low) ? (low) : SMALLER(value, high))

#define AS_IT_IS(pixel, j) ((REAL)(pixel))
#define STANDARDISED(pixel, j) (((REAL)(pixel) - mean[k + (j)]) * inv_std[k + (j)])
#define LINE(VALUE)                                                                                         \
    {                                                                                                       \
        if (mirror[i])                                                                                      \
            for (int64_t j = first; j < last; j++) to[j] = VALUE(from[width - 1 + right - j], j);           \
        else                                                                                                \
            for (int64_t j = first; j < last; j++) to[j] = VALUE(from[j - right], j);                       \
        for (int64_t j = 0; j < inside; j++) to[j] = VALUE(from[mirror[i] ? width - 1 : 0], j);             \
        for (int64_t j = beyond; j < width; j++) to[j] = VALUE(from[mirror[i] ? 0 : width - 1], j);         \
    }

// As GATHER, of images: mirror, down, right (N,); height, width and number of images in the data. The threads share the
// lines of an image. Each line is first copied whole, with its neighbours' pixels where it has ended, and then gets its
// edge: loops of one length, which are whole vectors. The first and last image have no neighbours.
#define GATHER_MOVED(name, Source)                                                                          \
    OPERATION(name) {                                                                                       \
        const Source* data = POINTER(Source, 0);                                                            \
        const int64_t *labels = POINTER(int64_t, 1), *rows = POINTER(int64_t, 2);                           \
        const int64_t *mirror = POINTER(int64_t, 3), *down = POINTER(int64_t, 4), *rights = POINTER(int64_t, 5); \
        const REAL *mean = POINTER(REAL, 6), *inv_std = POINTER(REAL, 7);                                   \
        REAL *x = POINTER(REAL, 8), *targets = POINTER(REAL, 9);                                            \
        int64_t n = INTEGER(10), d = INTEGER(11), c = INTEGER(12);                                          \
        int64_t height = INTEGER(13), width = INTEGER(14), images = INTEGER(15);                            \
        Range mine = SHARE(d, width);                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                                   \
            const Source* image = data + rows[i] * d;                                                       \
            int64_t right = rights[i], inside = right > 0 ? right : 0, beyond = right < 0 ? width + right : width; \
            int64_t alone = rows[i] == 0 || rows[i] == images - 1;                                          \
            int64_t first = alone ? inside : 0, last = alone ? beyond : width;                              \
            int64_t line = mine.first / width % height;                                                     \
            for (int64_t k = mine.first; k < mine.last; k += width) {                                       \
                const Source* restrict from = image + k + (CLAMP(line - down[i], 0, height - 1) - line) * width; \
                REAL* restrict to = x + i * d + k;                                                          \
                if (mean) LINE(STANDARDISED)                                                                \
                else LINE(AS_IT_IS)                                                                         \
                line = line + 1 < height ? line + 1 : 0;                                                    \
            }                                                                                               \
        }                                                                                                   \
        if (thread == 0) one_hot(labels, rows, n, c, targets);                                              \
    }

GATHER_MOVED(gather_moved_bytes, uint8_t)
GATHER_MOVED(gather_moved_numbers, REAL)

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
