// Small matrix products with what comes before or after them: a layer forward, a layer backward, one launch each.
//
// Arrays as in kernels/reference.py: w, gw (M, D, H), b, gb (M, H), s, y, gy (M, N, H) are C-contiguous; x and gx
// (M, N, D) are given with their strides between members and between rows, in elements. Null pointers stand for what is
// not there. Reads and writes: see tiles.cuh; every result is written once.

// s = x w + b and, where y is wanted, y = activation(s). Grid (tiles, splits, M), blocks of TILE_THREADS.
//
// Where the contraction is long and the results are few, `splits` blocks share a tile: each writes its part of the sum
// to `parts`, and the one that comes last adds all parts up in order, so that the same input gives the same bits. It
// leaves `arrived` at 0 for the next launch. parts (M, tiles, splits, TILE * TILE), arrived (M, tiles).
extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) linear(
        const REAL* x, const REAL* w, const REAL* b, REAL* s, REAL* y, int n, int d, int h, long long x_member,
        int x_row, int kind, int per_split, REAL* parts, int* arrived) {
    __shared__ Tiles tiles;
    __shared__ bool last;
    const int member = blockIdx.z, splits = gridDim.y, tiles_across = (h + TILE - 1) / TILE;
    const int first_row = blockIdx.x / tiles_across * TILE, first_column = blockIdx.x % tiles_across * TILE;
    const Matrix left = matrix(x + member * x_member, x_row, 1, n, d);
    const Matrix right = matrix(w + (size_t)member * d * h, h, 1, d, h);
    const int from = blockIdx.y * per_split;
    REAL sum[QUAD] = {0};
    multiply_tiles(left, first_row, right, first_column, from, min(d, from + per_split), tiles, sum);

    if (splits > 1) {
        size_t tile = (size_t)member * gridDim.x + blockIdx.x;
        REAL* mine = parts + tile * splits * TILE * TILE + threadIdx.x;
        for (int j = 0; j < QUAD; j++) mine[(blockIdx.y * QUAD + j) * TILE_THREADS] = sum[j];
        __threadfence();                        // my part is there before I am counted
        __syncthreads();
        if (threadIdx.x == 0) last = atomicAdd(&arrived[tile], 1) == splits - 1;
        __syncthreads();
        if (!last) return;
        __threadfence();                        // and the others' parts are read after they were counted
        for (int j = 0; j < QUAD; j++) sum[j] = 0;
        for (int split = 0; split < splits; split++)
            for (int j = 0; j < QUAD; j++) sum[j] += __ldcg(&mine[(split * QUAD + j) * TILE_THREADS]);
        if (threadIdx.x == 0) arrived[tile] = 0;
    }
    int row = first_row + tile_row();
    for (int j = 0; j < QUAD; j++) {
        int column = first_column + tile_column() + j;
        if (row >= n || column >= h) continue;
        size_t at = ((size_t)member * n + row) * h + column;
        REAL value = b ? sum[j] + b[member * h + column] : sum[j];
        s[at] = value;
        if (y) y[at] = activation_value(kind, value);
    }
}

// The tiles are done with when sums begin: sum_columns waits for all threads first.
union Shared {
    Tiles tiles;
    ColumnSums sums;
};

// A hidden layer with batch norm: s = x w, then as batch_norm.cu. Grid (ceil(H / TILE), M), blocks of
// TILE_THREADS x groups; a block has whole columns, so their statistics need no other block.
extern "C" __global__ void __launch_bounds__(TILE_THREADS * MOST_GROUPS) linear_batch_norm_activation(
        const REAL* x, const REAL* w, REAL* s, const REAL* weights, const REAL* gamma, const REAL* beta, REAL* mean,
        REAL* var, REAL* inv_std, REAL* y, int n, int d, int h, long long x_member, int x_row, int kind,
        double eps) {
    __shared__ Shared shared;
    const int member = blockIdx.y;
    const Units units = {(size_t)member * n * h, h, n, h, (int)blockIdx.x * TILE, member * h};
    const Matrix left = matrix(x + member * x_member, x_row, 1, n, d);
    const Matrix right = matrix(w + (size_t)member * d * h, h, 1, d, h);
    for (int above = 0; above < n; above += units.next_row()) {
        REAL sum[QUAD] = {0};
        multiply_tiles(left, above + threadIdx.y * TILE, right, units.first, 0, d, shared.tiles, sum);
        int i = above + units.first_row();
        for (int j = 0; j < QUAD; j++)
            if (i < n && units.column(j) < h) s[units.at(i, j)] = sum[j];
    }
    normalise_columns(units, s, weights, gamma, beta, mean, var, inv_std, y, kind, eps, shared.sums);
}

// What a block of a layer's backward pass multiplies: its part of gw = x^T gy, with gb (the sum of gy's rows) as row
// number D, or of gx = gy w^T.
struct Products {
    Matrix left, right;
    int first_row, first_column, contraction;
};

