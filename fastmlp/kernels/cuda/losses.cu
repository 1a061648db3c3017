// Losses with their gradients, and the count of correct answers: one launch, one block a member, one warp a row.
//
// logits, glogits (M, N, C) with any strides between members and rows, in elements, classes contiguous; targets (N, C);
// weights (N,)  ->  loss (M,), glogits. Logits and targets are read 2 to 3 times (the later ones hit the cache), glogits
// written once. Sums are in a fixed order.

#define ROW_THREADS (sizeof(REAL) == 4 ? 1024 : 512)        // of a block; what its registers suffice for
#define FOR_EACH_ROW(i) for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
#define FOR_EACH_CLASS(k) for (int k = threadIdx.x % 32; k < c; k += 32)

// Softmax and cross-entropy; the row's maximum is subtracted first. The fraction `smoothing` of each target is spread
// over all classes.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 1) cross_entropy(
        const REAL* logits, const REAL* targets, const REAL* weights, REAL* loss, REAL* glogits, int n, int c,
        long long member_stride, int row_stride, long long gradient_member, int gradient_row, double smoothing) {
    const REAL kept = REAL(1 - smoothing), spread = REAL(smoothing / c);
    __shared__ REAL shared[MOST_WARPS];
    const int member = blockIdx.x;
    REAL total = 0;
    FOR_EACH_ROW(i) {
        const REAL* z = logits + member * member_stride + (long long)i * row_stride;
        const REAL* t = targets + (size_t)i * c;
        REAL* gz = glogits + member * gradient_member + (long long)i * gradient_row;
        REAL highest = z[0], sum = 0, row_loss = 0;
        FOR_EACH_CLASS(k) highest = z[k] > highest ? z[k] : highest;
        highest = warp_max(highest);
        FOR_EACH_CLASS(k) sum += exp(z[k] - highest);
        REAL log_sum = log(warp_sum(sum));
        FOR_EACH_CLASS(k) {
            REAL log_p = z[k] - highest - log_sum, target = kept * t[k] + spread;
            row_loss -= target * log_p;
            gz[k] = weights[i] * (exp(log_p) - target);
        }
        total += weights[i] * row_loss;
    }
    total = block_sum(total, shared);
    if (threadIdx.x == 0) loss[member] = total;
}

// Multi-class support vector loss.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 1) hinge(
        const REAL* logits, const REAL* targets, const REAL* weights, REAL* loss, REAL* glogits, int n, int c,
        long long member_stride, int row_stride, long long gradient_member, int gradient_row) {
    __shared__ REAL shared[MOST_WARPS];
    const int member = blockIdx.x;
    REAL total = 0;
    FOR_EACH_ROW(i) {
        const REAL* z = logits + member * member_stride + (long long)i * row_stride;
        const REAL* t = targets + (size_t)i * c;
        REAL* gz = glogits + member * gradient_member + (long long)i * gradient_row;
        REAL correct = 0, violations = 0, row_loss = 0;
        FOR_EACH_CLASS(k) correct += z[k] * t[k];
        correct = warp_sum(correct);
        FOR_EACH_CLASS(k) {
            REAL margin = z[k] - correct + 1 - t[k];
            if (!(margin > 0)) margin = margin != margin ? margin : REAL(0);        // NaN stays NaN
            row_loss += margin;
            violations += margin > 0 ? REAL(1) : REAL(0);
        }
        violations = warp_sum(violations);
        FOR_EACH_CLASS(k) {
            REAL violated = z[k] - correct + 1 - t[k] > 0 ? REAL(1) : REAL(0);
            gz[k] = weights[i] * (violated - t[k] * violations);
        }
        total += weights[i] * row_loss;
    }
    total = block_sum(total, shared);
    if (threadIdx.x == 0) loss[member] = total;
}

// correct (M,) = sum of counts (N,) over the rows whose label has the highest logit, the first of equal ones.
extern "C" __global__ void __launch_bounds__(ROW_THREADS, 1) count_correct(
        const REAL* logits, const long long* labels, const REAL* counts, REAL* correct, int n, int c,
        long long member_stride, int row_stride) {
    __shared__ REAL shared[MOST_WARPS];
    const int member = blockIdx.x;
    REAL total = 0;
    FOR_EACH_ROW(i) {
        const REAL* z = logits + member * member_stride + (long long)i * row_stride;
        REAL highest = z[0];
        int best = 0;
        FOR_EACH_CLASS(k)
            if (z[k] > highest) {
                highest = z[k];
                best = k;
            }
        for (int lanes = 16; lanes > 0; lanes /= 2) {
            REAL other = __shfl_xor_sync(0xffffffffu, highest, lanes);
            int place = __shfl_xor_sync(0xffffffffu, best, lanes);
            if (other > highest || (other == highest && place < best)) {
                highest = other;
                best = place;
            }
        }
        if (threadIdx.x % 32 == 0 && best == labels[i]) total += counts[i];
    }
    total = block_sum(total, shared);
    if (threadIdx.x == 0) correct[member] = total;
}
