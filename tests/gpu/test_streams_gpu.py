"""On a GPU: streams, CUDA graphs, memory that is freed and used again, several devices."""

import pytest
import torch
from bgfast_kernels import get
from bgfast_kernels.dimer import DimerParameters, cuda_kernels
from bgfast_kernels.dimer.cuda_kernels import Mapping

from bgfast.ops import TORCH_OPS, dimer_energy_grad, dimer_hvp
from bgfast.ops.cuda import place
from bgfast.ops.dimer_reference import reference_energy_grad
from tests.cases import arguments

OPS = sorted(name for name in TORCH_OPS if "cuda" in get(name).implementations)
every_op = pytest.mark.parametrize("name", OPS)
BUSY = 500_000_000  # clock cycles, some 0.3 s: others may use the device, too


def case(name, n, device):
    """Return an op's main array on the device, and the op as a function of it."""
    args = arguments(name, n, torch.float32)
    main = get(name).arrays[0]
    others = {
        k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in args.items() if k != main
    }
    return args[main].to(device), lambda x: TORCH_OPS[name].function(
        **others, **{main: x}, backend="cuda"
    )


@every_op
def test_work_is_ordered_on_the_current_stream(gpu, name):
    x, function = case(name, 4000, gpu)
    expected = function(x)
    late = torch.zeros_like(x)
    side = torch.cuda.Stream(gpu)
    with torch.cuda.stream(side):
        function(late)  # memory of this stream, without which the driver would be asked for some
    torch.cuda.synchronize(gpu)
    with torch.cuda.stream(side):
        torch.cuda._sleep(BUSY)
        late.copy_(x)  # a kernel on another stream would read zeros
        found = function(late)
        late.zero_()  # and one that is late would, too
    assert not side.query(), "the op waited for the device"
    side.synchronize()
    assert torch.equal(found, expected)


@every_op
def test_a_cuda_graph_captures_and_replays_it(gpu, name):
    x, function = case(name, 500, gpu)
    function(x)  # compiled before the capture
    static = x.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function(static)
    for shift in (1, 7):
        static.copy_(x.roll(shift, 0))
        graph.replay()
        torch.cuda.synchronize(gpu)
        assert torch.equal(found, function(x.roll(shift, 0)))


def test_a_cuda_graph_captures_forward_and_backward(gpu):
    x, function = case("dimer", 500, gpu)
    static = x.clone().requires_grad_()

    def step():
        return torch.autograd.grad(function(static).sum(), static)[0]

    side = torch.cuda.Stream(gpu)
    with torch.cuda.stream(side):
        step()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        grad = step()
    with torch.no_grad():
        static.copy_(x.flip(0))
    graph.replay()
    torch.cuda.synchronize(gpu)
    assert torch.equal(grad, dimer_energy_grad(x.flip(0), DimerParameters(), backend="cuda")[1])


@every_op
def test_memory_freed_after_the_call_may_be_used_again_at_once(gpu, name):
    x, function = case(name, 20_000, gpu)
    expected = function(x)
    torch.cuda._sleep(BUSY // 10)
    results = []
    for _ in range(20):
        # A strided input is copied inside of the op, and the copy is freed while it waits.
        results.append(function(x.repeat_interleave(2, -1)[..., ::2]))
        torch.full_like(x, torch.nan)
    assert all(torch.equal(r, expected) for r in results)


@every_op
def test_every_device_has_its_own_kernels(gpu, name):
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, there is {torch.cuda.device_count()}")
    results = []
    for index in (1, 0, 1):  # whatever the current device is
        x, function = case(name, 500, torch.device("cuda", index))
        found = function(x)
        assert found.device.index == index
        results.append(found.cpu())
    assert all(torch.equal(r, results[0]) for r in results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("n_particles", "mapping"),
    [
        *((38, Mapping("symmetric", lanes)) for lanes in (2, 4, 8, 16, 32)),
        *((38, Mapping("gather", lanes)) for lanes in (4, 8, 32)),
        *((n, None) for n in (2, 3, 12, 64, 100, 600)),
    ],
)
def test_every_mapping_of_the_dimer_agrees_with_float64(gpu, n_particles, mapping, dtype):
    from bgfast_kernels.dimer import lattice

    p = DimerParameters(n_solvent=n_particles - 2)
    rows = lattice(torch_rng(), 61, "float64", p)
    x = torch.from_numpy(rows).to(gpu, dtype)
    u, grad = x.new_empty(61), torch.empty_like(x)
    name = str(dtype).removeprefix("torch.")
    addresses = (x.data_ptr(), 61, p, name, u.data_ptr(), grad.data_ptr())
    cuda_kernels.dimer_energy_grad(*addresses, **place(x), chosen=mapping)
    expected_u, expected_grad = reference_energy_grad(x.double().cpu(), p)
    # Twice what the shim allows: the hardware's approximate reciprocal is another one.
    rtol = 4e-6 if dtype == torch.float32 else 2e-13
    size = expected_grad.abs().amax(1).clamp(min=1e3)  # the dimer's terms cancel at a minimum
    assert ((u.double().cpu() - expected_u).abs() / expected_u.abs().clamp(min=50)).max() < rtol
    assert ((grad.double().cpu() - expected_grad).abs().amax(1) / size).max() < rtol


def torch_rng():
    import numpy as np

    return np.random.default_rng(0)


def test_hessian_products_of_far_and_overlapping_rows_agree_with_the_cpu(gpu):
    x, _ = case("dimer", 61, gpu)
    x[3] *= 2000.0
    x[4, 10:12] = x[4, 20:22] + 1e-3
    v = torch.linspace(-1, 1, x.numel(), device=gpu).reshape(x.shape)
    for a, b in ((x, v), (x.double(), v.double())):
        found = dimer_hvp(a, b, DimerParameters(), backend="cuda").cpu()
        expected = dimer_hvp(a.cpu(), b.cpu(), DimerParameters(), backend="numba")
        off = (found - expected).abs().amax(1) / expected.abs().amax(1)
        assert off.max() < (1e-5 if a.dtype == torch.float32 else 1e-12)
