// What stands between the products: bias, activation, batch norm, and the sums over the batch.
//
// Arrays (M, N, H), statistics and gradients of gamma, beta and bias (M, H), contiguous. Sums over the batch are made in
// double precision, a block of COLUMNS columns after the other, so that the block stays in the first-level cache.

#define COLUMNS 32
#define EACH(index, from, to) for (int64_t index = (from); index < (to); index++)

// x (M, N, H), b (M, H) or none  ->  s = x + b, y = activation(s); x may be s.
OPERATION(bias_activation) {
    Array3 x = ARRAY3(0), s = ARRAY3(4), y = ARRAY3(7);
    const REAL* b = POINTER(REAL, 3);
    int64_t members = INTEGER(10), n = INTEGER(11), h = INTEGER(12);
    Range mine = SHARE(members * n, 1);
    EACH(r, mine.first, mine.last) {
        int64_t m = r / n, i = r % n;
        const REAL *from = ROW(x, m, i), *bias = b + m * h;
        REAL *sum = ROW(s, m, i), *to = ROW(y, m, i);
        if (b && s.at) EACH(j, 0, h) sum[j] = from[j] + bias[j];
        if (y.at) {
            const REAL* in = s.at ? sum : from;
            FOR_KIND(INTEGER(13), EACH(j, 0, h) to[j] = activation_value(kind, in[j]));
        }
    }
}

// gy, x, y (M, N, H)  ->  gx = gy * slope(x, y)
OPERATION(activation_backward) {
    Array3 gy = ARRAY3(0), x = ARRAY3(3), y = ARRAY3(6), gx = ARRAY3(9);
    int64_t members = INTEGER(12), n = INTEGER(13), h = INTEGER(14);
    Range mine = SHARE(members * n, 1);
    EACH(r, mine.first, mine.last) {
        int64_t m = r / n, i = r % n;
        const REAL *slope = ROW(gy, m, i), *in = ROW(x, m, i), *out = ROW(y, m, i);
        REAL* to = ROW(gx, m, i);
        FOR_KIND(INTEGER(15), EACH(j, 0, h) to[j] = slope[j] * activation_slope(kind, in[j], out[j]));
    }
}

// As in kernels/masks.py.
static inline uint32_t mixed(uint32_t number) {
    number = (number ^ number >> 16) * 0x7FEB352Du;
    number = (number ^ number >> 15) * 0x846CA68Bu;
    return number ^ number >> 16;
}

// x (M, N, H), keys (M,)  ->  y = x * scale, or 0 where what is drawn is below the threshold
OPERATION(dropout) {
    Array3 x = ARRAY3(0), y = ARRAY3(4);
    const uint32_t* keys = POINTER(uint32_t, 3);
    int64_t members = INTEGER(7), n = INTEGER(8), h = INTEGER(9);
    uint32_t threshold = (uint32_t)INTEGER(10);
    REAL scale = NUMBER(11);
    Range mine = SHARE(members * n, 1);
    EACH(r, mine.first, mine.last) {
        int64_t m = r / n, i = r % n;
        uint32_t row = mixed(mixed((uint32_t)i) + keys[m]);
        const REAL* restrict from = ROW(x, m, i);
        REAL* restrict to = ROW(y, m, i);
        EACH(j, 0, h) to[j] = from[j] * (mixed(row + (uint32_t)j) < threshold ? 0 : scale);
    }
}

// x (M, N, H)  ->  sums (M, H)
OPERATION(column_sums) {
    Array3 x = ARRAY3(0);
    REAL* sums = POINTER(REAL, 3);
    int64_t members = INTEGER(4), n = INTEGER(5), h = INTEGER(6), blocks = (h + COLUMNS - 1) / COLUMNS;
    Range mine = SHARE(members * blocks, 1);
    EACH(block, mine.first, mine.last) {
        int64_t m = block / blocks, start = block % blocks * COLUMNS, width = h - start < COLUMNS ? h - start : COLUMNS;
        double total[COLUMNS] = {0};
        EACH(i, 0, n) {
            const REAL* row = ROW(x, m, i) + start;
            EACH(j, 0, width) total[j] += row[j];
        }
        EACH(j, 0, width) sums[m * h + start + j] = (REAL)total[j];
    }
}

