"""The parts of annealing: weights, resampling, and moves that leave their density as it is."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgfast.energies import Bias, Biased, DoubleWell, ParticleDimer
from bgfast.flows import architecture
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.hmc import hmc
from bgfast.sampling.anneal.local import LocalMoves
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.result import jackknife, judge, log_mean
from bgfast.sampling.anneal.weights import (
    conditional_ess,
    ess_share,
    next_beta,
    scaled,
    systematic,
)
from tests.cuda_shim import COMPILER
from tests.montecarlo_shim import tensors_of_the_cpu

LOG_WEIGHTS = st.lists(st.floats(-20, 5), min_size=1, max_size=30).map(np.array)


@given(LOG_WEIGHTS, st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_resampling_draws_each_particle_its_share_rounded_down_or_up(log_weights, n, uniform):
    index = systematic(log_weights, n, uniform)
    expected = n * np.exp(log_weights) / np.exp(log_weights).sum()
    counts = np.bincount(index, minlength=log_weights.size)
    assert counts.sum() == n
    assert (np.abs(counts - expected) < 1 + 1e-9).all()


def test_resampling_is_unbiased():
    log_weights = np.log([0.1, 0.45, 0.0001, 0.2, 0.2499])
    uniforms = (np.arange(5000) + 0.5) / 5000  # their mean is the average over all draws
    counts = sum(np.bincount(systematic(log_weights, 7, u), minlength=5) for u in uniforms)
    np.testing.assert_allclose(counts / 5000, 7 * np.exp(log_weights), atol=5e-4)


def test_particles_of_weight_0_are_never_drawn():
    log_weights = np.array([-np.inf, 0.0, -np.inf, -1.0, -np.inf])
    for uniform in np.linspace(0, 1, 50, endpoint=False):
        assert set(systematic(log_weights, 9, uniform)) <= {1, 3}


def test_conditional_ess_is_its_formula():
    rng = np.random.default_rng(0)
    log_weights, log_v = rng.normal(size=(2, 40))
    w, v = np.exp(log_weights) / np.exp(log_weights).sum(), np.exp(log_v)
    assert conditional_ess(log_weights, log_v) == pytest.approx((w @ v) ** 2 / (w @ v**2))
    assert conditional_ess(log_weights, np.full(40, 3.0)) == pytest.approx(1)
    assert ess_share(log_weights) == pytest.approx(1 / (w @ w) / 40)
    dead = np.array([0.0, 0.0, -np.inf])
    assert conditional_ess(dead, np.array([1.0, 1.0, -np.inf])) == pytest.approx(1)


def test_the_next_beta_keeps_the_conditional_ess():
    log_w = np.random.default_rng(1).normal(0, 30, 500)
    beta = next_beta(np.zeros(500), log_w, 0.0, 0.9)
    assert 0 < beta < 1
    assert conditional_ess(np.zeros(500), beta * log_w) == pytest.approx(0.9)
    assert next_beta(np.zeros(500), 0.01 * log_w, 0.5, 0.9) == 1


def test_a_schedule_ends_whatever_the_weights_are():
    log_w = -np.logspace(0, 300, 200)
    beta, n = 0.0, 0
    while beta < 1:
        new = next_beta(np.zeros(200), log_w, beta, 0.99)
        assert new > beta
        beta, n = new, n + 1
    assert n <= 250
    assert np.isneginf(scaled(np.array([-np.inf]), 0.0)).all()


def flow():
    made = architecture("R2S", dim=2, hidden=(8,), split="even-odd", seed=4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made


def quadrature(target, beta):
    """Mean of x1, x1^2 and x2^2 under q^(1 - beta) exp(-beta u / tau)."""
    axis = torch.linspace(-6, 6, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    points = target.particles(target.inverse(grid))
    log_p = points.log_q + beta * points.log_w
    p = torch.exp(log_p - log_p.max())
    return [float((p * f(grid)).sum() / p.sum()) for f in MOMENTS]


MOMENTS = (lambda x: x[:, 0], lambda x: x[:, 0] ** 2, lambda x: x[:, 1] ** 2)


KINDS = [("hmc", 1.0), ("hmc", 2.0), ("local", 2.0), ("local at another energy", 1.0)]


@pytest.mark.parametrize(
    ("kind", "tau", "on_device"),
    [(*kind, False) for kind in KINDS]
    + [
        pytest.param(*kind, True, marks=pytest.mark.skipif(COMPILER is None, reason="needs g++"))
        for kind in KINDS[2:]
    ],
)
def test_moves_leave_the_intermediate_density_as_it_is(kind, tau, on_device):
    shallow = DoubleWell(a4=0.2, a2=0.6, a1=0.2)
    target = Target(flow(), shallow, tau)
    beta, n, rng = 0.5, 2000, np.random.default_rng(3)
    system = shallow if kind == "local" else DoubleWell(a4=0.1, a2=0.2, a1=0.0, k=0.6)
    local = LocalMoves(system, tau, None)
    z = torch.from_numpy(rng.normal(size=(n, 2)))
    particles = target.particles(z)
    with tensors_of_the_cpu() if on_device else nullcontext():
        if on_device:
            local = DeviceLocalMoves(local, torch.device("cpu"))
        for _ in range(60 if kind == "hmc" else 80):
            if kind == "hmc":
                particles, probability = hmc(target, particles, beta, 0.6, 3, rng, 1024)
            else:
                particles, probability = local.move(target, particles, beta, 4, 0.7, rng, 9999)
    assert 0.3 < float(probability.mean()) < 0.999
    for moment, exact in zip(MOMENTS, quadrature(target, beta), strict=True):
        values = moment(particles.x)
        error = float(values.std()) / math.sqrt(n)
        assert abs(float(values.mean()) - exact) < 3.5 * error


def test_sweeps_there_and_back_visit_the_particles_in_palindromic_order():
    free = ParticleDimer(n_solvent=3, eps=0.0, k_d=0.0, a=0.0, b=0.0, c=0.0, k_box=0.0)
    start = free.lattice_configuration(1.5)[None].numpy()  # all moves are accepted

    def moved(moves, n):
        sampler = MetropolisSampler(free, start, step=0.1, moves=moves, seed=2)
        return (sampler.run(n, n).x[:, 0] - start).reshape(-1, 2)

    first, both = moved("particle", 1), moved("particle", 2)
    second = both - first
    np.testing.assert_allclose(
        moved("particle-palindrome", 2), first + second[::-1], rtol=0, atol=1e-12
    )


def test_a_bias_goes_through_its_points_and_is_flat_beyond():
    r, b = np.array([0.0, 1.0, 2.5]), np.array([1.0, -2.0, 0.5])
    bias = Bias(r, b)
    at = torch.tensor([-9.0, 0.0, 1.0, 2.5, 3.0, 99.0], dtype=torch.float64)
    np.testing.assert_allclose(bias(at), [1.0, 1.0, -2.0, 0.5, 0.5, 0.5], atol=1e-12)
    inner = torch.linspace(-0.5, 3.0, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bias, inner)
    fine = bias(torch.linspace(0, 2.5, 500, dtype=torch.float64))
    assert float(fine.min()) >= -2 - 1e-12
    assert float(fine.max()) <= 1 + 1e-12


def test_a_biased_energy_has_the_force_of_its_sum():
    biased = Biased(DoubleWell(), lambda x: x[..., 0], Bias([-1.0, 0.0, 2.0], [0.0, 3.0, 1.0]))
    x = torch.randn(20, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(biased.energy, x)
    (gradient,) = torch.autograd.grad(biased.energy(x).sum(), x)
    for at in (x, x.detach()):
        torch.testing.assert_close(biased.force(at), -gradient)


def test_the_error_of_the_mean_of_islands_is_that_of_a_mean():
    values = np.random.default_rng(0).uniform(1, 2, 10)
    mean, stderr = jackknife(values, lambda total: total / 10)
    assert mean == pytest.approx(values.mean())
    assert stderr == pytest.approx(values.std(ddof=1) / math.sqrt(10))
    assert math.isnan(log_mean(np.array([1.0])).stderr)
    assert log_mean(np.array([-2e4, -2e4])).value == pytest.approx(-2e4)


def test_the_verdict_follows_the_islands():
    fine = (np.full(4, 500.0), np.full(9, 0.8))
    assert judge(np.array([1.0, 1.02, 0.99, 1.0]), *fine).level == "good"
    assert judge(np.array([1.0, 1.8, 0.2, 1.0]), *fine).level == "poor"
    assert judge(np.array([1.0, -np.inf]), *fine).level == "poor"
    assert judge(np.array([1.0]), *fine).level == "caution"
    assert judge(np.array([1.0, 1.0]), np.array([3.0, 4.0]), fine[1]).level == "poor"
