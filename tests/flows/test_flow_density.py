"""Densities are normalised and weights follow the formula."""

import math

import pytest
import torch

from bgfast.flows import (
    Whitening,
    architecture,
    log_prob,
    log_q,
    log_weight,
    prior_log_prob,
    prior_sample,
)


def flow_2d(spec, whiten=True):
    generator = torch.Generator().manual_seed(4)
    data = torch.randn(100, 2, generator=generator, dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.6], [0.0, 0.5]], dtype=torch.float64
    )
    flow = architecture(
        spec,
        2,
        hidden=(16, 16),
        whitening=Whitening.fit(data, "pca") if whiten else None,
        dtype=torch.float64,
    )
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return flow


@pytest.mark.parametrize("spec", ["R3", "N3S"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_density_integrates_to_one(spec, tau):
    flow = flow_2d(spec)
    axis = torch.linspace(-20.0, 20.0, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = log_prob(flow, grid, tau).exp()
    integral = density.sum() * (axis[1] - axis[0]) ** 2
    assert integral.item() == pytest.approx(1.0, abs=1e-6)


def test_log_q_of_a_sample_is_its_log_prob():
    flow = flow_2d("R2S")
    z = prior_sample(50, 2, 1.5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, logdet = flow.forward(z)
    torch.testing.assert_close(log_q(z, logdet, 1.5), log_prob(flow, x, 1.5), rtol=0, atol=1e-11)


def test_prior_matches_torch_normal():
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, math.sqrt(2.5)).log_prob(z).sum(-1)
    torch.testing.assert_close(prior_log_prob(z, 2.5), expected)


def test_prior_samples_have_variance_tau_and_follow_the_generator():
    def draw(dtype=torch.float32):
        generator = torch.Generator().manual_seed(7)
        return prior_sample(20_000, 3, 4.0, generator=generator, dtype=dtype)

    assert draw().var().item() == pytest.approx(4.0, rel=0.03)
    assert torch.equal(draw(), draw())
    assert draw(torch.float64).dtype == torch.float64


def test_mean_weight_is_the_partition_function():
    # u = |x|^2 / (2 k) has Z = 2 pi k tau in two dimensions.
    flow, tau, k = flow_2d("R2", whiten=False), 1.3, 0.8
    z = prior_sample(200_000, 2, tau, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        x, logdet = flow.forward(z)
    log_w = log_weight(x.square().sum(-1) / (2 * k), z, logdet, tau)
    assert log_w.exp().mean().item() == pytest.approx(2 * math.pi * k * tau, rel=0.02)


def test_weights_of_float32_samples_are_float64_with_rowwise_tau():
    z = torch.randn(4, 76, generator=torch.Generator().manual_seed(3))
    energy, logdet, tau = torch.arange(4.0), torch.ones(4), torch.tensor([0.5, 1.0, 1.5, 2.0])
    log_w = log_weight(energy, z, logdet, tau)
    assert log_w.dtype == torch.float64
    for i, t in enumerate(tau.tolist()):
        expected = (
            -energy[i].item() / t
            + sum(c * c for c in z[i].tolist()) / (2 * t)
            + 1.0
            + 38 * math.log(2 * math.pi * t)
        )
        assert log_w[i].item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(tau):
    z = torch.zeros(3, 2)
    for call in (
        lambda: prior_sample(3, 2, tau),
        lambda: prior_log_prob(z, tau),
        lambda: log_weight(torch.zeros(3), z, torch.zeros(3), tau),
    ):
        with pytest.raises(ValueError, match="tau must be positive"):
            call()


def test_weights_refuse_unequal_batches():
    with pytest.raises(ValueError, match="batch shape"):
        log_weight(torch.zeros(3, 1), torch.zeros(3, 2), torch.zeros(3))
