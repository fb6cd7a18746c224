"""Annealing: exact where it can be, honest errors, the same for any chunk, biases removed."""

import math

import numpy as np
import pytest
import torch

from bgfast.energies import Bias, Biased, DoubleWell, Energy
from bgfast.experiments.exact import double_well_exact
from bgfast.flows import architecture
from bgfast.sampling.anneal import AnnealSettings, anneal, jackknife

SMALL = AnnealSettings(n_samples=2000, islands=8, draws=4, pilot=256, cess=0.9)
EXACT = {tau: double_well_exact(DoubleWell(), tau, (-2.5, 2.5), 50, 0.0) for tau in (1.0, 2.0)}


class Gaussian(Energy):
    """-log N(x; 0, 1)."""

    dim = 3

    def _energy(self, x):
        return 0.5 * x.square().sum(-1) + 0.5 * self.dim * math.log(2 * math.pi)


class HalfGaussian(Energy):
    """A normal distribution cut off by a wall that rises to 1e12."""

    dim = 2

    def _energy(self, x):
        return 0.5 * x.square().sum(-1) + 1e12 * torch.relu(-x[..., 0])


class Sign:
    """Of x and its mirror image in x1, the one with x1 > 0 is meant."""

    def inside(self, x):
        return x[:, 0] > 0

    def canonical(self, x):
        return torch.cat([x[:, :1].abs(), x[:, 1:]], dim=1)

    def shuffled(self, x, rng):
        sign = torch.from_numpy(rng.choice([-1.0, 1.0], len(x)))
        return torch.cat([x[:, :1] * sign[:, None], x[:, 1:]], dim=1)


def identity(dim=2):
    return architecture("S", dim=dim, dtype=torch.float64)


def changed(**options):
    return AnnealSettings(**(vars(SMALL) | options))


def assert_close_to(estimate, exact, largest_error=0.1):
    assert 0 < estimate.stderr < largest_error
    assert abs(estimate.value - exact) < 3 * estimate.stderr


@pytest.mark.parametrize("kind", ["smc", "ais"])
def test_annealing_a_perfect_flow_changes_nothing(kind):
    found = anneal(identity(3), Gaussian(), changed(kind=kind))
    assert found.stages == 1
    assert abs(found.log_z.value) < 1e-12
    assert found.log_z.stderr < 1e-12
    assert np.ptp(found.log_w) < 1e-12
    assert found.verdict.level == "good"
    assert found.min_ess > 1 - 1e-12


@pytest.mark.parametrize(
    ("tau", "options"),
    [
        (1.0, {}),
        (2.0, {"draws": 1}),
        (1.0, {"kind": "ais", "cess": 0.97, "steps": 2}),
        (1.0, {"sweeps": 4, "sweeps_from": 0.0, "final_sweeps": 4, "final_frames": 5}),
    ],
)
def test_a_bad_flow_still_gives_the_exact_partition_function(tau, options):
    settings = changed(**options)
    found = anneal(identity(), DoubleWell(), settings, tau=tau, seed=1)
    assert len(found.log_w) == 2000 * settings.kept_frames
    assert_close_to(found.log_z, EXACT[tau].log_z)
    assert found.stages > 2
    below = np.where(found.x[:, 0] < 0, np.exp(found.log_w), 0.0)
    above = np.exp(found.log_w) - below
    sums = np.array([[p[found.island == k].sum() for p in (below, above)] for k in range(8)])
    delta_f, stderr = jackknife(sums, lambda s: np.log(s[0] / s[1]))  # of the wells' F, up - down
    assert stderr < 0.25
    assert abs(delta_f - EXACT[tau].delta_f) < 3 * stderr


def test_an_untrained_network_too_in_float32():
    flow = architecture("R2", dim=2, hidden=(16,), split="even-odd", seed=3)
    found = anneal(flow, DoubleWell(), SMALL, seed=2)
    assert_close_to(found.log_z, EXACT[1.0].log_z)
    assert found.x.dtype == np.float32
    assert found.log_w.dtype == found.log_q.dtype == found.u.dtype == np.float64


def test_rows_are_consistent_with_each_other():
    flow = architecture("R2", dim=2, hidden=(16,), split="even-odd", seed=3, dtype=torch.float64)
    found = anneal(flow, DoubleWell(), changed(sweeps=2, sweeps_from=0.0), seed=2)
    with torch.no_grad():
        x, logdet = flow(torch.from_numpy(found.z))
    np.testing.assert_allclose(found.x, x, atol=1e-6)
    np.testing.assert_allclose(found.u, DoubleWell().energy(torch.from_numpy(found.x)))
    prior = -0.5 * (found.z**2).sum(1) - math.log(2 * math.pi)
    np.testing.assert_allclose(found.log_q, prior - logdet.numpy(), atol=1e-9)
    assert found.log_z.value == pytest.approx(np.log(np.exp(found.log_w).mean()))