// x (M, N, H), weights (N,), gamma, beta (M, H)  ->  mean, var, inv_std (M, H), y = activation(gamma x_hat + beta)
OPERATION(batch_norm_activation) {
    Array3 x = ARRAY3(0), y = ARRAY3(9);
    const REAL *weights = POINTER(REAL, 3), *gamma = POINTER(REAL, 4), *beta = POINTER(REAL, 5);
    REAL *mean = POINTER(REAL, 6), *var = POINTER(REAL, 7), *inv_std = POINTER(REAL, 8);
    int64_t members = INTEGER(12), n = INTEGER(13), h = INTEGER(14), blocks = (h + COLUMNS - 1) / COLUMNS;
    double eps = arguments[16].number;
    Range mine = SHARE(members * blocks, 1);
    EACH(block, mine.first, mine.last) {
        int64_t m = block / blocks, start = block % blocks * COLUMNS, width = h - start < COLUMNS ? h - start : COLUMNS;
        int64_t place = m * h + start;
        double total[COLUMNS] = {0};
        REAL centre[COLUMNS], scale[COLUMNS], shift[COLUMNS];
        const REAL* first = ROW(x, m, 0) + start;
        EACH(i, 0, n) {
            const REAL* row = ROW(x, m, i) + start;
            EACH(j, 0, width) total[j] += weights[i] * (row[j] - first[j]);
        }
        EACH(j, 0, width) mean[place + j] = centre[j] = (REAL)(first[j] + total[j]), total[j] = 0;
        EACH(i, 0, n) {
            const REAL* row = ROW(x, m, i) + start;
            EACH(j, 0, width) total[j] += weights[i] * ((row[j] - centre[j]) * (row[j] - centre[j]));
        }
        EACH(j, 0, width) {
            var[place + j] = (REAL)total[j];
            double variance = var[place + j] + eps;
            inv_std[place + j] = (REAL)(sqrt(variance) / variance);      // an infinite one gives NaN
            scale[j] = gamma[place + j] * inv_std[place + j];
            shift[j] = beta[place + j];
        }
        EACH(i, 0, n) {
            const REAL* row = ROW(x, m, i) + start;
            REAL* to = ROW(y, m, i) + start;
            FOR_KIND(INTEGER(15),
                     EACH(j, 0, width) to[j] = activation_value(kind, (row[j] - centre[j]) * scale[j] + shift[j]));
        }
    }
}

// gy, x, y (M, N, H), weights (N,), gamma, beta, mean, inv_std (M, H)  ->  gx (M, N, H), ggamma, gbeta (M, H)
OPERATION(batch_norm_activation_backward) {
    Array3 gy = ARRAY3(0), x = ARRAY3(3), y = ARRAY3(6), gx = ARRAY3(14);
    const REAL *weights = POINTER(REAL, 9), *gamma = POINTER(REAL, 10), *beta = POINTER(REAL, 11);
    const REAL *mean = POINTER(REAL, 12), *inv_std = POINTER(REAL, 13);
    REAL *ggamma = POINTER(REAL, 17), *gbeta = POINTER(REAL, 18);
    int64_t members = INTEGER(19), n = INTEGER(20), h = INTEGER(21), blocks = (h + COLUMNS - 1) / COLUMNS;
    Range mine = SHARE(members * blocks, 1);
    EACH(block, mine.first, mine.last) {
        int64_t m = block / blocks, start = block % blocks * COLUMNS, width = h - start < COLUMNS ? h - start : COLUMNS;
        int64_t place = m * h + start;
        double total[COLUMNS] = {0}, product[COLUMNS] = {0};
        REAL centre[COLUMNS], over[COLUMNS], scale[COLUMNS], shift[COLUMNS], g_scale[COLUMNS], g_shift[COLUMNS];
        EACH(j, 0, width) {
            centre[j] = mean[place + j], over[j] = inv_std[place + j];
            scale[j] = gamma[place + j], shift[j] = beta[place + j];
        }
        EACH(i, 0, n) {
            const REAL *slope = ROW(gy, m, i) + start, *in = ROW(x, m, i) + start, *out = ROW(y, m, i) + start;
            REAL* to = ROW(gx, m, i) + start;
            FOR_KIND(INTEGER(22), EACH(j, 0, width) {
                REAL x_hat = (in[j] - centre[j]) * over[j];
                REAL g = slope[j] * activation_slope(kind, scale[j] * x_hat + shift[j], out[j]);
                to[j] = g;
                total[j] += g;
                product[j] += g * x_hat;
            });
        }
        EACH(j, 0, width) {
            gbeta[place + j] = g_shift[j] = (REAL)total[j];
            ggamma[place + j] = g_scale[j] = (REAL)product[j];
        }
        EACH(i, 0, n) {
            const REAL* in = ROW(x, m, i) + start;
            REAL* to = ROW(gx, m, i) + start;
            EACH(j, 0, width) {
                REAL x_hat = (in[j] - centre[j]) * over[j];
                to[j] = scale[j] * over[j] * (to[j] - weights[i] * (g_shift[j] + x_hat * g_scale[j]));
            }
        }
    }
}
