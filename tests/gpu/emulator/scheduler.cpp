// Runs CUDA threads on one CPU thread: one fiber each, one at a time, in a chosen order.
//
// A thread runs until it returns or waits. Warps run ahead of each other as far as barriers let them. Nothing runs in
// parallel, so that a result which depends on the order of threads, a data race, is the same on every repetition and
// differs between orders.

#include "scheduler.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace on_cpu {

alignas(16) char dynamic_shared[MOST_SHARED_BYTES + SHARED_MARGIN];
__attribute__((section("cuda_shared"))) alignas(16) char static_margin[STATIC_MARGIN] = {0};

namespace {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr int POISON = 0xff;                // as bytes of a float or double: NaN
// Behind shared memory: as a float a signalling NaN, which any arithmetic turns into a quiet one.
constexpr uint32_t MARGIN = 0x7fa15a5a;

enum class State { ready, in_warp_operation, at_barrier, returned };
enum Order { forward, reverse, shuffled };

struct Fiber {
    State state;
    uint3 index;
    int lane, warp;
    int barrier, line;                      // where it waits, at_barrier
    unsigned mask;                          // whom it waits for, in_warp_operation
    char operation;
    std::unique_ptr<char[]> stack;
    bool has_begun = false;                 // the stack is in use: `resume_point` is valid
    jmp_buf resume_point;
    ucontext_t context;                     // needed once, to get onto the stack
};

// Fibers are kept for the next launch: a thread that has returned leaves its fiber waiting for another thread to play.
std::vector<std::unique_ptr<Fiber>> fibers;
Fiber* running;
int n_threads;
jmp_buf scheduler_point;
const Launch* launched;
std::mt19937 random_numbers;
uint64_t exchanged[1024 / WARP][WARP];
char message[512];

void suspend() {
    if (_setjmp(running->resume_point) == 0) _longjmp(scheduler_point, 1);
}

void play_threads() {
    for (;;) {
        launched->run_thread(launched->arguments);
        running->state = State::returned;
        suspend();
    }
}

// Lets a thread run until it waits or returns.
void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler_point) != 0) return;      // the fiber has come back
    if (fiber.has_begun) _longjmp(fiber.resume_point, 1);
    fiber.has_begun = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, play_threads, 0);
    setcontext(&fiber.context);
}

// The numbers 0 .. n - 1 in the order of this launch.
std::vector<int> in_order(int n) {
    std::vector<int> numbers(n);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (launched->order == reverse) std::reverse(numbers.begin(), numbers.end());
    if (launched->order == shuffled) std::shuffle(numbers.begin(), numbers.end(), random_numbers);
    return numbers;
}

Fiber& lane_of(int warp, int lane) { return *fibers[warp * WARP + lane]; }

int lanes_in(int warp) { return std::min(WARP, n_threads - warp * WARP); }

// Whether all that this waiting thread waits for have come to the same operation.
bool operation_is_complete(const Fiber& waiting) {
    for (int k = 0; k < lanes_in(waiting.warp); k++) {
        const Fiber& other = lane_of(waiting.warp, k);
        if (!(waiting.mask >> k & 1) || other.state == State::returned) continue;
        if (other.state != State::in_warp_operation || other.mask != waiting.mask
            || other.operation != waiting.operation) return false;
    }
    return true;
}

// Lets every ready lane of a warp run until it waits or returns; whether some can go on at once.
bool run_warp(int warp) {
    for (int k : in_order(lanes_in(warp))) {
        if (lane_of(warp, k).state != State::ready) continue;
        resume(lane_of(warp, k));
        if (message[0]) return false;
    }
    std::vector<Fiber*> waiting, released;
    for (int k = 0; k < lanes_in(warp); k++) {
        Fiber& fiber = lane_of(warp, k);
        if (fiber.state != State::in_warp_operation) continue;
        waiting.push_back(&fiber);
        if (operation_is_complete(fiber)) released.push_back(&fiber);
    }
    for (Fiber* fiber : released) fiber->state = State::ready;
    if (released.empty() && !waiting.empty()) {
        snprintf(message, sizeof message, "divergent warp operation: lane %d of warp %d waits with mask 0x%08x for "
                 "lanes that never come to it", waiting[0]->lane, warp, waiting[0]->mask);
        return false;
    }
    return !released.empty();
}

// Opens the barrier that all threads wait at; false where they do not all wait at one.
bool open_barrier() {
    const Fiber* first = nullptr;
    for (int k = 0; k < n_threads; k++)
        if (fibers[k]->state == State::at_barrier && !first) first = fibers[k].get();
    for (int k = 0; k < n_threads; k++) {
        const Fiber& fiber = *fibers[k];
        if (fiber.state == State::returned) {
            snprintf(message, sizeof message, "divergent __syncthreads: a thread waits at line %d, but thread "
                     "(%u, %u, %u) has returned", first->line, fiber.index.x, fiber.index.y, fiber.index.z);
            return false;
        }
        if (fiber.barrier != first->barrier) {
            snprintf(message, sizeof message, "divergent __syncthreads: threads of one block wait at lines %d and %d",
                     first->line, fiber.line);
            return false;
        }
    }
    for (int k = 0; k < n_threads; k++) fibers[k]->state = State::ready;
    return true;
}

bool all_returned() {
    return std::all_of(fibers.begin(), fibers.begin() + n_threads,
                       [](const auto& fiber) { return fiber->state == State::returned; });
}

