// A block's part of a matrix product, from tiles in shared memory.
//
// A group of TILE_THREADS threads (threadIdx.x) computes a tile of TILE x TILE results, four neighbouring columns a
// thread. The groups of a block (threadIdx.y, at most MOST_GROUPS) compute tiles below one another, from one and the
// same tile of the right matrix. Per result and step of the contraction: one multiplication and addition; each element
// of the matrices is read once a tile, the next tile's while this one's are multiplied.

#define TILE 32             // rows and columns of a tile, and the part of the contraction in shared memory at a time
#define TILE_THREADS 256
#define MOST_GROUPS (sizeof(REAL) == 4 ? 4 : 2)     // what the registers of a block suffice for
#define QUAD 4              // columns of a thread
#define LOADS (TILE * TILE / TILE_THREADS)

// Element (i, j) lies at data[i * row + j * column]. Reads outside rows x columns give 0, in row `ones` give 1.
struct Matrix {
    const REAL* data;
    int row, column, rows, columns, ones;

    __device__ REAL at(int i, int j) const {
        if (i == ones && j < columns) return REAL(1);
        return i < rows && j < columns ? data[(long long)i * row + (long long)j * column] : REAL(0);
    }
};

__device__ inline Matrix matrix(const REAL* data, int row, int column, int rows, int columns) {
    return Matrix{data, row, column, rows, columns, -1};
}

struct Tiles {
    REAL left[MOST_GROUPS][TILE][TILE + 1];     // rows of the left matrix; one more column, so that columns of it lie
    REAL right[TILE][TILE + QUAD];              // in different banks
};

// Where element e of a tile lies, counted so that neighbouring threads read neighbouring memory.
__device__ inline void place_in_tile(const Matrix& m, int e, int* i, int* j) {
    *i = m.column == 1 ? e / TILE : e % TILE;
    *j = m.column == 1 ? e % TILE : e / TILE;
}

// This thread's row within its tile, and the first of its columns.
__device__ inline int tile_row() { return threadIdx.x / (TILE / QUAD); }
__device__ inline int tile_column() { return threadIdx.x % (TILE / QUAD) * QUAD; }

// Adds to sum the products of left[first_row + tile_row(), k] and right[k, first_column + tile_column() + 0 .. 3] for k
// from `from` up to (not including) `to`, in ascending order. first_row is the group's own. All threads of a block call
// it together.
__device__ inline void multiply_tiles(const Matrix& left, int first_row, const Matrix& right, int first_column, int from,
                                      int to, Tiles& tiles, REAL sum[QUAD]) {
    const int group = threadIdx.y, threads = TILE_THREADS * blockDim.y, thread = group * TILE_THREADS + threadIdx.x;
    REAL next_left[LOADS], next_right[LOADS];

    auto fetch = [&](int k) {
        #pragma unroll
        for (int load = 0; load < LOADS; load++) {
            int i, j;
            place_in_tile(left, load * TILE_THREADS + threadIdx.x, &i, &j);
            next_left[load] = k + j < to ? left.at(first_row + i, k + j) : REAL(0);
            place_in_tile(right, load * threads + thread, &i, &j);
            next_right[load] = i < TILE && j < TILE && k + i < to ? right.at(k + i, first_column + j) : REAL(0);
        }
    };
    fetch(from);
    for (int k = from; k < to; k += TILE) {
        __syncthreads();                        // the last tiles are multiplied
        #pragma unroll
        for (int load = 0; load < LOADS; load++) {
            int i, j;
            place_in_tile(left, load * TILE_THREADS + threadIdx.x, &i, &j);
            tiles.left[group][i][j] = next_left[load];
            place_in_tile(right, load * threads + thread, &i, &j);
            if (i < TILE && j < TILE) tiles.right[i][j] = next_right[load];
        }
        __syncthreads();
        if (k + TILE < to) fetch(k + TILE);
        #pragma unroll 8
        for (int step = 0; step < TILE; step++) {
            REAL factor = tiles.left[group][tile_row()][step];
            #pragma unroll
            for (int j = 0; j < QUAD; j++) sum[j] += factor * tiles.right[step][tile_column() + j];
        }
    }
}
