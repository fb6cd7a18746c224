"""The Gauss transform's CUDA kernels, run on the CPU by the shim, against direct sums."""

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite_e
from torch.utils._python_dispatch import TorchDispatchMode

from bgfast.ops import gauss_transform_cuda as ops
from tests.cuda_shim import COMPILER, ShimError, launch_in_shim, planted
from tests.cuda_shim.fake_cupy import Machine, installed

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(ops, "place", lambda x: {"device": 0, "stream": 0})
    with installed(Machine()) as machine:
        yield machine


def kernel(u, order):
    """K^(order)(u) = (-1)^order He_order(u) exp(-u^2 / 2)."""
    return (-1) ** order * hermite_e.hermeval(u, np.eye(order + 1)[order]) * np.exp(-u * u / 2)


def images(p, bounds, parity):
    """Sources with all their images within reach, and the factors of their charges."""
    if not bounds:
        return p[None], np.ones((1, 1))
    lo, hi = bounds
    k = np.arange(-12, 13)[:, None]
    shifted = np.where(k % 2 == 0, p + k * (hi - lo), lo + hi + k * (hi - lo) - p)
    return shifted, np.where(k % 2 == 0, 1.0, parity)


def direct(q, p, c, h, order, bounds=(), parity=1):
    """Both sums by brute force, float64."""
    place, sign = images(p, bounds, parity)
    u = (q[:, None, None] - place) / h
    return [(kernel(u, k) * sign * c).sum((1, 2)) for k in (order, order + 1)]


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 1.5, n)
    return rng.normal(size=n), weights / weights.sum(), rng.normal(size=n)


def transform(q, p, c, scale, of_query, h, order, bounds=(), parity=1):
    tensors = [None if a is None else torch.from_numpy(a) for a in (q, p, c, scale)]
    found = ops.gauss_transform_cuda(*tensors, of_query, h, order, list(bounds), parity)
    return [t.numpy() for t in found]


# Many points to a box, some, one; walls closer than the reach of a kernel, and farther.
WIDTHS = pytest.mark.parametrize("h", [0.002, 0.1, 3.0])
BOUNDS = pytest.mark.parametrize("bounds", [(), (-5.0, 5.0)], ids=["free", "walls"])


@WIDTHS
@BOUNDS
def test_densities_and_slopes_at_the_points_are_direct_sums(machine, h, bounds):
    p, w, _ = sample(700 if h > 1 else 300)
    sums, slopes, scale = transform(None, p, w, None, True, h, 0, bounds)
    expected, expected_slopes = direct(p, p, w, h, 0, bounds)
    assert (scale == 0).all()
    np.testing.assert_allclose(sums, expected, rtol=1e-10)
    np.testing.assert_allclose(slopes, expected_slopes, atol=1e-11 * expected.max())


@WIDTHS
@BOUNDS
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("parity", [1, -1])
def test_higher_orders_and_charges_of_either_sign(machine, h, bounds, order, parity):
    p, _, c = sample(300)
    q = np.linspace(-4.9, 4.9, 41)
    found = transform(q, p, c, np.zeros(41), True, h, order, bounds, parity)[:2]
    for value, expected in zip(found, direct(q, p, c, h, order, bounds, parity), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-10 * abs(c).sum())


@BOUNDS
def test_far_targets_have_relative_accuracy_by_their_scale(machine, bounds):
    p, w, _ = sample(200)
    q, h = np.array([-4.99, 0.3, 4.0, 4.99]), 0.1
    sums, slopes, scale = transform(q, p, w, None, True, h, 0, bounds)
    assert (scale > 0).tolist() == [True, False, True, True]
    place, _ = images(p, bounds, 1)
    u = (q[:, None, None] - place) / h
    exponent = np.log(w) - u * u / 2
    largest = exponent.max((1, 2), keepdims=True)
    log_density = largest[:, 0, 0] + np.log(np.exp(exponent - largest).sum((1, 2)))
    np.testing.assert_allclose(np.log(sums) - scale, log_density, rtol=1e-10)
    ratio = (-u * np.exp(exponent - largest)).sum((1, 2)) / np.exp(exponent - largest).sum((1, 2))
    np.testing.assert_allclose(slopes / sums, ratio, rtol=1e-8)
    again = transform(q, p, w, scale, True, h, 0, bounds)
    np.testing.assert_allclose(again[0], sums, rtol=1e-9)


