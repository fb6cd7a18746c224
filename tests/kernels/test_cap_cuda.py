"""The energy cap's CUDA kernel, run on the CPU by the shim, against float64."""

import math

import numpy as np
import pytest
import torch
from bgfast_kernels import cuda
from bgfast_kernels.cap import cuda_kernels

from bgfast.ops import cap_cuda
from bgfast.ops.cap_reference import reference_lin_log_cap
from tests.cuda_shim import COMPILER, Guarded, ShimError, compile_module

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

DTYPES = [torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
E_HIGH, E_MAX = 100.0, 1e10


@pytest.fixture
def run(monkeypatch):
    """Let launches run in the shim, into memory with canaries around it."""
    made = []

    def start(seed=0, change=lambda source: source):
        def launch(program, kernel, *, grid, block, arguments, device, stream):
            assert (grid - 1) * block < arguments[1] <= grid * block
            assert (device, stream) == (2, 7)
            module = compile_module(change(program.source()))
            module.launch(kernel, (grid,), (block,), arguments, seed)

        monkeypatch.setattr(cuda, "launch", launch)

    def new_empty(like, shape):
        made.append(Guarded(tuple(shape), np.dtype(str(like.dtype).removeprefix("torch."))))
        return torch.from_numpy(made[-1].array)

    monkeypatch.setattr(cap_cuda, "place", lambda x: {"device": 2, "stream": 7})
    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)
    start()
    start.guarded = made
    return start


def energies(n, dtype):
    """Return energies of all ranges, with both limits, infinities and NaN where there is room."""
    u = 10 ** np.random.default_rng(0).uniform(-2, 12, size=n)
    special = [E_HIGH, E_MAX, math.inf, -math.inf, math.nan, -3.0, E_HIGH * (1 + 1e-6)]
    if n > len(special):
        u[: len(special)] = special
    return torch.from_numpy(u).to(dtype)


def check(run, n, dtype):
    u = energies(n, dtype)
    capped, derivative = cap_cuda.lin_log_cap(u, E_HIGH, E_MAX)
    for guarded in run.guarded:
        guarded.check()
    exact = u.double().requires_grad_()
    expected = reference_lin_log_cap(exact, E_HIGH, E_MAX)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    value, gradient = (1e-6, 2e-6) if dtype == torch.float32 else (1e-15, 1e-15)
    for found, right, rtol in ((capped, expected.detach(), value), (derivative, slope, gradient)):
        torch.testing.assert_close(found.double(), right, rtol=rtol, atol=0, equal_nan=True)


@every_dtype
@pytest.mark.parametrize("n", [1, 61, 128, 400])
def test_value_and_derivative_agree_with_float64(run, n, dtype):
    check(run, n, dtype)


@every_dtype
def test_every_order_of_threads_and_every_batch_gives_the_same_bits(run, dtype):
    u = energies(300, dtype)
    first = cap_cuda.lin_log_cap(u, E_HIGH, E_MAX)
    for seed in (1, 2):
        run(seed)
        for a, b in zip(first, cap_cuda.lin_log_cap(u, E_HIGH, E_MAX), strict=True):
            assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
    for a, b in zip(first, cap_cuda.lin_log_cap(u[200:201], E_HIGH, E_MAX), strict=True):
        assert torch.equal(a[200:201], b)


@every_dtype
def test_any_shape_and_layout(run, dtype):
    u = energies(60, dtype)[10:].reshape(5, 10)
    expected = cap_cuda.lin_log_cap(u, E_HIGH, E_MAX)
    for a, b in zip(cap_cuda.lin_log_cap(u.T, E_HIGH, E_MAX), expected, strict=True):
        assert torch.equal(a.T, b)
    for shape in ((0,), (2, 0)):
        assert cap_cuda.lin_log_cap(u.reshape(-1)[:0].reshape(shape), 0.0, 1.0)[0].shape == shape


# A test of a kernel is worth what it catches: each defect, planted in the source, has to fail.

DEFECTS = {
    "lost bounds guard": ("if (i >= n) return;", ""),
    "an energy too many": ("if (i >= n) return;", "if (i > n) return;"),
    "last energy left out": ("if (i >= n) return;", "if (i >= n - 1) return;"),
    "no end": ("(x > e_max ? e_max : x)", "x"),
    "slope at the end": ("x <= e_max ? real(1)", "x < e_max ? real(1)"),
    "slope above the end": ("slope *=", "slope ="),
    "slope of the logarithm left out": ("slope *= reciprocal(real(1) + excess);", ""),
    "slope of NaN": ("x <= e_max ? real(1) : real(0)", "real(1)"),
    "logarithm of the excess": ("log1p(excess)", "log(excess)"),
    "rounded excess": ("log1p(excess)", "log(real(float(real(1) + excess)))"),
    "slope without the one": ("reciprocal(real(1) + excess)", "reciprocal(excess)"),
    "limits exchanged": ("real e_high, real e_max", "real e_max, real e_high"),
    "results exchanged": ("real *capped, real *derivative", "real *derivative, real *capped"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(run, defect):
    right, wrong = DEFECTS[defect]
    assert cuda_kernels.program("float64").source().count(right) == 1
    run(change=lambda source: source.replace(right, wrong))
    with pytest.raises((AssertionError, ShimError)):
        check(run, 61, torch.float64)
