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

// Pixels first .. last of an image that is mirrored or not, and then shifted; lines and edges repeat where it ends. Each
// line is its edge, some of the image's line, and its other edge.
#define MOVE(name, Source)                                                                                  \
    static void name(const Source* image, int64_t height, int64_t width, int64_t mirror, int64_t down,      \
                     int64_t right, int64_t first, int64_t last, Source* restrict to) {                     \
        int64_t line = first / width, i = line % height, j = first % width;                                 \
        for (int64_t k = first; k < last; line++, i = i + 1 < height ? i + 1 : 0, j = 0) {                  \
            const Source* restrict from = image + (line - i + CLAMP(i - down, 0, height - 1)) * width;      \
            Source* restrict at = to + k - first - j;                                                       \
            int64_t end = SMALLER(width, j + last - k);                                                     \
            int64_t inside = CLAMP(right, j, end), beyond = CLAMP(width + right, j, end);                   \
            k += end - j;                                                                                   \
            for (; j < inside; j++) at[j] = from[mirror ? width - 1 : 0];                                   \
            if (mirror)                                                                                     \
                for (; j < beyond; j++) at[j] = from[width - 1 + right - j];                                \
            else                                                                                            \
                memcpy(at + j, from + j - right, (size_t)(beyond - j) * sizeof(Source)), j = beyond;        \
            for (; j < end; j++) at[j] = from[mirror ? 0 : width - 1];                                      \
        }                                                                                                   \
    }

// As GATHER; mirror, down, right (N,), height and width of an image. So many pixels at a time are moved into a buffer and
// standardised from there: two passes without a condition are faster than one with some, and more pixels slower again.
#define PIXELS 256

#define GATHER_MOVED(name, Source, move)                                                                    \
    OPERATION(name) {                                                                                       \
        const Source* data = POINTER(Source, 0);                                                            \
        const int64_t *labels = POINTER(int64_t, 1), *rows = POINTER(int64_t, 2);                           \
        const int64_t *mirror = POINTER(int64_t, 3), *down = POINTER(int64_t, 4), *right = POINTER(int64_t, 5); \
        const REAL *mean = POINTER(REAL, 6), *inv_std = POINTER(REAL, 7);                                   \
        REAL *x = POINTER(REAL, 8), *targets = POINTER(REAL, 9);                                            \
        int64_t n = INTEGER(10), d = INTEGER(11), c = INTEGER(12), height = INTEGER(13), width = INTEGER(14); \
        Range mine = SHARE(d, CACHE_LINE);                                                                  \
        Source pixels[PIXELS];                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                     \
            for (int64_t first = mine.first, last; first < mine.last; first = last) {                       \
                last = SMALLER(first + PIXELS, mine.last);                                                  \
                move(data + rows[i] * d, height, width, mirror[i], down[i], right[i], first, last, pixels); \
                REAL* restrict to = x + i * d + first;                                                      \
                if (mean)                                                                                   \
                    for (int64_t k = 0; k < last - first; k++)                                              \
                        to[k] = ((REAL)pixels[k] - mean[first + k]) * inv_std[first + k];                   \
                else                                                                                        \
                    for (int64_t k = 0; k < last - first; k++) to[k] = (REAL)pixels[k];                     \
            }                                                                                               \
        if (thread == 0) one_hot(labels, rows, n, c, targets);                                              \
    }

MOVE(move_bytes, uint8_t)
MOVE(move_numbers, REAL)
GATHER_MOVED(gather_moved_bytes, uint8_t, move_bytes)
GATHER_MOVED(gather_moved_numbers, REAL, move_numbers)

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
