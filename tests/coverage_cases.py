"""Repeated estimates of a cheap system with known answers, for tests and benchmarks of error bars.

The 2-D double well; the generator is a fixed Gaussian, wider than the wells and between them, so
that its weights are uneven; the simulations are Metropolis walkers, confined to each well or under
harmonic biases, their frames correlated. Every seed draws all of it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from bgfast.analysis import (
    Estimate,
    Pool,
    Profile,
    Rows,
    bidirectional,
    free_energy_difference,
    free_energy_profile,
)
from bgfast.analysis.biased import Bias, pool_biased
from bgfast.energies import Bias as Potential
from bgfast.energies import Biased, DoubleWell
from bgfast.experiments.annealed_estimate import estimate_of_islands
from bgfast.experiments.config import AnalysisConfig
from bgfast.experiments.exact import double_well_exact
from bgfast.flows import Scaling, log_prob
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.anneal import AnnealSettings, anneal
from bgfast.sampling.generate import generate

BOUNDS, N_BINS, SPLIT = (-2.4, 2.4), 24, 0.0
SCALE = (1.6, 1.1)
CENTRES, SPRING, N_WALKERS_IN_WINDOW = np.linspace(-2.1, 2.1, 8), 20.0, 12
ANNEALING = AnnealSettings(n_samples=4800, islands=12, draws=1, leapfrog=3, cess=0.8, pilot=64)
N_GENERATED, N_WALKERS, N_FRAMES, STRIDE = 2000, 12, 40, 6
ENERGY = DoubleWell()
EXACT = double_well_exact(ENERGY, 1.0, BOUNDS, N_BINS, SPLIT)

FLAT = Biased(ENERGY, lambda x: x[..., 0], Potential(EXACT.profile.r, -EXACT.profile.f))

Answer = tuple[Estimate, Profile]
"""F(x1 > 0) - F(x1 < 0), and the profile along x1."""


def generator() -> Scaling:
    """Return the fixed flow."""
    flow = Scaling(2, dtype=torch.float64)
    with torch.no_grad():
        flow.log_scale.copy_(torch.tensor(SCALE, dtype=torch.float64).log())
    return flow


def generated(seed: int) -> Rows:
    """Draw independent samples."""
    (batch,) = generate(generator(), ENERGY, N_GENERATED, seed=seed)
    r = batch.x[:, 0].numpy()
    u = batch.energy.numpy()
    return Rows(u=u, log_q=-u - batch.log_w.numpy(), state=(r >= SPLIT).astype(int), r=r)


def simulated(seed: int) -> Rows:
    """Simulate each state with walkers that do not leave it."""
    sides = np.array([(-np.inf, SPLIT), (SPLIT, np.inf)])
    return _walkers(seed, np.array([-1.8, 1.8]), N_WALKERS, interval=sides)


def windows(seed: int) -> Rows:
    """Simulate umbrella windows along x1."""
    bias = np.stack([np.full(len(CENTRES), SPRING), CENTRES], axis=1)
    bounds = np.tile(BOUNDS, (len(CENTRES), 1))
    return _walkers(seed, CENTRES, N_WALKERS_IN_WINDOW, interval=bounds, bias=bias)


@torch.no_grad()
def _walkers(seed: int, starts: np.ndarray, n_each: int, **options: np.ndarray) -> Rows:
    state = np.arange(len(starts)).repeat(n_each)
    start = np.zeros((len(state), 2))
    start[:, 0] = starts[state]
    options = {name: values[state] for name, values in options.items()}
    sampler = MetropolisSampler(ENERGY, start, step=0.4, seed=seed, **options)
    sampler.run(500, stride=500)
    frames = sampler.run(N_FRAMES * STRIDE, stride=STRIDE)
    x = torch.from_numpy(frames.x.reshape(-1, 2))
    return Rows(
        u=frames.energy.ravel(),
        log_q=log_prob(generator(), x).numpy(),
        state=state.repeat(N_FRAMES),
        r=x[:, 0].numpy(),
        block=np.arange(len(state)).repeat(N_FRAMES),
    )


def plain(seed: int) -> Answer:
    """Importance weights of the generated samples."""
    rows = generated(seed)
    log_w = -rows.u - rows.log_q
    difference = free_energy_difference(rows.r, log_w, split=SPLIT, orientation="above-below")
    return difference, free_energy_profile(rows.r, log_w, bounds=BOUNDS, n_bins=N_BINS)


def pooled(seed: int) -> Answer:
    """Generated samples and confined walkers together."""
    result = bidirectional(Pool(generated(seed), simulated(seed)), ("left", "right"))
    return result.delta_f(1, 0), result.profile(BOUNDS, N_BINS)


def with_windows(seed: int) -> Answer:
    """Generated samples and umbrella windows together."""

    def bias(centre: float) -> Bias:
        return Bias(f"{centre:g}", lambda r: 0.5 * SPRING * (r - centre) ** 2)

    biases = [bias(float(centre)) for centre in CENTRES]
    result = pool_biased(
        generated(seed), windows(seed), biases, bounds=BOUNDS, split=SPLIT, n_bins=N_BINS
    )
    below_above = result.delta_f
    return Estimate(-below_above.value, below_above.stderr), result.profile


def annealed(seed: int) -> Answer:
    """Generated samples annealed to a target that is flat along x1; errors from the islands."""
    found = anneal(generator(), FLAT, ANNEALING, seed=seed)
    u = ENERGY.energy(torch.from_numpy(found.x)).numpy()
    found = found.reweighted(found.u - u)
    return estimate_of_islands(
        found.x[:, 0],
        found.log_w,
        found.island,
        AnalysisConfig(bounds=BOUNDS, n_bins=N_BINS, split=SPLIT),
        orientation="above-below",
    )


ESTIMATORS: dict[str, Callable[[int], Answer]] = {
    "plain": plain,
    "bidirectional": pooled,
    "windows": with_windows,
    "annealed": annealed,
}
"""A further estimator whose error bars are to be tested is one entry here."""


def in_errors(estimator: str, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Return (estimate - exact) / stderr of the difference ``[n]`` and the bins ``[n, bins]``."""
    differences, bins = zip(*_in_errors(estimator, seeds), strict=True)
    return np.array(differences), np.array(bins)


def _in_errors(estimator: str, seeds: range) -> Iterator[tuple[float, np.ndarray]]:
    exact = _normalised(EXACT.profile)
    for seed in seeds:
        difference, profile = ESTIMATORS[estimator](seed)
        off = (difference.value - EXACT.delta_f) / difference.stderr
        yield off, (_normalised(profile) - exact) / profile.stderr


def _normalised(profile: Profile) -> np.ndarray:
    """Return -log of the share of each bin, which is what a profile's errors are of."""
    return profile.f + math.log(np.nansum(np.exp(-profile.f)))
