// What is computed number by number: one thread each, every number read and written once. Grid (ceil(size / 256)).

#define FOR_MY_ELEMENT(i) const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; if (i < size)

extern "C" __global__ void activation(const REAL* x, REAL* y, size_t size, int kind) {
    FOR_MY_ELEMENT(i) y[i] = activation_value(kind, x[i]);
}

extern "C" __global__ void activation_backward(const REAL* gy, const REAL* x, const REAL* y, REAL* gx, size_t size,
                                               int kind) {
    FOR_MY_ELEMENT(i) gx[i] = gy[i] * activation_slope(kind, x[i], y[i]);
}

// As in kernels/masks.py.
__device__ inline unsigned int mixed(unsigned int number) {
    number = (number ^ number >> 16) * 0x7FEB352Du;
    number = (number ^ number >> 15) * 0x846CA68Bu;
    return number ^ number >> 16;
}

// y = x * scale, or 0 where what is drawn is below the threshold. x, y (M, N, H) with any strides between members and
// rows, keys (M,).
extern "C" __global__ void dropout(const REAL* x, const unsigned int* keys, REAL* y, size_t size, int n, int h,
                                   unsigned int threshold, double scale, long long x_member, int x_row,
                                   long long y_member, int y_row) {
    FOR_MY_ELEMENT(place) {
        const size_t row = place / h, member = row / n, i = row % n, j = place % h;
        const unsigned int drawn = mixed(mixed(mixed((unsigned int)i) + keys[member]) + (unsigned int)j);
        y[member * y_member + i * y_row + j] = x[member * x_member + i * x_row + j]
                                               * (drawn < threshold ? REAL(0) : REAL(scale));
    }
}

// y (M, N, H) += b (M, H); `batch` is N * H.
extern "C" __global__ void add_bias(const REAL* b, REAL* y, size_t size, size_t batch, int h) {
    FOR_MY_ELEMENT(i) y[i] += b[i / batch * h + i % h];
}

// gb (M, H) = sum of gy (M, N, H) over N; a thread sums one column.
extern "C" __global__ void bias_gradient(const REAL* gy, REAL* gb, size_t size, int n, int h) {
    FOR_MY_ELEMENT(i) {
        const REAL* column = gy + i / h * n * h + i % h;
        REAL total = 0;
        for (int row = 0; row < n; row++) total += column[(size_t)row * h];
        gb[i] = total;
    }
}

extern "C" __global__ void moving_average(const REAL* fresh, double decay, REAL* running, size_t size) {
    FOR_MY_ELEMENT(i) running[i] = REAL(decay) * running[i] + REAL(1 - decay) * fresh[i];
}