__device__ inline Products weight_gradient(int block, const REAL* gy, const REAL* x, bool with_bias, int n, int d,
                                           int h, int x_row) {
    const int across = (h + TILE - 1) / TILE;
    Products p = {matrix(x, 1, x_row, d, n), matrix(gy, h, 1, n, h), (int)(block / across * blockDim.y) * TILE,
                  block % across * TILE, n};
    if (with_bias) p.left.ones = d;
    return p;
}

__device__ inline Products input_gradient(int block, const REAL* gy, const REAL* w, int n, int d, int h) {
    const int across = (d + TILE - 1) / TILE;
    return {matrix(gy, h, 1, n, h), matrix(w, 1, h, h, d), (int)(block / across * blockDim.y) * TILE,
            block % across * TILE, h};
}

// One element of gw or gb; gw and gb are the member's.
__device__ inline void store_weight_gradient(REAL* gw, REAL* gb, int row, int column, int d, int h, REAL value) {
    if (column >= h) return;
    if (row < d) gw[(size_t)row * h + column] = value;
    else if (row == d && gb) gb[column] = value;
}

// A layer backward: gw, gb and gx = gy w^T or, where there is an activation below, its gradient gx * slope(s_below,
// y_below), which lie as gx does. Grid (weight_blocks + blocks of gx, M), blocks of TILE_THREADS.
extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) linear_backward(
        const REAL* gy, const REAL* x, const REAL* w, REAL* gw, REAL* gb, REAL* gx, const REAL* s_below,
        const REAL* y_below, int n, int d, int h, long long x_member, int x_row, long long gx_member,
        int gx_row, int kind, int weight_blocks) {
    __shared__ Tiles tiles;
    const int member = blockIdx.y, block = blockIdx.x;
    const bool of_weights = block < weight_blocks;
    gy += (size_t)member * n * h;
    w += (size_t)member * d * h;
    const Products p = of_weights ? weight_gradient(block, gy, x + member * x_member, gb, n, d, h, x_row)
                                  : input_gradient(block - weight_blocks, gy, w, n, d, h);
    REAL sum[QUAD] = {0};
    multiply_tiles(p.left, p.first_row + threadIdx.y * TILE, p.right, p.first_column, 0, p.contraction, tiles, sum);
    const int row = p.first_row + threadIdx.y * TILE + tile_row();
    for (int j = 0; j < QUAD; j++) {
        const int column = p.first_column + tile_column() + j;
        if (of_weights) {
            store_weight_gradient(gw + (size_t)member * d * h, gb ? gb + member * h : gb, row, column, d, h, sum[j]);
        } else if (row < n && column < d) {
            const size_t at = member * gx_member + (long long)row * gx_row + column;
            gx[at] = s_below ? sum[j] * activation_slope(kind, s_below[at], y_below[at]) : sum[j];
        }
    }
}

// A layer backward and on through the batch norm and activation below it. The arrays of the layer below (gy_below, which
// is scratch, s_below, y_below, gs_below) lie as x does. Grid (weight_blocks + ceil(D / TILE), M), blocks of
// TILE_THREADS x groups.
extern "C" __global__ void __launch_bounds__(TILE_THREADS * MOST_GROUPS) linear_backward_batch_norm_activation_backward(
        const REAL* gy, const REAL* x, const REAL* w, REAL* gw, REAL* gb, REAL* gy_below, const REAL* s_below,
        const REAL* y_below, const REAL* weights, const REAL* gamma, const REAL* beta, const REAL* mean,
        const REAL* inv_std, REAL* gs_below, REAL* ggamma, REAL* gbeta, int n, int d, int h, long long x_member,
        int x_row, int kind, int weight_blocks) {
    __shared__ Shared shared;
    const int member = blockIdx.y, block = blockIdx.x;
    const bool of_weights = block < weight_blocks;
    gy += (size_t)member * n * h;
    w += (size_t)member * d * h;
    const Products p = of_weights ? weight_gradient(block, gy, x + member * x_member, gb, n, d, h, x_row)
                                  : input_gradient(block - weight_blocks, gy, w, n, d, h);
    const Units units = {(size_t)(member * x_member), x_row, n, d, p.first_column, member * d};
    const int rows = of_weights ? 1 : n;                    // of weights a block computes once, of units all rows
    for (int above = 0; above < rows; above += units.next_row()) {
        const int first_row = p.first_row + above + threadIdx.y * TILE, row = first_row + tile_row();
        REAL sum[QUAD] = {0};
        multiply_tiles(p.left, first_row, p.right, p.first_column, 0, p.contraction, shared.tiles, sum);
        for (int j = 0; j < QUAD; j++) {
            const int column = p.first_column + tile_column() + j;
            if (of_weights)
                store_weight_gradient(gw + (size_t)member * d * h, gb ? gb + member * h : gb, row, column, d, h, sum[j]);
            else if (row < n && column < d) gy_below[units.at(row, j)] = sum[j];
        }
    }
    if (of_weights) return;
    normalise_columns_backward(units, gy_below, s_below, y_below, weights, gamma, beta, mean, inv_std, gs_below, ggamma,
                               gbeta, kind, shared.sums);
}
