"""Repeated estimates of a cheap system with known answers, for tests and benchmarks of error bars.

The 2-D double well; the generator is a fixed Gaussian, wider than the wells and between them, so
that its weights are uneven; the simulations are Metropolis walkers confined to each well, their
frames correlated. Every seed draws all of it anew.
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
from bgfast.energies import DoubleWell
from bgfast.experiments.exact import double_well_exact
from bgfast.flows import Scaling, log_prob
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.generate import generate

BOUNDS, N_BINS, SPLIT = (-2.4, 2.4), 24, 0.0
SCALE = (1.6, 1.1)
N_GENERATED, N_WALKERS, N_FRAMES, STRIDE = 4000, 12, 200, 4
ENERGY = DoubleWell()
EXACT = double_well_exact(ENERGY, 1.0, BOUNDS, N_BINS, SPLIT)

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


@torch.no_grad()
def simulated(seed: int) -> Rows:
    """Simulate each state with walkers that do not leave it."""
    state = np.arange(2).repeat(N_WALKERS)
    start = np.zeros((len(state), 2))
    start[:, 0] = np.array([-1.8, 1.8])[state]
    sides = np.array([(-np.inf, SPLIT), (SPLIT, np.inf)])[state]
    sampler = MetropolisSampler(ENERGY, start, step=0.4, seed=seed, interval=sides)
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


ESTIMATORS: dict[str, Callable[[int], Answer]] = {"plain": plain, "bidirectional": pooled}
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
