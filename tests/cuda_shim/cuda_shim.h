// CUDA C++ on the CPU, for tests: enough of the language to compile bgfast's kernels with g++.
//
// One ucontext fiber per CUDA thread. Blocks run one after the other in a random order, fibers of
// a block in a random order too; both orders follow from a seed. Shared memory is filled with NaN
// before every block. A barrier or exchange that not every thread concerned reaches at the same
// line is an error.
//
// It does not see: code generation, alignment, the rounding of the hardware's approximations (its
// reciprocal errs by up to one unit in the last place, as the hardware's may), real concurrency:
// a fiber runs alone from one barrier to the next, so a race is seen only where an order of fibers
// shows it.
#pragma once
#define BGFAST_SHIM 1

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmath>
#include <type_traits>
#include <utility>

using std::ceil, std::copysign, std::exp, std::expm1, std::fabs, std::floor, std::fma, std::fmax,
    std::fmin, std::isfinite, std::isnan, std::log, std::log1p, std::pow, std::round, std::rint,
    std::sqrt, std::tanh, std::sin, std::cos, std::min, std::max;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __constant__ static const
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("bgfast_shared")))
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
};

namespace shim {

enum Wait { RUNNING, BLOCK, WARP, DONE };

struct Fiber {
    ucontext_t context;
    dim3 index;
    Wait wait;
    int line;
    unsigned mask;
    uint64_t deposit;       // what the fiber brings to an exchange
    uint64_t received[32];  // what the lanes of its warp brought
};

inline Fiber *fibers, *current;
inline int n_threads;
inline dim3 block_index, block_size, grid_size;
inline ucontext_t scheduler;
inline uint64_t random_state;
inline char message[512];

inline uint64_t random_number() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

inline void wait(Wait kind, int line, unsigned mask, uint64_t deposit) {
    current->wait = kind;
    current->line = line;
    current->mask = mask;
    current->deposit = deposit;
    swapcontext(&current->context, &scheduler);
}

// Let everybody go on that waits at the barrier `arrived` came to, if it was the last one. The
// fibers set free are appended to `ready`.
inline void release(Fiber &arrived, int *ready, int &n_ready) {
    const int me = &arrived - fibers;
    const bool whole = arrived.wait == BLOCK;
    const int first = whole ? 0 : me / 32 * 32;
    const int last = whole ? n_threads : first + 32;
    for (int i = first; i < last; ++i) {
        if (!whole && !(arrived.mask >> (i - first) & 1)) continue;
        const Fiber &f = fibers[i];
        if (i >= n_threads || f.wait != arrived.wait || f.line != arrived.line ||
            f.mask != arrived.mask)
            return;
    }
    uint64_t brought[32] = {};
    for (int i = first; !whole && i < last; ++i) brought[i - first] = fibers[i].deposit;
    for (int i = first; i < last; ++i) {
        if (!whole && !(arrived.mask >> (i - first) & 1)) continue;
        if (!whole) memcpy(fibers[i].received, brought, sizeof brought);
        fibers[i].wait = RUNNING;
        ready[n_ready++] = i;
    }
}

// What every fiber runs.
inline void (*entry)(void *);
inline void *entry_argument;
inline void enter() {
    entry(entry_argument);
    current->wait = DONE;
    swapcontext(&current->context, &scheduler);
}

extern "C" char __start_bgfast_shared[] __attribute__((weak));
extern "C" char __stop_bgfast_shared[] __attribute__((weak));

inline const char *run_block(char *stacks, size_t stack_size, int *ready) {
    if (__start_bgfast_shared)
        memset(__start_bgfast_shared, 0xff, __stop_bgfast_shared - __start_bgfast_shared);
    int n_ready = 0, n_done = 0;
    for (int i = 0; i < n_threads; ++i) {
        Fiber &f = fibers[i];
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks + i * stack_size;
        f.context.uc_stack.ss_size = stack_size;
        f.context.uc_link = nullptr;
        makecontext(&f.context, &enter, 0);
        f.index = {unsigned(i) % block_size.x, unsigned(i) / block_size.x % block_size.y,
                   unsigned(i) / (block_size.x * block_size.y)};
        f.wait = RUNNING;
        ready[n_ready++] = i;
    }
    while (n_ready) {
        const int pick = random_number() % n_ready;
        current = &fibers[ready[pick]];
        ready[pick] = ready[--n_ready];
        swapcontext(&scheduler, &current->context);
        if (current->wait == DONE)
            ++n_done;
        else
            release(*current, ready, n_ready);
    }
    if (n_done == n_threads) return nullptr;
    for (int i = 0; i < n_threads; ++i)
        if (fibers[i].wait != DONE) {
            snprintf(message, sizeof message,
                     "divergent barrier: thread %d of block %u waits at line %d for threads that "
                     "do not come (%d of %d have ended)",
                     i, block_index.x, fibers[i].line, n_done, n_threads);
            return message;
        }
    return nullptr;
}

inline const char *run(
    void (*kernel)(void *), void *argument, dim3 grid, dim3 block, uint64_t seed) {
    entry = kernel;
    entry_argument = argument;
    const size_t stack_size = 64 * 1024;
    random_state = 0x9e3779b97f4a7c15ull * (seed + 1);
    grid_size = grid;
    block_size = block;
    n_threads = block.x * block.y * block.z;
    if (n_threads % 32) return "the block is not a multiple of a warp";
    fibers = new Fiber[n_threads];
    char *stacks = static_cast<char *>(malloc(n_threads * stack_size));
    int *ready = new int[n_threads];
    const unsigned n_blocks = grid.x * grid.y * grid.z;
    unsigned *order = new unsigned[n_blocks];
    for (unsigned i = 0; i < n_blocks; ++i) {
        const unsigned j = random_number() % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    const char *error = nullptr;
    for (unsigned i = 0; i < n_blocks && !error; ++i) {
        const unsigned b = order[i];
        block_index = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        error = run_block(stacks, stack_size, ready);
    }
    delete[] fibers;
    delete[] ready;
    delete[] order;
    free(stacks);
    return error;
}

template <class T>
uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T exchange(int line, unsigned mask, T value, int source) {
    wait(WARP, line, mask, to_bits(value));
    T result;
    memcpy(&result, &current->received[source], sizeof result);
    return result;
}

inline int lane() { return (current - fibers) % 32; }

template <class T>
T shuffle(int line, unsigned mask, T value, int source, int width = 32) {
    const int base = lane() / width * width;
    return exchange(line, mask, value, base + ((source % width) + width) % width);
}
template <class T>
T shuffle_xor(int line, unsigned mask, T value, int bits, int width = 32) {
    const int source = lane() ^ bits;
    const bool inside = source / width == lane() / width || source < lane();
    return exchange(line, mask, value, inside ? source : lane());
}
template <class T>
T shuffle_up(int line, unsigned mask, T value, int by, int width = 32) {
    const int l = lane();
    return exchange(line, mask, value, l % width >= by ? l - by : l);
}
template <class T>
T shuffle_down(int line, unsigned mask, T value, int by, int width = 32) {
    const int l = lane();
    return exchange(line, mask, value, l % width + by < width ? l + by : l);
}

inline unsigned ballot(int line, unsigned mask, bool predicate) {
    wait(WARP, line, mask, predicate);
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1) votes |= unsigned(current->received[i] & 1) << i;
    return votes;
}

template <class... A>
struct Call {
    void (*kernel)(A...);
    void **arguments;

