// The CUDA language for g++: what a kernel's source may use without including anything.
//
// The source of a kernel is compiled behind this header, in an unnamed namespace, with the extern "C" taken off; then
// ON_CPU_EXPORT makes the kernel callable. See emulator.py for what is checked and for what differs from a GPU.

#pragma once

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#include "scheduler.hpp"

// ------------------------------------------------------------------------------------------------ words

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
// All static shared memory of a kernel lies in one section, which the scheduler poisons before each block.
#define __shared__ static __attribute__((section("cuda_shared")))

extern "C" char __start_cuda_shared[] __attribute__((visibility("hidden")));

static const int warpSize = on_cpu::WARP;

#undef assert
#define assert(condition) ((condition) ? void() : on_cpu::fail("line %d: assert(%s) failed", __LINE__, #condition))
#define __trap() on_cpu::fail("line %d: __trap()", __LINE__)

// ------------------------------------------------------------------------------------------------ vector types

#define ON_CPU_VECTORS(T, NAME)                                                                        \
    struct __align__(2 * sizeof(T)) NAME##2 { T x, y; };                                               \
    struct NAME##3 { T x, y, z; };                                                                     \
    struct __align__(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; };               \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                         \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                                 \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }

ON_CPU_VECTORS(float, float)
ON_CPU_VECTORS(double, double)
ON_CPU_VECTORS(int, int)
ON_CPU_VECTORS(unsigned char, uchar)
ON_CPU_VECTORS(long long, longlong)
struct __align__(8) uint2 { unsigned x, y; };               // uint3 is the type of threadIdx
struct __align__(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ------------------------------------------------------------------------------------------------ barriers and warps

// The counter tells one barrier in the text from another, even on one line.
#define __syncthreads() on_cpu::wait_at_barrier(__COUNTER__, __LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) { on_cpu::wait_for_warp(mask, 's'); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

namespace on_cpu {

template <class T> T value_of(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 8, "a warp exchanges values of at most 8 bytes");
    exchange(mask, &value, sizeof value, source);
    return value;
}

}  // namespace on_cpu

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int segment = on_cpu::lane() & ~(width - 1);
    return on_cpu::value_of(mask, value, segment + (source & (width - 1)));
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    int lane = on_cpu::lane(), source = lane ^ bits;
    bool beyond = (source & ~(width - 1)) > (lane & ~(width - 1));      // only earlier segments can be read
    return on_cpu::value_of(mask, value, beyond ? lane : source);
}

template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = on_cpu::lane(), place = lane & (width - 1);
    return on_cpu::value_of(mask, value, place + int(delta) < width ? lane + int(delta) : lane);
}

template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = on_cpu::lane(), place = lane & (width - 1);
    return on_cpu::value_of(mask, value, place >= int(delta) ? lane - int(delta) : lane);
}

inline unsigned __ballot_sync(unsigned mask, int condition) {
    unsigned votes = 0;
    for (int lane = 0; lane < on_cpu::WARP; lane++)         // lanes that take no part hand out poison, which is not 1
        if (on_cpu::value_of(mask, int(condition != 0), lane) == 1) votes |= 1u << lane;
    return votes;
}

inline int __any_sync(unsigned mask, int condition) { return __ballot_sync(mask, condition) != 0; }
inline int __all_sync(unsigned mask, int condition) { return __ballot_sync(mask, !condition) == 0; }

// ------------------------------------------------------------------------------------------------ atomics

// Threads run one at a time and are never interrupted, so reading and writing suffices.
#define ON_CPU_ATOMIC(NAME, NEW)                                                          \
    template <class T> T NAME(T* address, std::common_type_t<T> value) {                  \
        T old = *address;                                                                 \
        *address = NEW;                                                                   \
        return old;                                                                       \
    }

ON_CPU_ATOMIC(atomicAdd, old + value)
ON_CPU_ATOMIC(atomicSub, old - value)
ON_CPU_ATOMIC(atomicExch, value)
ON_CPU_ATOMIC(atomicMin, value < old ? value : old)
ON_CPU_ATOMIC(atomicMax, value > old ? value : old)
ON_CPU_ATOMIC(atomicAnd, old & value)
ON_CPU_ATOMIC(atomicOr, old | value)
ON_CPU_ATOMIC(atomicXor, old ^ value)
ON_CPU_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
ON_CPU_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)

