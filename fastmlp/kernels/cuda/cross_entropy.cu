// Softmax, cross-entropy and its gradient: one launch, one block a member.
//
// logits, glogits (M, N, C) with any strides between members and rows, classes contiguous; targets (N, C); weights (N,)
// ->  loss (M,), glogits. A thread takes a row at a time: logits are read 3 times (the later ones hit the cache),
// targets twice, glogits written once. The loss is summed in a fixed order.

#define THREADS 128

extern "C" __global__ void cross_entropy(
        const REAL* logits, const REAL* targets, const REAL* weights, REAL* loss, REAL* glogits,
        int n, int c, long long member_stride, long long row_stride,
        long long gradient_member_stride, long long gradient_row_stride, long long loss_stride) {
    __shared__ REAL shared[THREADS];
    int member = blockIdx.x;
    REAL total = 0;
    for (int row = threadIdx.x; row < n; row += THREADS) {
        const REAL* z = logits + member * member_stride + row * row_stride;
        REAL* gz = glogits + member * gradient_member_stride + row * gradient_row_stride;
        const REAL* t = targets + (size_t)row * c;
        REAL highest = z[0];
        for (int k = 1; k < c; k++) highest = z[k] > highest ? z[k] : highest;
        REAL sum = 0;
        for (int k = 0; k < c; k++) sum += exp(z[k] - highest);
        REAL log_sum = log(sum), row_loss = 0;
        for (int k = 0; k < c; k++) {
            REAL log_p = z[k] - highest - log_sum;
            row_loss -= t[k] * log_p;
            gz[k] = weights[row] * (exp(log_p) - t[k]);
        }
        total += weights[row] * row_loss;
    }
    shared[threadIdx.x] = total;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) loss[member * loss_stride] = shared[0];
}