    template <size_t... I>
    void unpack(std::index_sequence<I...>) const {
        kernel(*static_cast<std::remove_reference_t<A> *>(arguments[I])...);
    }
    static void make(void *call) {
        static_cast<Call *>(call)->unpack(std::index_sequence_for<A...>{});
    }
};

template <class... A>
const char *launch(void (*kernel)(A...), void **arguments, const unsigned *shape, uint64_t seed) {
    Call<A...> call{kernel, arguments};
    return run(&Call<A...>::make, &call, dim3{shape[0], shape[1], shape[2]},
               dim3{shape[3], shape[4], shape[5]}, seed);
}

template <class T>
constexpr char letter() {
    if (std::is_pointer_v<T>) return 'P';
    if (std::is_same_v<T, float>) return 'f';
    if (std::is_same_v<T, double>) return 'd';
    if (std::is_integral_v<T>)
        return sizeof(T) == 8 ? (std::is_signed_v<T> ? 'q' : 'Q')
                              : (std::is_signed_v<T> ? 'i' : 'I');
    return '?';
}

template <class... A>
const char *signature(void (*)(A...)) {
    static const char letters[] = {letter<A>()..., 0};
    return letters;
}

}  // namespace shim

#define threadIdx (shim::current->index)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)
#define warpSize 32

#define __syncthreads() shim::wait(shim::BLOCK, __LINE__, 0, 0)
inline void shim_sync_warp(int line, unsigned mask = 0xffffffffu) {
    shim::wait(shim::WARP, line, mask, 0);
}
#define __syncwarp(...) shim_sync_warp(__LINE__, ##__VA_ARGS__)
#define __shfl_sync(...) shim::shuffle(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) shim::shuffle_xor(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) shim::shuffle_up(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) shim::shuffle_down(__LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) shim::ballot(__LINE__, mask, predicate)
#define __any_sync(mask, predicate) (shim::ballot(__LINE__, mask, predicate) != 0)
#define __all_sync(mask, predicate) (shim::ballot(__LINE__, mask, !(predicate)) == 0)
#define __threadfence()
#define __threadfence_block()

template <class T>
T atomicAdd(T *address, T value) {
    const T old = *address;
    *address = old + value;
    return old;
}
template <class T>
T atomicMax(T *address, T value) {
    const T old = *address;
    if (value > old) *address = value;
    return old;
}
template <class T>
T atomicMin(T *address, T value) {
    const T old = *address;
    if (value < old) *address = value;
    return old;
}

inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint64_t(a) * b >> 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
template <class T>
T __ldg(const T *p) {
    return *p;
}
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

// rcp.approx.ftz.f32 errs by at most one unit in the last place: so does this, up, down or not at
// all by the bits of the argument.
inline float reciprocal(float s) {
    const float exact = 1.0f / s;
    uint32_t bits;
    memcpy(&bits, &s, sizeof bits);
    const uint32_t hash = bits * 2654435761u >> 30;
    if (fabs(exact) < 1.1754944e-38f) return copysign(0.0f, exact);
    return hash == 0 ? nextafterf(exact, 0.0f) : hash == 1 ? nextafterf(exact, 2 * exact) : exact;
}
inline double reciprocal(double s) { return 1.0 / s; }
inline float square_root(float s, float *inverse) {
    const float root = std::sqrt(s);
    *inverse = reciprocal(root);
    return root;
}
inline double square_root(double s, double *inverse) {
    const double root = std::sqrt(s);
    *inverse = 1.0 / root;
    return root;
}
