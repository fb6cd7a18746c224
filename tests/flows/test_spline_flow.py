"""The layer Q: identity at first, bins and bound from the architecture, tails, extreme weights."""

import pytest
import torch

from bgfast.flows import SplineCoupling, architecture, from_config, log_prob
from bgfast.ops import use_backend


def randomised(flow, std, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator))
    return flow


def latent(n, dim, dtype=torch.float32):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(9)).to(dtype)


@pytest.mark.parametrize("split", ["even-odd", "particle"])
def test_a_new_spline_flow_is_the_identity(split):
    z = latent(1000, 76)
    x, logdet = architecture("Q6", 76, split=split)(z)
    torch.testing.assert_close(x, z, rtol=0, atol=1e-5)
    torch.testing.assert_close(logdet, torch.zeros(1000), rtol=0, atol=2e-4)


def test_bins_and_bound_are_part_of_the_configuration():
    flow = architecture("Q", 6, hidden=(4,), spline_bins=5, spline_bound=3.0)
    again = from_config(flow.config)
    block = again.flows[1]
    assert isinstance(block, SplineCoupling)
    assert (block.n_bins, block.bound) == (5, 3.0)
    assert block.knots_1.layers[-1].out_features == 3 * (3 * 5 - 1)
    assert "n_bins=5, bound=3" in repr(again)


def test_a_configuration_from_before_there_were_splines_is_read():
    config = architecture("R", 4, hidden=(3,)).config
    old = {k: v for k, v in config.items() if not k.startswith("spline")}
    assert from_config(old).config == config


def test_coordinates_beyond_the_bound_are_left_alone():
    flow = randomised(SplineCoupling(4, (8,), bound=2.0), 1.0)
    z = torch.full((3, 4), 2.5)
    z[1, 0], z[2] = 0.5, -1e30
    x, logdet = flow(z)
    assert torch.equal(x[[0, 2]], z[[0, 2]])
    assert torch.equal(logdet[[0, 2]], torch.zeros(2))
    assert x[1, 0] != z[1, 0]
    assert torch.equal(x[1, 1:], z[1, 1:])


@pytest.mark.parametrize("std", [30.0, 1e4])
def test_finite_latents_stay_finite_in_float32(std):
    flow = randomised(architecture("Q8", 8, hidden=(16,), seed=2), std)
    z = latent(500, 8)
    for direction in (flow.forward, flow.inverse):
        x, logdet = direction(z)
        assert torch.isfinite(x).all()
        assert torch.isfinite(logdet).all()
        loss = x.square().sum() - logdet.sum()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, flow.parameters()))
    assert logdet.abs().max() > 10.0  # the weights did bend


def test_float32_inverse_undoes_forward():
    flow = randomised(architecture("Q6", 76, hidden=(32,), split="particle"), 0.05)
    z = latent(500, 76)
    x, logdet = flow(z)
    assert (x - z).abs().max() > 0.5
    back, inverse_logdet = flow.inverse(x)
    torch.testing.assert_close(back, z, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=1e-5, atol=1e-4)


def test_density_integrates_to_one():
    flow = randomised(architecture("Q2", 2, hidden=(8,), dtype=torch.float64), 0.25)
    axis = torch.linspace(-9.0, 9.0, 1501, dtype=torch.float64)
    with torch.no_grad():
        density = log_prob(flow, torch.cartesian_prod(axis, axis)).exp()
    # Its kinks at the knots leave the trapezoidal rule with an error of second order.
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1.0, abs=1e-4)


def test_a_block_gives_what_plain_torch_gives():
    flow = randomised(architecture("Q2", 7, hidden=(8,), dtype=torch.float64), 0.5)
    z = latent(50, 7, torch.float64)
    for direction in (flow.forward, flow.inverse):
        found = direction(z)
        with use_backend("torch"):
            expected = direction(z)
        for a, b in zip(found, expected, strict=True):
            # Rounding moves a log-determinant of this flow by 3e-12, in plain torch too.
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_bins": 1}, "2 <= K"),
        ({"n_bins": 300}, "K <= 256"),
        ({"bound": 0.0}, "bound must be"),
        ({"dim": 1}, "two halves"),
    ],
)
def test_wrong_options_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        SplineCoupling(**{"dim": 4, "hidden": (3,), **options})