@BOUNDS
def test_sources_with_a_scale_are_added_one_by_one(machine, bounds):
    p, _, c = sample(150)
    scale = np.zeros(150)
    scale[[3, 77]] = [2.0, 30.0]
    q = np.linspace(-4.9, 4.9, 37)
    found = transform(q, p, c, scale, False, 0.4, 1, bounds, -1)[:2]
    expected = direct(q, p, c * np.exp(scale), 0.4, 1, bounds, -1)
    for value, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, e, atol=1e-9 * abs(e).max())


@pytest.mark.parametrize(
    "p",
    [
        [0.7],
        [0.7] * 300,
        [-1e18, 0.0, 0.1, 1e18],
        [-1e300, 1e300],
        [1e6, 1e6 + 0.125, 0.0, 0.25],
        [0.0, 0.1, 0.2, 0.4, 0.8, 1e9, 1e9 + 0.25],
    ],
)
def test_degenerate_points(machine, p):
    p = np.array(p)
    w = np.full(len(p), 1 / len(p))
    with np.errstate(over="ignore"):
        expected = direct(p, p, w, 0.3, 0)[0]
    np.testing.assert_allclose(transform(None, p, w, None, True, 0.3, 0)[0], expected, rtol=1e-9)


def test_no_targets_give_no_sums(machine):
    p, w, _ = sample(5)
    assert [len(a) for a in transform(p[:0], p, w, None, True, 0.3, 0)] == [0, 0, 0]


@pytest.mark.parametrize("bad", ["point", "query", "weight", "infinite"])
def test_bad_numbers_make_every_result_nan(machine, bad):
    p, w, _ = sample(60)
    q = p[:7].copy()
    if bad == "weight":
        w[3] = -0.1
    else:
        (q if bad == "query" else p)[4] = np.inf if bad == "infinite" else np.nan
    sums, slopes, _ = transform(q, p, w, None, True, 0.2, 0)
    assert np.isnan(sums).all()
    assert np.isnan(slopes).all()


def test_any_order_of_threads_gives_the_same_bits(machine):
    p, w, c = sample(600)
    q = np.linspace(-8, 8, 50)
    results = []
    for machine.seed in range(3):
        results.append(transform(q, p, w, None, True, 0.15, 0))
        results[-1] += transform(None, p, c, np.linspace(0, 1, 600).round(), False, 0.15, 1)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


class NoHostRoundTrip(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(function), "reads a number back"
        assert "nonzero" not in str(function), "a shape depends on the data"
        return function(*args, **(kwargs or {}))


def test_nothing_is_read_back_from_the_device(machine):
    p, w, c = sample(50)
    transform(None, p, w, None, True, 0.2, 0, (-5.0, 5.0))  # tables are copied once
    transform(None, p, c, np.ones(50), False, 0.2, 1)
    with NoHostRoundTrip():
        transform(None, p, w, None, True, 0.2, 0, (-5.0, 5.0))
        transform(p.copy(), p, c, np.ones(50), False, 0.2, 1)


DEFECTS = {
    "heads of chunks lost": ("sum += head[", "sum += 0 * head["),
    "first of a box skipped": ("sum = real(0);\n        }", "sum = real(0); continue;\n        }"),
    "neighbour on one side": ("offset < -NEAR || offset > NEAR", "offset < 0 || offset > NEAR"),
    "images not mirrored": ("return images.lo + images.hi +", "return 2 * p +"),
    "wrong target": ("const long long target = index[i];", "const long long target = i;"),
    "a lane's points lost": ("j < n; j += 32", "j < n; j += 64"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(machine, monkeypatch, defect):
    def check():
        test_densities_and_slopes_at_the_points_are_direct_sums(machine, 0.1, (-5.0, 5.0))
        test_far_targets_have_relative_accuracy_by_their_scale(machine, (-5.0, 5.0))

    with planted(*DEFECTS[defect]) as change:
        launch_in_shim(monkeypatch, change=change)
        with pytest.raises((AssertionError, ShimError)):
            check()
