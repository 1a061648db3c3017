// Batch norm and activation, forward and backward: one launch each.
//
// Arrays as in kernels/reference.py, C-contiguous: x, y, gy, gx (M, N, H); gamma, beta, mean, var, inv_std (M, H);
// weights (N,). Grid (ceil(H / TILE), M), blocks of TILE_THREADS x groups: see columns.cuh for reads and writes.
// One block a multiprocessor is asked for: to fit two, nvcc spills registers.

extern "C" __global__ void __launch_bounds__(TILE_THREADS * MOST_GROUPS, 1) batch_norm_activation(
        const REAL* x, const REAL* weights, const REAL* gamma, const REAL* beta, REAL* mean, REAL* var, REAL* inv_std,
        REAL* y, int n, int h, int kind, double eps) {
    __shared__ ColumnSums sums;
    int member = blockIdx.y;
    Units units = {(size_t)member * n * h, h, n, h, (int)blockIdx.x * TILE, member * h};
    normalise_columns(units, x, weights, gamma, beta, mean, var, inv_std, y, kind, eps, sums);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS * MOST_GROUPS, 1) batch_norm_activation_backward(
        const REAL* gy, const REAL* x, const REAL* y, const REAL* weights, const REAL* gamma, const REAL* beta,
        const REAL* mean, const REAL* inv_std, REAL* gx, REAL* ggamma, REAL* gbeta, int n, int h, int kind) {
    __shared__ ColumnSums sums;
    int member = blockIdx.y;
    Units units = {(size_t)member * n * h, h, n, h, (int)blockIdx.x * TILE, member * h};
    normalise_columns_backward(units, gy, x, y, weights, gamma, beta, mean, inv_std, gx, ggamma, gbeta, kind, sums);
}
