// Batch norm and activation of TILE units (columns) over the whole batch, by one block; formulas as in
// kernels/reference.py.
//
// A block is TILE_THREADS x groups threads. Thread by thread, an element belongs to the same thread as in tiles.cuh: row
// group * TILE + tile_row() and every (groups * TILE)th after it, columns tile_column() + 0 .. 3. So what a thread has
// written it may read again without a barrier.

// Where a layer's (N, H) arrays of one member lie, and the block's columns of it.
struct Units {
    size_t corner;          // offset of the member's element (0, 0)
    int row;                // elements from one row to the next
    int n, h;               // rows and columns of the member
    int first;              // column of the block
    int vector;             // offset of the member's part of gamma, beta, mean, ...

    __device__ int column(int j) const { return first + tile_column() + j; }
    __device__ size_t at(int i, int j) const { return corner + (size_t)i * row + column(j); }
    __device__ int first_row() const { return threadIdx.y * TILE + tile_row(); }
    __device__ int next_row() const { return blockDim.y * TILE; }
};

struct ColumnSums {
    REAL parts[MOST_GROUPS * TILE_THREADS / 32][TILE];
    REAL total[TILE];
};

// The sums of each column over all rows, in a fixed order, handed to all threads. `values` are a thread's parts.
__device__ inline void sum_columns(REAL values[QUAD], ColumnSums& shared) {
    const int warp = (threadIdx.y * TILE_THREADS + threadIdx.x) / 32, warps = blockDim.y * TILE_THREADS / 32;
    #pragma unroll
    for (int j = 0; j < QUAD; j++) {            // a warp holds 4 rows of 8 quads
        values[j] += __shfl_xor_sync(0xffffffffu, values[j], 8);
        values[j] += __shfl_xor_sync(0xffffffffu, values[j], 16);
    }
    __syncthreads();                            // whoever still reads the last totals comes first
    if (threadIdx.x % 32 < TILE / QUAD)
        for (int j = 0; j < QUAD; j++) shared.parts[warp][tile_column() + j] = values[j];
    __syncthreads();
    if (threadIdx.y == 0 && threadIdx.x < TILE) {
        REAL total = 0;
        for (int k = 0; k < warps; k++) total += shared.parts[k][threadIdx.x];
        shared.total[threadIdx.x] = total;
    }
    __syncthreads();
    for (int j = 0; j < QUAD; j++) values[j] = shared.total[tile_column() + j];
}

// x  ->  mean, var, inv_std, y. Per element: x read 3 times (the later ones hit the cache), y written once.
__device__ inline void normalise_columns(const Units& u, const REAL* x, const REAL* weights, const REAL* gamma,
                                         const REAL* beta, REAL* mean, REAL* var, REAL* inv_std, REAL* y, int kind,
                                         double eps, ColumnSums& shared) {
    REAL centre[QUAD] = {0}, spread[QUAD] = {0};
    __syncthreads();                            // all read the first row, which one of them may just have written
    #pragma unroll 1
    for (int i = u.first_row(); i < u.n; i += u.next_row())
        for (int j = 0; j < QUAD; j++)
            if (u.column(j) < u.h) centre[j] += weights[i] * (x[u.at(i, j)] - x[u.at(0, j)]);
    sum_columns(centre, shared);
    for (int j = 0; j < QUAD; j++)
        if (u.column(j) < u.h) centre[j] += x[u.at(0, j)];
    #pragma unroll 1
    for (int i = u.first_row(); i < u.n; i += u.next_row())
        for (int j = 0; j < QUAD; j++)
            if (u.column(j) < u.h) {
                REAL d = x[u.at(i, j)] - centre[j];
                spread[j] += weights[i] * d * d;
            }
    sum_columns(spread, shared);
    for (int j = 0; j < QUAD; j++) {
        if (u.column(j) >= u.h) continue;
        int unit = u.vector + u.column(j);
        REAL variance = spread[j] + REAL(eps), inverse = sqrt(variance) / variance;     // infinite ones give NaN
        REAL scale = gamma[unit], shift = beta[unit];
        if (u.first_row() == 0) {
            mean[unit] = centre[j];
            var[unit] = spread[j];
            inv_std[unit] = inverse;
        }
        #pragma unroll 1
        for (int i = u.first_row(); i < u.n; i += u.next_row()) {
            REAL x_hat = (x[u.at(i, j)] - centre[j]) * inverse;
            y[u.at(i, j)] = activation_value(kind, scale * x_hat + shift);
        }
    }
}

// gy  ->  gx, ggamma, gbeta. Per element: gy, x, y read twice, gx written once.
__device__ inline void normalise_columns_backward(const Units& u, const REAL* gy, const REAL* x, const REAL* y,
                                                  const REAL* weights, const REAL* gamma, const REAL* beta,
                                                  const REAL* mean, const REAL* inv_std, REAL* gx, REAL* ggamma,
                                                  REAL* gbeta, int kind, ColumnSums& shared) {
    REAL scale[QUAD], shift[QUAD], centre[QUAD], inverse[QUAD], sum_beta[QUAD] = {0}, sum_gamma[QUAD] = {0};
    for (int j = 0; j < QUAD; j++) {
        bool inside = u.column(j) < u.h;
        int unit = u.vector + u.column(j);
        scale[j] = inside ? gamma[unit] : REAL(0);
        shift[j] = inside ? beta[unit] : REAL(0);
        centre[j] = inside ? mean[unit] : REAL(0);
        inverse[j] = inside ? inv_std[unit] : REAL(0);
    }
    #pragma unroll 1
    for (int i = u.first_row(); i < u.n; i += u.next_row())
        for (int j = 0; j < QUAD; j++)
            if (u.column(j) < u.h) {
                size_t at = u.at(i, j);
                REAL x_hat = (x[at] - centre[j]) * inverse[j];
                REAL gs = gy[at] * activation_slope(kind, scale[j] * x_hat + shift[j], y[at]);
                sum_beta[j] += gs;
                sum_gamma[j] += gs * x_hat;
            }
    sum_columns(sum_beta, shared);
    sum_columns(sum_gamma, shared);
    for (int j = 0; j < QUAD; j++) {
        if (u.column(j) >= u.h) continue;
        if (u.first_row() == 0) {
            gbeta[u.vector + u.column(j)] = sum_beta[j];
            ggamma[u.vector + u.column(j)] = sum_gamma[j];
        }
        #pragma unroll 1
        for (int i = u.first_row(); i < u.n; i += u.next_row()) {
            size_t at = u.at(i, j);
            REAL x_hat = (x[at] - centre[j]) * inverse[j];
            REAL gs = gy[at] * activation_slope(kind, scale[j] * x_hat + shift[j], y[at]);
            gx[at] = scale[j] * inverse[j] * (gs - weights[i] * (sum_beta[j] + x_hat * sum_gamma[j]));
        }
    }
}
