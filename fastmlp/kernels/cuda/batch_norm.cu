// Batch norm and activation, forward and backward: one launch each.
//
// Arrays as in kernels/reference.py, C-contiguous: x, y, gy, gx (M, N, H); gamma, beta, mean, var, inv_std (M, H);
// weights (N,). A block is COLUMNS x LANES threads: neighbouring threads read neighbouring columns, so that rows are
// read in whole cache lines, and the LANES of a column share its rows. Grid: (ceil(H / COLUMNS), M).
//
// Per element forward: x is read 3 times (the later ones hit the cache), y written once. Backward: gy, x, y are read
// twice, gx written once.

#define COLUMNS 32
#define LANES 8

// The sum over a column's lanes, in a fixed order, handed to all of them.
__device__ inline REAL column_sum(REAL part, REAL* shared) {
    int here = threadIdx.y * COLUMNS + threadIdx.x;
    __syncthreads();                            // whoever still reads the last sum comes first
    shared[here] = part;
    __syncthreads();
    REAL total = 0;
    for (int lane = 0; lane < LANES; lane++) total += shared[lane * COLUMNS + threadIdx.x];
    return total;
}

extern "C" __global__ void batch_norm_activation(
        const REAL* x, const REAL* weights, const REAL* gamma, const REAL* beta,
        REAL* mean, REAL* var, REAL* inv_std, REAL* y, int n, int h, int kind, double eps) {
    __shared__ REAL shared[COLUMNS * LANES];
    int column = blockIdx.x * COLUMNS + threadIdx.x;
    bool inside = column < h;                   // all threads reach the barriers, also those beyond the last column
    const REAL* xs = x + (size_t)blockIdx.y * n * h + column;
    REAL* ys = y + (size_t)blockIdx.y * n * h + column;

    REAL part = 0;
    for (int row = threadIdx.y; inside && row < n; row += LANES) part += weights[row] * xs[(size_t)row * h];
    REAL centre = column_sum(part, shared);

    part = 0;
    for (int row = threadIdx.y; inside && row < n; row += LANES) {
        REAL d = xs[(size_t)row * h] - centre;
        part += weights[row] * d * d;
    }
    REAL spread = column_sum(part, shared);
    if (!inside) return;

    int unit = blockIdx.y * h + column;
    REAL inverse = 1 / sqrt(spread + REAL(eps));
    if (threadIdx.y == 0) {
        mean[unit] = centre;
        var[unit] = spread;
        inv_std[unit] = inverse;
    }
    REAL scale = gamma[unit], shift = beta[unit];
    for (int row = threadIdx.y; row < n; row += LANES) {
        REAL x_hat = (xs[(size_t)row * h] - centre) * inverse;
        ys[(size_t)row * h] = activation_value(kind, scale * x_hat + shift);
    }
}

extern "C" __global__ void batch_norm_activation_backward(
        const REAL* gy, const REAL* x, const REAL* y, const REAL* weights, const REAL* gamma, const REAL* beta,
        const REAL* mean, const REAL* inv_std, REAL* gx, REAL* ggamma, REAL* gbeta, int n, int h, int kind) {
    __shared__ REAL shared[COLUMNS * LANES];
    int column = blockIdx.x * COLUMNS + threadIdx.x;
    bool inside = column < h;
    size_t corner = (size_t)blockIdx.y * n * h + column;
    int unit = blockIdx.y * h + column;
    REAL scale = inside ? gamma[unit] : REAL(0), shift = inside ? beta[unit] : REAL(0);
    REAL centre = inside ? mean[unit] : REAL(0), inverse = inside ? inv_std[unit] : REAL(0);

    REAL part_beta = 0, part_gamma = 0;
    for (int row = threadIdx.y; inside && row < n; row += LANES) {
        size_t at = corner + (size_t)row * h;
        REAL x_hat = (x[at] - centre) * inverse;
        REAL gs = gy[at] * activation_slope(kind, scale * x_hat + shift, y[at]);
        part_beta += gs;
        part_gamma += gs * x_hat;
    }
    REAL sum_beta = column_sum(part_beta, shared);
    REAL sum_gamma = column_sum(part_gamma, shared);
    if (!inside) return;

    if (threadIdx.y == 0) {
        gbeta[unit] = sum_beta;
        ggamma[unit] = sum_gamma;
    }
    for (int row = threadIdx.y; row < n; row += LANES) {
        size_t at = corner + (size_t)row * h;
        REAL x_hat = (x[at] - centre) * inverse;
        REAL gs = gy[at] * activation_slope(kind, scale * x_hat + shift, y[at]);
        gx[at] = scale * inverse * (gs - weights[row] * (sum_beta + x_hat * sum_gamma));
    }
}
