// One batch of the data set: its rows, standardised, images moved on the way, its one-hot targets, and its examples'
// weights.

// Grid (N), blocks of 256: a block copies one row. Reads each chosen element once, with its mean and inv_std (which stay
// in the cache), and writes it once. `source` says which of the row's elements comes to stand in column j.
template <class DATA, class SOURCE>
__device__ inline void gather_row(const DATA* data, const long long* labels, const long long* rows, const REAL* mean,
                                  const REAL* inv_std, REAL* x, REAL* targets, int d, int c, SOURCE source) {
    const int i = blockIdx.x;
    const long long row = rows[i];
    for (int j = threadIdx.x; j < d; j += blockDim.x) {
        REAL value = REAL(data[row * d + source(j)]);
        x[(size_t)i * d + j] = mean ? (value - mean[j]) * inv_std[j] : value;
    }
    const long long label = labels[row];
    for (int k = threadIdx.x; k < c; k += blockDim.x) targets[(size_t)i * c + k] = k == label ? REAL(1) : REAL(0);
}

struct Unmoved {
    __device__ int operator()(int j) const { return j; }
};

// Of an image that is mirrored or not, and then shifted; what comes in at an edge repeats it.
struct Moved {
    int height, width, mirror, down, right;

    __device__ Moved(const long long* mirror, const long long* down, const long long* right, int height, int width)
        : height(height), width(width), mirror(int(mirror[blockIdx.x])), down(int(down[blockIdx.x])),
          right(int(right[blockIdx.x])) {}

    __device__ int operator()(int j) const {
        const int line = j / width, of_image = line % height;
        const int from = min(max(of_image - down, 0), height - 1), column = min(max(j % width - right, 0), width - 1);
        return (line - of_image + from) * width + (mirror ? width - 1 - column : column);
    }
};

extern "C" __global__ void gather_bytes(
        const unsigned char* data, const long long* labels, const long long* rows, const REAL* mean,
        const REAL* inv_std, REAL* x, REAL* targets, int d, int c) {
    gather_row(data, labels, rows, mean, inv_std, x, targets, d, c, Unmoved());
}

extern "C" __global__ void gather_numbers(
        const REAL* data, const long long* labels, const long long* rows, const REAL* mean,
        const REAL* inv_std, REAL* x, REAL* targets, int d, int c) {
    gather_row(data, labels, rows, mean, inv_std, x, targets, d, c, Unmoved());
}

extern "C" __global__ void gather_moved_bytes(
        const unsigned char* data, const long long* labels, const long long* rows, const long long* mirror,
        const long long* down, const long long* right, const REAL* mean, const REAL* inv_std, REAL* x, REAL* targets,
        int d, int c, int height, int width) {
    gather_row(data, labels, rows, mean, inv_std, x, targets, d, c, Moved(mirror, down, right, height, width));
}

extern "C" __global__ void gather_moved_numbers(
        const REAL* data, const long long* labels, const long long* rows, const long long* mirror,
        const long long* down, const long long* right, const REAL* mean, const REAL* inv_std, REAL* x, REAL* targets,
        int d, int c, int height, int width) {
    gather_row(data, labels, rows, mean, inv_std, x, targets, d, c, Moved(mirror, down, right, height, width));
}

// weights = the chosen sample weights over their sum, or 0 if that is 0. One block.
extern "C" __global__ void __launch_bounds__(32 * MOST_WARPS) batch_weights(
        const REAL* sample_weight, const long long* rows, REAL* weights, int n) {
    __shared__ REAL shared[MOST_WARPS];
    REAL part = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) part += sample_weight[rows[i]];
    REAL total = block_sum(part, shared);
    for (int i = threadIdx.x; i < n; i += blockDim.x) weights[i] = total > 0 ? sample_weight[rows[i]] / total : REAL(0);
}
