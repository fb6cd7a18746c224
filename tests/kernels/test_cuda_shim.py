"""The shim itself: it computes what CUDA would, and notices what CUDA leaves undefined."""

import numpy as np
import pytest

from tests.cuda_shim import COMPILER, Guarded, Module, ShimError, planted

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

KERNELS = """
extern "C" __global__ void scan(const float *x, float *out) {
    float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int d = 1; d < 32; d *= 2) {
        const float other = __shfl_up_sync(0xffffffffu, sum, d);
        if (threadIdx.x % 32 >= d) sum += other;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
extern "C" __global__ void groups(int *out) {
    const int lane = threadIdx.x % 8, i = threadIdx.x;
    out[4 * i] = __shfl_sync(0xffffffffu, i, lane + 3, 8);
    out[4 * i + 1] = __shfl_xor_sync(0xffffffffu, i, 5, 8);
    out[4 * i + 2] = __shfl_down_sync(0xffffffffu, i, 2, 8);
    out[4 * i + 3] = __popc(__ballot_sync(0xffffffffu, i % 3 == 0));
}
extern "C" __global__ void reverse(const double *x, double *out) {
    __shared__ double tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    SYNC
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void divergent(int *out) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncwarp();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void early(int *out) {
    if (threadIdx.x == 5) return;
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
extern "C" __global__ void two_lines(int *out) {
    if (threadIdx.x < 3) __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void total(float *out) { atomicAdd(out, 1.0f / (1 + threadIdx.x)); }
extern "C" __global__ void typed(const float *x, int a, long long b, float c, double d) {}
"""


@pytest.fixture(scope="module")
def module():
    return Module(KERNELS.replace("SYNC", "__syncthreads();"))


def address(array):
    return np.uint64(array.ctypes.data)


@pytest.mark.parametrize("seed", range(3))
def test_shuffles_votes_and_barriers_are_those_of_cuda(module, seed):
    x, out = np.arange(128, dtype=np.float32), np.empty(128, np.float32)
    module.launch("scan", (2,), (64,), [address(x), address(out)], seed)
    np.testing.assert_array_equal(out.reshape(4, 32), x.reshape(4, 32).cumsum(1))

    out = np.empty((64, 4), np.int32)
    module.launch("groups", (1,), (64,), [address(out)], seed)
    i = np.arange(64)
    base, lane = i // 8 * 8, i % 8
    np.testing.assert_array_equal(out[:, 0], base + (lane + 3) % 8)
    np.testing.assert_array_equal(out[:, 1], base + (lane ^ 5))
    np.testing.assert_array_equal(out[:, 2], np.where(lane < 6, i + 2, i))
    np.testing.assert_array_equal(out[:, 3], np.repeat([11, 11], 32))

    x, out = np.arange(64.0), np.empty(64)
    module.launch("reverse", (1,), (64,), [address(x), address(out)], seed)
    np.testing.assert_array_equal(out, x[::-1])


def test_without_its_barrier_a_kernel_reads_the_poison():
    module = Module(KERNELS.replace("SYNC", ""))
    x, out = np.arange(64.0), np.empty(64)
    module.launch("reverse", (1,), (64,), [address(x), address(out)])
    assert np.isnan(out).any()


@pytest.mark.parametrize("kernel", ["divergent", "early", "two_lines"])
def test_a_divergent_barrier_is_an_error(module, kernel):
    out = np.zeros(64, np.int32)
    with pytest.raises(ShimError, match=f"kernel {kernel}: divergent barrier: thread .* line"):
        module.launch(kernel, (1,), (64,), [address(out)])


def test_an_order_of_threads_that_matters_shows_in_the_bits(module):
    sums = set()
    for seed in range(5):
        out = np.zeros(1, np.float32)
        module.launch("total", (1,), (512,), [address(out)], seed)
        sums.add(out[0].item())
    assert len(sums) > 1
    assert max(sums) - min(sums) < 1e-4


def test_argument_types_are_compared_with_the_declaration(module):
    right = [np.uint64(0), np.int32(1), np.int64(1), np.float32(1), np.float64(1)]
    module.launch("typed", (1,), (32,), right)
    for wrong in (right[:-1], [right[0], np.int64(1), *right[2:]], [*right[:4], np.float32(1)]):
        with pytest.raises(TypeError, match="kernel typed takes Piqfd, was given"):
            module.launch("typed", (1,), (32,), wrong)


def test_a_defect_that_is_nowhere_planted_is_not_taken_for_found():
    with planted("reverse", "forward") as change:
        assert change("no kernel") == "no kernel"
        assert change("reverse(x)") == "forward(x)"
    nowhere = planted("revers(", "forward(")
    with pytest.raises(AssertionError, match="nothing was planted"), nowhere as change:
        change(KERNELS)


def test_canaries_notice_stray_and_missing_writes():
    for index in (-1, 5):
        guarded = Guarded(5, np.float32)
        guarded.array[:] = 1.0
        np.lib.stride_tricks.as_strided(guarded.array, (10,))[index] = 1.0
        if index == -1:
            guarded._before[-1] = 1.0
        with pytest.raises(AssertionError, match="before|behind"):
            guarded.check()
    guarded = Guarded(5, np.float32)
    guarded.array[:4] = 1.0
    with pytest.raises(AssertionError, match="unwritten"):
        guarded.check()
