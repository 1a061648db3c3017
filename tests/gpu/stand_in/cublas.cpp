// The functions of cuBLAS that fastmlp calls, on host memory, with the signatures of cublas_api.h.
//
// They check what cuBLAS checks. A product that passes is handed to Python, which runs it by stand_in_compute at once or
// whenever a graph is launched. Differences: null operands, which cuBLAS would give to a kernel, are refused here.
// Compiled with CUBLAS_API_IS_INCLUDED behind the real header, it is the header that the signatures are compared with.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>

#define EXPORT extern "C" __attribute__((visibility("default")))

#ifndef CUBLAS_API_IS_INCLUDED
typedef struct cublasContext* cublasHandle_t;
typedef struct CUstream_st* cudaStream_t;
typedef enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_INITIALIZED = 1, CUBLAS_STATUS_INVALID_VALUE = 7,
               CUBLAS_STATUS_INTERNAL_ERROR = 14, CUBLAS_STATUS_NOT_SUPPORTED = 15 } cublasStatus_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 } cublasOperation_t;
typedef enum { CUBLAS_GEMM_DEFAULT = -1, CUBLAS_GEMM_ALGO23 = 23, CUBLAS_GEMM_DEFAULT_TENSOR_OP = 99,
               CUBLAS_GEMM_ALGO15_TENSOR_OP = 115 } cublasGemmAlgo_t;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_64F = 70, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUDA_R_32F = 0, CUDA_R_64F = 1 } cudaDataType;
#endif

// One call, every pointer but those of the factors as it was given; the same structure stands in cublas.py.
struct Product {
    const void *a, *b;
    void *c, *stream, *workspace;
    long long stride_a, stride_b, stride_c;
    long long workspace_bytes;
    double alpha, beta;
    int trans_a, trans_b, m, n, k, lda, ldb, ldc, batch, is_double, is_tf32;
};

struct cublasContext {
    cudaStream_t stream;
    void* workspace;
    size_t workspace_bytes;
};

namespace {

typedef int (*Submit)(const Product*);
Submit submit = nullptr;
std::set<cublasHandle_t> handles;

bool unknown(cublasOperation_t operation) {
    return operation != CUBLAS_OP_N && operation != CUBLAS_OP_T && operation != CUBLAS_OP_C;
}

bool unknown(cublasGemmAlgo_t algo) {
    const int number = algo;
    return !((number >= CUBLAS_GEMM_DEFAULT && number <= CUBLAS_GEMM_ALGO23) ||
             (number >= CUBLAS_GEMM_DEFAULT_TENSOR_OP && number <= CUBLAS_GEMM_ALGO15_TENSOR_OP));
}

// Rounded to the 10 bits of TF32's fraction; NaN and infinity stay.
float tf32(float value) {
    if (!std::isfinite(value)) return value;
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits = (bits + 0x1000) & ~0x1FFFu;
    std::memcpy(&value, &bits, 4);
    return value;
}

float seen(float value, bool is_tf32) { return is_tf32 ? tf32(value) : value; }
double seen(double value, bool) { return value; }

// C = alpha op(A) op(B) + beta C for every matrix of the batch, all of them by columns, summed in double.
template <class Real> void compute(const Product& p) {
    for (long long batch = 0; batch < p.batch; batch++) {
        const Real* a = (const Real*)p.a + batch * p.stride_a;
        const Real* b = (const Real*)p.b + batch * p.stride_b;
        Real* c = (Real*)p.c + batch * p.stride_c;
        const ptrdiff_t a_row = p.trans_a ? p.lda : 1, a_column = p.trans_a ? 1 : p.lda;
        const ptrdiff_t b_row = p.trans_b ? p.ldb : 1, b_column = p.trans_b ? 1 : p.ldb;
        for (int column = 0; column < p.n; column++)
            for (int row = 0; row < p.m; row++) {
                double sum = 0;
                for (int i = 0; i < p.k; i++)
                    sum += (double)seen(a[row * a_row + i * a_column], p.is_tf32) *
                           (double)seen(b[i * b_row + column * b_column], p.is_tf32);
                Real& element = c[row + column * (ptrdiff_t)p.ldc];
                element = Real(p.beta == 0 ? p.alpha * sum : p.alpha * sum + p.beta * element);     // 0: C is not read
            }
    }
}

}  // namespace

// ---------------------------------------------------------------------------------------------- for cublas.py

EXPORT void stand_in_submit_to(Submit function) { submit = function; }

EXPORT void stand_in_compute(const Product* product) {
    product->is_double ? compute<double>(*product) : compute<float>(*product);
}

// ---------------------------------------------------------------------------------------------- cuBLAS's own

EXPORT cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    *handle = new cublasContext();
    handles.insert(*handle);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    if (!handles.count(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = cublasContext();          // the workspace is forgotten, though the stream be the same
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
    if (!handles.count(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if ((uintptr_t)workspace % 256) return CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = workspace;
    handle->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasGemmStridedBatchedEx(
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
        const void* alpha, const void* A, cudaDataType Atype, int lda, long long int strideA,
        const void* B, cudaDataType Btype, int ldb, long long int strideB,
        const void* beta, void* C, cudaDataType Ctype, int ldc, long long int strideC,
        int batchCount, cublasComputeType_t computeType, cublasGemmAlgo_t algo) {
    if (!handles.count(handle) || !submit) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (unknown(transa) || unknown(transb) || unknown(algo)) return CUBLAS_STATUS_INVALID_VALUE;
    if (m < 0 || n < 0 || k < 0 || batchCount < 0 || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    const int a_rows = transa == CUBLAS_OP_N ? m : k, b_rows = transb == CUBLAS_OP_N ? k : n;
    if (lda < 1 || ldb < 1 || ldc < 1 || lda < a_rows || ldb < b_rows || ldc < m) return CUBLAS_STATUS_INVALID_VALUE;

    const bool is_double = computeType == CUBLAS_COMPUTE_64F, is_tf32 = computeType == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!is_double && !is_tf32 && computeType != CUBLAS_COMPUTE_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    const cudaDataType type = is_double ? CUDA_R_64F : CUDA_R_32F;
    if (Atype != type || Btype != type || Ctype != type) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (m == 0 || n == 0 || batchCount == 0) return CUBLAS_STATUS_SUCCESS;
    if (!C || (k > 0 && (!A || !B))) return CUBLAS_STATUS_INVALID_VALUE;

    Product product = {A, B, C, handle->stream, handle->workspace, strideA, strideB, strideC,
                       (long long)handle->workspace_bytes,
                       is_double ? *(const double*)alpha : *(const float*)alpha,
                       is_double ? *(const double*)beta : *(const float*)beta,
                       transa != CUBLAS_OP_N, transb != CUBLAS_OP_N, m, n, k, lda, ldb, ldc, batchCount,
                       is_double, is_tf32};
    return submit(&product) ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}
