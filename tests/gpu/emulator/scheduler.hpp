// What a kernel needs of the scheduler, free of large headers, so that each kernel compiles in a fraction of a second.
#pragma once

#include <cstddef>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace on_cpu {

constexpr int WARP = 32;
constexpr size_t MOST_SHARED_BYTES = 227 * 1024;    // of a block, on the largest devices
constexpr size_t MOST_STATIC_BYTES = 48 * 1024;
constexpr size_t SHARED_MARGIN = 4 * 1024;          // behind dynamic shared memory, to see writes beyond its end
constexpr size_t STATIC_MARGIN = 16 * 1024;         // and behind the static one

// Dynamic shared memory. It lies at a fixed place, so that a name for it can be declared anywhere.
extern char dynamic_shared[MOST_SHARED_BYTES + SHARED_MARGIN];

// The end of the section of static shared memory: the scheduler is linked behind the kernel.
extern char static_margin[STATIC_MARGIN];

// The running thread waits until all threads of its block wait at the same barrier.
void wait_at_barrier(int barrier, int line);

// The running thread waits until all threads of its warp that the mask names wait in the same operation.
void wait_for_warp(unsigned mask, char operation);

// Hands `bytes` (at most 8) of every thread in the mask to whichever of them ask for it; `value` becomes that of lane
// `source` of the warp. The value of a lane that takes no part is poison: bytes 0xff, which is NaN.
void exchange(unsigned mask, void* value, size_t bytes, int source);

int lane();     // of the running thread in its warp

// Ends the launch with an error.
[[noreturn]] void fail(const char* format, ...);

struct Launch {
    dim3 grid, block;
    void (*run_thread)(void** arguments);
    void** arguments;
    size_t dynamic_bytes;
    char* static_shared;        // all of the kernel's static shared memory, as one stretch
    size_t static_bytes;
    int order;                  // of blocks, warps and lanes: 0 forward, 1 reverse, 2 shuffled by the seed
    unsigned seed;
};

// Runs all threads of all blocks; 0, or 1 where `error` says what went wrong.
int launch(const Launch& what);
const char* error();

}  // namespace on_cpu