// Runs the threads of the block at `blockIdx`; false on an error.
bool run_block() {
    int n_warps = (n_threads + WARP - 1) / WARP;
    do {
        std::vector<int> runnable = in_order(n_warps);
        while (!runnable.empty()) {
            // Shuffled, any warp may be the next up to its next operation, so that warps run ahead of each other.
            size_t next = launched->order == shuffled ? random_numbers() % runnable.size() : 0;
            bool goes_on = run_warp(runnable[next]);
            if (message[0]) return false;
            if (!goes_on) runnable.erase(runnable.begin() + next);
        }
        if (all_returned()) return true;
    } while (open_barrier());
    return false;
}

uint3 place(unsigned number, const dim3& size) {
    return {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

// What shared memory is full of when a block begins. In reverse order it is 0, so that whoever reads what nobody wrote,
// be it a truth value or a count, gives another result in that order.
int shared_poison() { return launched->order == reverse ? 0 : POISON; }

uint32_t* margin() { return reinterpret_cast<uint32_t*>(dynamic_shared + (launched->dynamic_bytes + 3) / 4 * 4); }

uint32_t* margin_end() { return margin() + SHARED_MARGIN / 4 - 1; }

void begin_block(int block) {
    blockIdx = place(block, gridDim);
    memset(launched->static_shared, shared_poison(), launched->static_bytes);
    memset(dynamic_shared, shared_poison(), launched->dynamic_bytes);
    for (uint32_t* place = margin(); place < margin_end(); place++) *place = MARGIN;
    std::fill_n(reinterpret_cast<uint32_t*>(static_margin), STATIC_MARGIN / 4, MARGIN);
    memset(exchanged, POISON, sizeof exchanged);
    for (int k = 0; k < n_threads; k++) {
        Fiber& fiber = *fibers[k];
        fiber.state = State::ready;
        fiber.index = place(k, blockDim);
        fiber.warp = k / WARP;
        fiber.lane = k % WARP;
    }
}

bool is_whole(const uint32_t* begin, const uint32_t* end) {
    return std::all_of(begin, end, [](uint32_t word) { return word == MARGIN; });
}

bool margins_are_whole() {
    auto behind_static = reinterpret_cast<const uint32_t*>(static_margin);
    if (!is_whole(margin(), margin_end()))
        snprintf(message, sizeof message, "wrote behind the %zu bytes of dynamic shared memory",
                 launched->dynamic_bytes);
    else if (!is_whole(behind_static, behind_static + STATIC_MARGIN / 4))
        snprintf(message, sizeof message, "wrote behind the %zu bytes of static shared memory", launched->static_bytes);
    return !message[0];
}

// What a device would refuse before the first thread runs.
bool launch_is_allowed(const Launch& what) {
    const dim3 &b = what.block, &g = what.grid;
    if (b.x == 0 || b.y == 0 || b.z == 0 || b.x > 1024 || b.y > 1024 || b.z > 64 || size_t(b.x) * b.y * b.z > 1024)
        snprintf(message, sizeof message, "bad block size (%u, %u, %u): a block has 1 to 1024 threads, at most 64 of "
                 "them along z", b.x, b.y, b.z);
    else if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535)
        snprintf(message, sizeof message, "bad grid size (%u, %u, %u)", g.x, g.y, g.z);
    else if (what.static_bytes > MOST_STATIC_BYTES)
        snprintf(message, sizeof message, "too much static shared memory: %zu bytes of at most %zu", what.static_bytes,
                 MOST_STATIC_BYTES);
    else if (what.static_bytes + what.dynamic_bytes > MOST_SHARED_BYTES)
        snprintf(message, sizeof message, "too much shared memory: %zu bytes of at most %zu",
                 what.static_bytes + what.dynamic_bytes, MOST_SHARED_BYTES);
    return !message[0];
}

}  // namespace

void wait_at_barrier(int barrier, int line) {
    running->state = State::at_barrier;
    running->barrier = barrier;
    running->line = line;
    suspend();
}

void wait_for_warp(unsigned mask, char operation) {
    if (!(mask >> running->lane & 1)) fail("lane %d calls a warp operation whose mask 0x%08x lacks it", running->lane,
                                           mask);
    running->state = State::in_warp_operation;
    running->mask = mask;
    running->operation = operation;
    suspend();
}

void exchange(unsigned mask, void* value, size_t bytes, int source) {
    uint64_t* values = exchanged[running->warp];
    memcpy(&values[running->lane], value, bytes);
    wait_for_warp(mask, 'w');       // until all have written ...
    memcpy(value, &values[source & (WARP - 1)], bytes);
    wait_for_warp(mask, 'r');       // ... and all have read
    memset(&values[running->lane], POISON, sizeof(uint64_t));
}

int lane() { return running->lane; }

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    _longjmp(scheduler_point, 1);
}

int launch(const Launch& what) {
    message[0] = 0;
    if (!launch_is_allowed(what)) return 1;
    launched = &what;
    gridDim = what.grid;
    blockDim = what.block;
    random_numbers.seed(what.seed);
    n_threads = blockDim.x * blockDim.y * blockDim.z;
    while (fibers.size() < size_t(n_threads)) {
        fibers.push_back(std::make_unique<Fiber>());
        fibers.back()->stack.reset(new char[STACK_BYTES]);      // not initialised: most of it is never touched
    }
    for (int block : in_order(gridDim.x * gridDim.y * gridDim.z)) {
        begin_block(block);
        if (run_block() && margins_are_whole()) continue;
        for (auto& fiber : fibers) fiber->has_begun = false;    // some hang in the middle of a thread
        return 1;
    }
    return 0;
}

const char* error() { return message; }

}  // namespace on_cpu
