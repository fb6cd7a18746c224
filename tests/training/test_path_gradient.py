"""Path gradients: the same mean as the plain estimator, and none at the target."""

import copy

import pytest
import torch
from torch import nn
from training_toys import AffineFlow, Harmonic, SquareRootFlow, gradients

from bgfast.energies import DoubleWell
from bgfast.flows import architecture, log_prob
from bgfast.training import LinLogCap, Stage, Trainer, TrainingConfig, kl_loss

CAP = LinLogCap(1e4)
TAU = 1.7


def normal(n, dim=2, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double()


def curved_flow(seed=0):
    """A RealNVP flow far from the identity, in both s and t."""
    flow = architecture("R2", 2, (16,), dtype=torch.float64, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.3)
    return flow


class TargetOf(nn.Module):
    """The energy whose Boltzmann density at ``tau`` is what a copy of ``flow`` generates."""

    def __init__(self, flow, tau):
        super().__init__()
        self.dim, self.tau = flow.dim, tau
        self.flow = copy.deepcopy(flow).requires_grad_(False)

    def energy(self, x):
        return -self.tau * log_prob(self.flow, x, self.tau)


def per_sample(flow, energy, z, tau, path_gradient):
    """Gradient of each row's KL loss, [n, n_parameters]."""
    rows = zip(z, torch.as_tensor(tau, dtype=z.dtype).expand(len(z)), strict=True)
    return torch.stack(
        [
            gradients(
                flow, kl_loss(flow, energy, row[None], t, CAP, path_gradient=path_gradient).value
            )
            for row, t in rows
        ]
    )


def test_at_the_target_every_sample_has_no_gradient():
    flow, z = curved_flow(), normal(32) * TAU**0.5
    energy = TargetOf(flow, TAU)
    assert per_sample(flow, energy, z, TAU, path_gradient=False).abs().max() > 0.1
    assert per_sample(flow, energy, z, TAU, path_gradient=True).abs().max() < 1e-10


def test_a_perfect_affine_flow_has_no_gradient_for_a_gaussian():
    flow, z = AffineFlow(), normal(32)
    with torch.no_grad():
        flow.shift.zero_()
        flow.log_scale.fill_(-0.5 * torch.tensor(2.0).double().log())
    assert per_sample(flow, Harmonic(k=2.0), z, 1.0, path_gradient=True).abs().max() < 1e-10


def test_path_gradient_of_an_affine_flow_is_the_closed_form():
    """x = a z + m: dx/dm = 1, dx/dlog a = a z, d/dx (k x^2 / 2 tau - (x - m)^2 / 2 a^2 tau)."""
    flow, k, z = AffineFlow(), 2.0, normal(20) * TAU**0.5
    loss = kl_loss(flow, Harmonic(k=k), z, TAU, CAP, path_gradient=True).value
    a, m = flow.log_scale.exp(), flow.shift
    slope = (k * (a * z + m) - z / a) / TAU
    expected = torch.cat([(slope * a * z).mean(0), slope.mean(0)])
    torch.testing.assert_close(gradients(flow, loss), expected.detach())


@pytest.mark.parametrize("seed", [0, 1])
def test_mean_is_that_of_the_plain_gradient(seed):
    """Twenty batches at three temperatures: the difference is its own standard error, not more."""
    flow, energy, n = curved_flow(seed), DoubleWell(2), 3 * 2000
    tau = torch.tensor([0.5, 1.0, 2.0]).double().repeat_interleave(n // 3)
    differences = []
    for batch in range(20):
        z = normal(n, seed=100 + batch) * tau.sqrt()[:, None]
        plain, path = (
            kl_loss(flow, energy, z, tau, CAP, path_gradient=p).value for p in (False, True)
        )
        differences.append(gradients(flow, path) - gradients(flow, plain))
    differences = torch.stack(differences)
    t_squared = (differences.mean(0) / differences.std(0) * 20**0.5).square()
    used = torch.isfinite(t_squared)
    assert used.sum() > 100
    # Student's t with 19 degrees of freedom: E[t^2] = 19 / 17; parameters are correlated.
    assert 0.2 < t_squared[used].mean() < 3


def test_value_is_that_of_the_plain_loss():
    flow, energy, z = curved_flow(), DoubleWell(2), normal(64)
    plain, path = (kl_loss(flow, energy, z, 1.0, CAP, path_gradient=p) for p in (False, True))
    assert path.value == plain.value


@pytest.mark.parametrize("poison", ["energy", "latent", "flow"])
def test_bad_rows_stay_out_of_the_gradient(poison):
    z, k = normal(64), 2.0
    flow = SquareRootFlow() if poison == "flow" else AffineFlow()
    energy = Harmonic(edge=1.0 if poison == "energy" else float("inf"))
    if poison == "latent":
        z[5, 1] = torch.nan
    with torch.no_grad():
        x, _ = flow(z)
    clean = x.isfinite().all(1) & z.isfinite().all(1) & ~(x[:, 0] > energy.edge)
    assert 0 < (~clean).sum() < 32
    loss = kl_loss(flow, energy, z, 1.0, CAP, path_gradient=True)
    reference = kl_loss(flow, Harmonic(k=k), z[clean], 1.0, CAP, path_gradient=True)
    assert loss.n_left_out == (~clean).sum()
    torch.testing.assert_close(gradients(flow, loss.value), gradients(flow, reference.value))


def test_a_density_without_a_finite_slope_leaves_its_row_out():
    class Broken(AffineFlow):
        def _inverse(self, x):
            z, logdet = super()._inverse(x)
            return z, logdet + 0 * (1.0 - x[:, 0]).sqrt()

    flow, z = Broken(), normal(64)
    loss = kl_loss(flow, Harmonic(), z, 1.0, CAP, path_gradient=True)
    assert 0 < loss.n_left_out < 32
    assert gradients(flow, loss.value).isfinite().all()


def test_a_stage_trains_with_path_gradients():
    """KL alone, on a target that one flow hits and another starts from."""
    energy = TargetOf(AffineFlow(), 1.0)
    losses = {}
    for path_gradient in (False, True):
        flow = AffineFlow()
        with torch.no_grad():
            flow.log_scale.zero_()
        stage = Stage(steps=200, lr=1e-2, w_kl=1.0, batch_kl=16, path_gradient=path_gradient)
        Trainer(flow, energy, TrainingConfig(stages=(stage,))).run()
        z = normal(1000)
        losses[path_gradient] = kl_loss(flow, energy, z, 1.0, CAP).value.item()
        target = kl_loss(energy.flow, energy, z, 1.0, CAP).value.item()
    # With a constant learning rate only a gradient without noise settles.
    assert losses[True] - target < 1e-6 < losses[False] - target


def test_path_gradient_needs_the_kl_term():
    with pytest.raises(ValueError, match="path_gradient"):
        Stage(steps=1, w_ml=1.0, path_gradient=True)
