import math

import pytest
import torch
from training_toys import AffineFlow, Harmonic, SquareRootFlow, gradients

from bgfast.training import LinLogCap, kl_loss, ml_loss, rc_loss

CAP = LinLogCap(1e4)
BOUNDS = (-2.5, 2.5)


def normal(n, dim=2, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_ml_is_the_gaussian_negative_log_likelihood(tau):
    flow, x = AffineFlow(), normal(50)
    scale = flow.log_scale.exp() * math.sqrt(tau)
    expected = -torch.distributions.Normal(flow.shift, scale).log_prob(x).sum(1)
    torch.testing.assert_close(ml_loss(flow, x, tau=tau).value, expected.mean())


def test_weighted_ml_equals_repeated_examples():
    flow, x = AffineFlow(), normal(4)
    repeats = torch.tensor([3, 0, 1, 2])
    weighted = ml_loss(flow, x, weights=repeats.double())
    torch.testing.assert_close(weighted.value, ml_loss(flow, x.repeat_interleave(repeats, 0)).value)


@pytest.mark.parametrize("taus", [(1.0,), (0.5, 1.0, 4.0)])
def test_kl_of_an_affine_flow_and_a_gaussian_is_the_closed_form(taus):
    flow, k, n = AffineFlow(), 2.0, 200_000
    tau = torch.tensor(taus).double().repeat_interleave(n)
    # Antithetic and exactly standardised per temperature: the second moments are exact.
    half = normal(n // 2)
    z = torch.cat([half, -half])
    z = z / z.square().mean(0).sqrt()
    z = z.repeat(len(taus), 1) * tau.sqrt()[:, None]
    loss = kl_loss(flow, Harmonic(k=k), z, tau, CAP).value
    work = [0.5 * k * (flow.log_scale.mul(2).exp() * t + flow.shift**2).sum() / t for t in taus]
    expected = torch.stack(work).mean() - flow.log_scale.sum()
    torch.testing.assert_close(loss, expected)
    exact = torch.autograd.grad(expected, list(flow.parameters()))
    torch.testing.assert_close(gradients(flow, loss), torch.cat(exact))


def test_kl_is_smallest_at_the_target():
    k = 2.0
    flow, z = AffineFlow(), normal(1000)
    with torch.no_grad():
        flow.shift.zero_()
        flow.log_scale.fill_(-0.5 * math.log(k))
    z = torch.cat([z, -z]) / z.square().mean(0).sqrt()
    loss = kl_loss(flow, Harmonic(k=k), z, 1.0, CAP).value
    log_z = math.log(2 * math.pi / k)
    torch.testing.assert_close(loss.item(), 1 + math.log(2 * math.pi) - log_z)
    assert gradients(flow, loss).abs().max() < 1e-12


@pytest.mark.parametrize("poison", ["energy", "latent", "flow"])
def test_kl_leaves_bad_rows_out_of_value_and_gradient(poison):
    z = normal(64)
    flow = SquareRootFlow() if poison == "flow" else AffineFlow()
    energy = Harmonic(edge=1.0 if poison == "energy" else math.inf)
    if poison == "latent":
        z[5, 1] = math.nan
        z[9, 0] = math.inf
    with torch.no_grad():
        x, _ = flow(z)
    clean = x.isfinite().all(1) & z.isfinite().all(1) & ~(x[:, 0] > energy.edge)
    assert 0 < (~clean).sum() < 32
    loss = kl_loss(flow, energy, z, 1.0, CAP)
    reference = kl_loss(flow, Harmonic(), z[clean], 1.0, CAP)
    assert loss.n_left_out == (~clean).sum()
    torch.testing.assert_close(loss.value, reference.value)
    torch.testing.assert_close(gradients(flow, loss.value), gradients(flow, reference.value))


def test_an_infinite_energy_is_capped_not_left_out():
    flow, z = AffineFlow(), normal(64)
    loss = kl_loss(flow, Harmonic(edge=1.0, bad=math.inf), z, 1.0, CAP)
    assert loss.n_left_out == 0
    assert loss.value.isfinite()
    assert gradients(flow, loss.value).isfinite().all()


def test_ml_leaves_bad_rows_out_of_value_and_gradient():
    flow, x = AffineFlow(), normal(16)
    clean = ml_loss(flow, x[1:]).value
    x[0, 1] = math.nan
    loss = ml_loss(flow, x)
    assert loss.n_left_out == 1
    torch.testing.assert_close(loss.value, clean)
    torch.testing.assert_close(gradients(flow, loss.value), gradients(flow, clean))


def test_a_batch_without_a_usable_row_gives_zero():
    flow = AffineFlow()
    loss = kl_loss(flow, Harmonic(edge=-1e9), normal(8), 1.0, CAP)
    assert loss.n_left_out == 8
    assert loss.value == 0
    assert (gradients(flow, loss.value) == 0).all()


@pytest.mark.parametrize("estimator", ["kde", "histogram"])
def test_rc_descent_spreads_a_collapsed_batch(estimator):
    r = (0.7 + 0.05 * normal(200, 1)[:, 0]).requires_grad_()
    start = rc_loss(r, BOUNDS, estimator=estimator).value
    optimiser = torch.optim.Adam([r], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        rc_loss(r, BOUNDS, estimator=estimator).value.backward()
        optimiser.step()
    assert rc_loss(r, BOUNDS, estimator=estimator).value < start - 0.5
    assert r.std() > 0.4


@pytest.mark.parametrize("estimator", ["kde", "histogram"])
def test_rc_counts_what_it_leaves_out(estimator):
    r = torch.linspace(-2, 2, 21).double()
    r[3], r[4], r[7] = -3.0, 2.6, math.nan
    r.requires_grad_()
    loss = rc_loss(r, BOUNDS, estimator=estimator)
    assert (loss.n_outside, loss.n_left_out) == (2, 1)
    (gradient,) = torch.autograd.grad(loss.value, r)
    assert gradient.isfinite().all()
    assert gradient[7] == 0
    if estimator == "kde":
        keep = [i for i in range(21) if i not in (3, 4, 7)]
        torch.testing.assert_close(loss.value, rc_loss(r[keep], BOUNDS).value)
        assert (gradient[[3, 4]] == 0).all()


def test_rc_of_an_even_spread_is_minus_log_range():
    r = torch.linspace(*BOUNDS, 2001).double()
    torch.testing.assert_close(rc_loss(r, BOUNDS).value.item(), -math.log(5), rtol=1e-3, atol=0)


def test_rc_of_a_batch_outside_the_bounds_is_zero():
    r = torch.full((5,), 9.0, dtype=torch.float64, requires_grad=True)
    loss = rc_loss(r, BOUNDS)
    assert loss.n_outside == 5
    assert loss.value == 0
    assert (torch.autograd.grad(loss.value, r)[0] == 0).all()


def test_histogram_is_the_published_formula():
    r = [0.3, -1.2, 2.4]
    centres = [-2.5 + 0.5 * k for k in range(11)]
    rows = [[math.exp(-0.5 * ((x - c) / (5 / 11)) ** 2) + 1e-6 for c in centres] for x in r]
    p = [sum(row[k] / sum(row) for row in rows) / 3 for k in range(11)]
    expected = -sum(math.log(q) for q in p)
    loss = rc_loss(torch.tensor(r).double(), BOUNDS, estimator="histogram").value
    torch.testing.assert_close(loss.item(), expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"bounds": (1.0, 0.0)}, "bounds"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"estimator": "spline"}, "estimator"),
        ({"estimator": "histogram", "bandwidth": 0.1}, "bandwidth"),
    ],
)
def test_rc_refuses_bad_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        rc_loss(torch.zeros(3), **{"bounds": BOUNDS, **arguments})