template <class T> T atomicCAS(T* address, std::common_type_t<T> compare, std::common_type_t<T> value) {
    T old = *address;
    if (old == compare) *address = value;
    return old;
}

// ------------------------------------------------------------------------------------------------ memory and bits

template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }

template <class To, class From> To on_cpu_same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

inline float __int_as_float(int bits) { return on_cpu_same_bits<float>(bits); }
inline float __uint_as_float(unsigned bits) { return on_cpu_same_bits<float>(bits); }
inline int __float_as_int(float value) { return on_cpu_same_bits<int>(value); }
inline unsigned __float_as_uint(float value) { return on_cpu_same_bits<unsigned>(value); }
inline double __longlong_as_double(long long bits) { return on_cpu_same_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return on_cpu_same_bits<long long>(value); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }

// ------------------------------------------------------------------------------------------------ mathematics

// In CUDA the overloads for float and double are both global; C++ hides that for float in std.
using std::abs; using std::acos; using std::asin; using std::atan; using std::atan2; using std::cbrt; using std::ceil;
using std::copysign; using std::cos; using std::cosh; using std::erf; using std::erfc; using std::exp; using std::exp2;
using std::expm1; using std::fabs; using std::floor; using std::fma; using std::fmax; using std::fmin; using std::fmod;
using std::hypot; using std::isfinite; using std::isinf; using std::isnan; using std::log; using std::log10;
using std::log1p; using std::log2; using std::pow; using std::rint; using std::round; using std::signbit; using std::sin;
using std::sinh; using std::sqrt; using std::tan; using std::tanh; using std::trunc;

template <class A, class B> auto min(A a, B b) {
    if constexpr (std::is_floating_point_v<A> || std::is_floating_point_v<B>) return fmin(a, b);    // a NaN loses
    else { std::common_type_t<A, B> x = a, y = b; return y < x ? y : x; }
}

template <class A, class B> auto max(A a, B b) {
    if constexpr (std::is_floating_point_v<A> || std::is_floating_point_v<B>) return fmax(a, b);
    else { std::common_type_t<A, B> x = a, y = b; return y > x ? y : x; }
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float exp10f(float x) { return powf(10.0f, x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
// The fast ones are computed exactly here: a GPU is less accurate.
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline int __float2int_rn(float x) { return int(rintf(x)); }
inline float __int2float_rn(int x) { return float(x); }

// ------------------------------------------------------------------------------------------------ the way in

namespace on_cpu {

template <class T> constexpr char kind() {
    return std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 's';
}

// Kind and size of each parameter; their number.
template <class... T> int describe(void (*)(T...), char* kinds, int* sizes) {
    int n = 0;
    ((kinds[n] = kind<std::remove_cv_t<T>>(), sizes[n++] = sizeof(T)), ...);
    return n;
}

template <class... T, size_t... K> void call(void (*kernel)(T...), void** arguments, std::index_sequence<K...>) {
    kernel(*static_cast<std::remove_cv_t<T>*>(arguments[K])...);
}

template <class... T> void call(void (*kernel)(T...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<T...>{});
}

}  // namespace on_cpu

#define ON_CPU_PUBLIC extern "C" __attribute__((visibility("default")))

#define ON_CPU_EXPORT(KERNEL)                                                                                   \
    ON_CPU_PUBLIC int on_cpu_describe(char* kinds, int* sizes) { return on_cpu::describe(&KERNEL, kinds, sizes); } \
    ON_CPU_PUBLIC const char* on_cpu_error() { return on_cpu::error(); }                                        \
    ON_CPU_PUBLIC int on_cpu_launch(void** arguments, const unsigned* grid, const unsigned* block,              \
                                    size_t dynamic_bytes, int order, unsigned seed) {                           \
        return on_cpu::launch({{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},                     \
                               [](void** arguments) { on_cpu::call(&KERNEL, arguments); }, arguments,           \
                               dynamic_bytes, __start_cuda_shared,                                              \
                               size_t(on_cpu::static_margin - __start_cuda_shared),                             \
                               order, seed});                                                                   \
    }
