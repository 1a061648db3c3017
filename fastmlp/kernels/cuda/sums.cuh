// Sums over a warp and over a block, in a fixed order; handed to all threads.

#define MOST_WARPS 32

__device__ inline REAL warp_sum(REAL value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
}

__device__ inline REAL warp_max(REAL value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        REAL other = __shfl_xor_sync(0xffffffffu, value, lanes);
        value = other > value ? other : value;
    }
    return value;
}

// Of one value a thread; blocks are a number of whole warps. All threads call it together.
__device__ inline REAL block_sum(REAL value, REAL shared[MOST_WARPS]) {
    value = warp_sum(value);
    __syncthreads();                            // whoever still reads the last sum comes first
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    REAL total = 0;
    for (int warp = 0; warp < blockDim.x / 32; warp++) total += shared[warp];
    return total;
}