def test_the_seed_decides_and_the_chunk_does_not():
    flow = architecture("R2", dim=2, hidden=(16,), split="even-odd", seed=3, dtype=torch.float64)

    def found(seed=5, **options):
        options = {"n_samples": 600, "islands": 2, "sweeps": 2, **options}
        return anneal(flow, DoubleWell(), changed(**options), seed=seed)

    one, other = found(), found()
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.log_w, other.log_w)
    for chunk in (77, 256, 100_000):
        other = found(chunk=chunk)
        np.testing.assert_allclose(one.x, other.x, atol=1e-9)
        np.testing.assert_allclose(one.log_w, other.log_w, atol=1e-9)
    assert not np.array_equal(one.log_w, found(seed=6).log_w)


def test_energies_of_1e12_do_not_break_it():
    found = anneal(identity(), HalfGaussian(), SMALL)
    assert_close_to(found.log_z, math.log(math.pi))
    assert (found.x[:, 0] > -1e-9).all()
    assert found.acceptance.min() > 0.3
    weights = np.exp(found.log_w - found.log_w.max())
    mean = weights @ found.x[:, 0] / weights.sum()
    assert mean == pytest.approx(math.sqrt(2 / math.pi), abs=0.06)


def test_a_bias_along_the_coordinate_is_removed_by_reweighting():
    energy = DoubleWell()
    r = np.linspace(-2.2, 2.2, 45)
    at = torch.zeros(r.size, 2, dtype=torch.float64)
    at[:, 0] = torch.from_numpy(r)
    flat = Biased(energy, lambda x: x[..., 0], Bias(r, -energy.energy(at).numpy()))
    found = anneal(identity(), flat, changed(final_sweeps=20), local=energy, seed=4)
    x1 = found.x[:, 0]
    barrier = np.mean(np.abs(x1) < 0.5)
    assert barrier > 0.15  # one in e^6 without the bias
    log_w = found.log_w + flat.added(torch.from_numpy(found.x)).numpy()
    w = np.exp(log_w)
    sums = np.array([[w[found.island == k].sum(), (found.island == k).sum()] for k in range(8)])
    log_z, stderr = jackknife(sums, lambda s: np.log(s[0] / s[1]))
    assert stderr < 0.15
    assert abs(log_z - EXACT[1.0].log_z) < 3 * stderr


@pytest.mark.parametrize("sweeps", [0, 4])
def test_a_labelling_restricts_the_partition_function(sweeps):
    symmetric = DoubleWell(a1=0.0)
    whole = double_well_exact(symmetric, 1.0, (-2.5, 2.5), 50, 0.0).log_z
    settings = changed(sweeps=sweeps, sweeps_from=0.0, final_sweeps=sweeps)
    found = anneal(identity(), symmetric, settings, labelling=Sign())
    assert_close_to(found.log_z, whole - math.log(2))
    assert (found.x[np.isfinite(found.log_w), 0] > 0).all()


def test_a_flow_that_misses_everything_is_flagged():
    far = DoubleWell(a2=200.0, a1=0.0)  # wells at +-10 behind barriers of 1e4
    found = anneal(identity(), far, changed(n_samples=64, draws=1, pilot=32, cess=0.5))
    assert found.verdict.level == "poor"
    assert "do not agree" in found.verdict.headline


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 2"),
        ({"cess": 1.0}, "cess must lie between 0 and 1"),
        ({"sweeps": 3}, "sweeps must be even"),
        ({"kind": "sis"}, "kind must be"),
        ({"leapfrog": 2.5}, "leapfrog must be an integer"),
        ({"resample_below": -0.1}, "resample_below must lie in"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AnnealSettings(**options)


def test_what_cannot_be_annealed_is_said():
    with pytest.raises(ValueError, match="tau must be positive"):
        anneal(identity(), DoubleWell(), SMALL, tau=0.0)
    with pytest.raises(ValueError, match="seed must be"):
        anneal(identity(), DoubleWell(), SMALL, seed=-1)
    with pytest.raises(ValueError, match="flow has 3 coordinates"):
        anneal(identity(3), DoubleWell(), SMALL)
    with pytest.raises(TypeError, match="no Monte Carlo for Gaussian"):
        anneal(identity(3), Gaussian(), changed(sweeps=2))
