"""The energy cap beyond what every op promises."""

import math

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu

from bgfast.ops import BackendError, lin_log_cap
from bgfast.ops.cap_reference import reference_lin_log_cap
from bgfast.training import LinLogCap
from tests.waiting import NoWaiting

DTYPES = [torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
E_HIGH, E_MAX = 100.0, 1e10


def by_the_op(u, e_high, e_max):
    """Go through the dispatcher, as on a device."""
    with NoWaiting():
        return lin_log_cap(u, e_high, e_max)


every_path = pytest.mark.parametrize("cap", [lin_log_cap, by_the_op], ids=["eager", "op"])


def edges(dtype):
    """Return the limits, their neighbours and what is no finite number."""
    at = torch.tensor([E_HIGH, E_MAX], dtype=dtype)
    below, above = (at.nextafter(torch.tensor(s * math.inf, dtype=dtype)) for s in (-1, 1))
    largest = torch.finfo(dtype).max
    others = [-math.inf, -largest, 0.0, 150.0, 1e6, largest, math.inf, math.nan]
    return torch.cat((at, below, above, torch.tensor(others, dtype=dtype)))


def derivatives(cap, u):
    """Return the value, the derivative, and the gradients of a sum of its squares times weights."""
    u = u.clone().requires_grad_()
    weight = torch.linspace(1, 2, u.numel(), dtype=u.dtype).requires_grad_()
    value = cap(u, E_HIGH, E_MAX)
    (first,) = torch.autograd.grad((value * weight).sum(), u, create_graph=True)
    second = torch.autograd.grad(first.square().sum(), (u, weight))
    return value.detach(), first.detach(), *second


@every_path
@every_dtype
def test_derivatives_at_the_limits_are_those_of_plain_torch(dtype, cap):
    u = edges(dtype)
    found, expected = (derivatives(f, u) for f in (cap, reference_lin_log_cap))
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-6, atol=0)
    once = u.clone().requires_grad_()
    cap(once, E_HIGH, E_MAX).backward(torch.ones_like(u))
    assert torch.equal(once.grad[:6] > 0, torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool))
    (plain,) = torch.autograd.grad(reference_lin_log_cap(once, E_HIGH, E_MAX).sum(), once)
    assert torch.equal(once.grad, plain)  # to the bit


@every_path
def test_third_derivatives_are_those_of_plain_torch(cap):
    results = []
    for function in (cap, reference_lin_log_cap):
        u = torch.tensor([3.0, 103.0, 150.0, 2e10], dtype=torch.float64, requires_grad=True)
        y = function(u, E_HIGH, E_MAX)
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), u, create_graph=True)
        results.append(y.detach())
    torch.testing.assert_close(*results)
    assert (results[0] != 0).tolist() == [False, True, True, False]


@every_path
@every_dtype
def test_no_gradient_comes_back_where_the_cap_is_constant_not_even_nan(dtype, cap):
    u = torch.tensor([1.0, E_MAX * 2, math.inf, math.nan], dtype=dtype, requires_grad=True)
    for bad in (math.nan, math.inf):
        for graph in (False, True):
            from_outside = torch.tensor([1.0, bad, bad, bad], dtype=dtype)
            (found,) = torch.autograd.grad(
                cap(u, E_HIGH, E_MAX), u, from_outside, create_graph=graph
            )
            assert found.tolist() == [1.0, 0.0, 0.0, 0.0]


@every_dtype
@pytest.mark.parametrize("e_high", [0.0, -3.0, 1e4])
def test_small_and_huge_excesses_are_exact_to_rounding(dtype, e_high):
    excess = torch.logspace(-30, 30, 6001, dtype=torch.float64)
    u = (e_high + excess).to(dtype)
    limit = 1e30
    found = lin_log_cap(u, e_high, limit)
    exact = u.double().numpy().astype(np.longdouble).clip(max=limit) - e_high
    expected = torch.from_numpy((e_high + np.log1p(exact)).astype(float))
    # What is added to e_high, and the sum, both to rounding.
    size = expected.abs() + (expected - e_high).abs()
    assert ((found.double() - expected).abs() <= 2 * torch.finfo(dtype).eps * size).all()


@every_dtype
@pytest.mark.parametrize("shape", [(), (0,), (1,), (15,), (17,), (3, 5), (2, 0, 3)])
def test_any_shape_and_layout(shape, dtype):
    u = 200 * torch.rand(shape, dtype=dtype)
    found = lin_log_cap(u, E_HIGH, E_MAX)
    torch.testing.assert_close(found, reference_lin_log_cap(u, E_HIGH, E_MAX))
    swapped = u.movedim(0, -1) if u.ndim else u
    again = lin_log_cap(swapped, E_HIGH, E_MAX)
    assert torch.equal(again.movedim(-1, 0) if u.ndim else again, found)
    expanded = lin_log_cap(u.expand(2, *shape), E_HIGH, E_MAX)
    assert torch.equal(expanded, found.expand(2, *shape))


@every_dtype
def test_parts_of_several_threads_have_the_bits_of_one(dtype):
    n = 3 * 2**16 + 5
    u = 10 ** (8 * torch.rand(n, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    try:
        cpu.set_threads(3)
        threaded = lin_log_cap(u, E_HIGH, E_MAX)
    finally:
        cpu.set_threads(None)
    parts = [lin_log_cap(part, E_HIGH, E_MAX) for part in u.split(1001)]
    assert torch.equal(threaded, torch.cat(parts))


@every_dtype
def test_forward_mode_is_that_of_plain_torch(dtype):
    u = torch.tensor([1.0, 150.0, 1e6, 2e10], dtype=dtype)
    for cap in (lin_log_cap, reference_lin_log_cap):
        value, change = torch.func.jvp(
            lambda u, cap=cap: cap(u, E_HIGH, E_MAX), (u,), (torch.ones_like(u),)
        )
        torch.testing.assert_close(value, lin_log_cap(u, E_HIGH, E_MAX))
        expected = torch.tensor([1, 1 / 51, 1 / (1e6 - 99), 0], dtype=dtype)
        torch.testing.assert_close(change, expected)


def test_limits_that_a_dtype_does_not_hold_are_refused():
    u = torch.ones(3)
    for e_high, e_max in ((0.0, 1e39), (-1e39, 0.0)):
        with pytest.raises(ValueError, match=r"finite in torch\.float32"):
            lin_log_cap(u, e_high, e_max)
        lin_log_cap(u.double(), e_high, e_max)
    with pytest.raises(ValueError, match="e_high < e_max"):
        lin_log_cap(u, 2.0, 1.0)


def test_the_cap_of_training_is_the_op(monkeypatch):
    u = torch.tensor([1.0, 1e6])
    assert torch.equal(LinLogCap(E_HIGH)(u), lin_log_cap(u, E_HIGH, E_MAX))
    monkeypatch.setenv("BGFAST_BACKEND", "cuda")
    with pytest.raises(BackendError, match="'lin_log_cap'"):
        LinLogCap(E_HIGH)(u)
