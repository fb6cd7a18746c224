"""F(r) from a generator and any number of simulations under biases along r, pooled by MBAR.

Where :mod:`bgfast.analysis.bidirectional` pools disjoint states, one equation each, the simulations
here may overlap one another: whole states, flattened states, umbrella windows. The generator's
density is known, so it connects what overlaps with it; neighbouring simulations connect each other.
Either source may be left out, which tells what the other contributes.

A frame of simulation k counts 1/g_k, g_k the statistical inefficiency of the work or of r along the
walkers, whichever is larger. Error bars do not rest on it: they come from resampling whole walkers
and generator batches, with all equations solved anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.biased_verdict import SimulationSummary, judge
from bgfast.analysis.blocks import block_index, statistical_inefficiency, times_drawn
from bgfast.analysis.diagnostics import Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.mbar import Mixture, Solution
from bgfast.analysis.pool import Rows
from bgfast.analysis.pooled_state import standard_error
from bgfast.analysis.profiles import Profile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bias:
    """What a simulation was run under.

    Parameters
    ----------
    name
        Name of the simulation, for the verdict.
    value
        Maps r ``[n]`` to the reduced bias ``[n]`` in its energy; infinity where it cannot be.
    """

    name: str
    value: Callable[[Array], Array]


@dataclass(frozen=True)
class BiasedEstimate:
    """Result of :func:`pool_biased`.

    Attributes
    ----------
    delta_f
        F(r < split) - F(r >= split) in k_B T, within the bounds.
    log_z
        Log of the integral of exp(-u) within the bounds; NaN without generated rows.
    profile
        Free energy along r.
    generated_share
        Share of the pooled weight within the bounds that generated rows carry.
    simulations
        One summary per simulation.
    overlap_matrix
        MBAR overlap matrix ``[1 + K, 1 + K]``, generator first.
    log_w_generated, log_w_simulated
        Pooled log weights of all rows, -infinity where a row is left out. The weights sum to the
        integral of exp(-u); those of simulated rows include the factor 1/g_k.
    verdict
        Whether the overlap carries the estimate, in words.
    """

    delta_f: Estimate
    log_z: Estimate
    profile: Profile
    generated_share: float
    simulations: tuple[SimulationSummary, ...]
    overlap_matrix: Array
    log_w_generated: Array
    log_w_simulated: Array
    verdict: Verdict


def pool_biased(
    generated: Rows | None,
    simulated: Rows,
    biases: Sequence[Bias],
    *,
    bounds: tuple[float, float],
    split: float,
    n_bins: int = 100,
    n_bootstrap: int = 100,
    seed: int = 0,
) -> BiasedEstimate:
    """Estimate the free energy along r, with weights for every row.

    Parameters
    ----------
    generated
        Rows of the generator; those with state -1 (outside of the labelling) weigh nothing but
        count as drawn. ``None``: simulations alone.
    simulated
        Rows of all simulations; ``state`` is the index into ``biases``, ``block`` the walker, and
        ``u`` the energy without the bias.
    biases
        What each simulation was run under, K of them.
    bounds, n_bins
        Range and bins of the profile. Rows beyond the range weigh nothing but count as drawn;
        simulations must not leave it.
    split
        Where one state ends and the other begins.
    n_bootstrap, seed
        Resamplings of batches and walkers for the errors, and their seed.

    Raises
    ------
    ValueError
        If there is no bias or no usable simulated row, an index is out of range, the bounds do not
        enclose the split, or the generated rows come from fewer than two batches.
    """
    _check(generated, simulated, len(biases), bounds, split, n_bins, n_bootstrap)
    rows = _Joined(generated, simulated, biases, bounds)
    solution = rows.mixture.solve(rows.counts, rows.n_generated)
    bins = _Bins(rows.r, bounds, n_bins, split)
    best = bins.sums(rows.counts, solution.log_w)
    rng = np.random.default_rng(seed)
    replicas = [rows.replica(rng, solution, bins) for _ in range(n_bootstrap)]
    f_bins = np.array([bins.f(sums) for sums in replicas])
    matrix = rows.mixture.overlap_matrix(solution, rows.counts, rows.n_generated)
    log_z = Estimate(math.nan, math.nan)
    if rows.n_generated:
        log_z = Estimate(bins.log_z(best), _spread([bins.log_z(sums) for sums in replicas]))
    p = rows.counts * np.exp(solution.log_w - solution.log_w.max())
    summaries = rows.summaries([bias.name for bias in biases])
    return BiasedEstimate(
        delta_f=Estimate(bins.delta_f(best), _spread([bins.delta_f(sums) for sums in replicas])),
        log_z=log_z,
        profile=bins.profile(best, standard_error(f_bins), rows.counts, solution.log_w),
        generated_share=float(p[rows.generated].sum() / p.sum()),
        simulations=summaries,
        overlap_matrix=matrix,
        log_w_generated=rows.spread_out(solution, generated, is_generated=True),
        log_w_simulated=rows.spread_out(solution, simulated, is_generated=False),
        verdict=judge(summaries, matrix, rows.n_left_out, simulated.u.size, solution.converged),
    )


class _Joined:
    """Usable rows of both sources, one after the other, and how they are resampled."""

    def __init__(
        self,
        generated: Rows | None,
        simulated: Rows,
        biases: Sequence[Bias],
        bounds: tuple[float, float],
    ) -> None:
        low, high = bounds
        sources = [simulated] if generated is None else [generated, simulated]
        self.chosen = [
            np.flatnonzero(s.finite & (s.state >= 0) & (s.r >= low) & (s.r <= high))
            for s in sources
        ]
        chosen = self.chosen[-1]
        self.n_left_out = simulated.u.size - chosen.size
        if chosen.size == 0:
            raise ValueError("simulated has no row that is finite and within the bounds")
        self._batch_sizes = np.zeros(0)
        blocks = []
        self.n_generated = 0.0
        if generated is not None:
            batch, n_batches = block_index(generated.block, generated.u.size)
            self._batch_sizes = np.bincount(batch, minlength=n_batches).astype(np.float64)
            blocks.append(batch[self.chosen[0]])
            self.n_generated = float(generated.u.size)
        self._walker_starts = [self._batch_sizes.size]
        state = simulated.state[chosen]
        walker = np.arange(simulated.u.size) if simulated.block is None else simulated.block
        simulated_blocks = np.zeros(chosen.size, dtype=np.int64)
        counts = np.ones(chosen.size)
        self._inefficiency = np.ones(len(biases))
        self._n_walkers = np.zeros(len(biases), dtype=np.int64)
        for k in range(len(biases)):
            here = np.flatnonzero(state == k)
            own = None if simulated.block is None else walker[chosen[here]]
            self._inefficiency[k] = max(
                statistical_inefficiency(series[chosen[here]], own)
                for series in (simulated.work, simulated.r)
            )
            counts[here] = 1 / self._inefficiency[k]
            index, n_blocks = block_index(own, here.size)
            self._n_walkers[k] = here.size if own is None else np.unique(own).size
            simulated_blocks[here] = self._walker_starts[-1] + index
            self._walker_starts.append(self._walker_starts[-1] + n_blocks)
        self.block = np.concatenate([*blocks, simulated_blocks])
        n_from_generator = self.chosen[0].size if generated is not None else 0
        self.counts = np.concatenate([np.ones(n_from_generator), counts])
        self.generated = np.arange(self.counts.size) < n_from_generator
        self.r = np.concatenate([s.r[c] for s, c in zip(sources, self.chosen, strict=True)])
        self.state = np.concatenate([np.zeros(n_from_generator, dtype=np.int64), state])
        self.mixture = Mixture(
            np.concatenate([s.work[c] for s, c in zip(sources, self.chosen, strict=True)]),
            np.stack([bias.value(self.r) for bias in biases], axis=1),
            self.generated,
            self.state,
        )

    def replica(self, rng: np.random.Generator, start: Solution, bins: _Bins) -> Array:
        """Return the bins of one bootstrap replica."""
        batches = times_drawn(rng, self._batch_sizes.size, 1)[0]
        walkers = [times_drawn(rng, n, 1)[0] for n in np.diff(self._walker_starts).tolist()]
        # A simulation of a single walker cannot be resampled: it counts once, and is reported.
        times = np.nan_to_num(np.concatenate([batches, *walkers]), nan=1.0)
        counts = self.counts * times[self.block]
        n_generated = float(batches @ self._batch_sizes) if self.n_generated else 0.0
        solution = self.mixture.follow(start, counts, n_generated)
        if not solution.converged:
            return np.full(bins.n_cells, np.nan)
        return bins.sums(counts, solution.log_w)

    def summaries(self, names: Sequence[str]) -> tuple[SimulationSummary, ...]:
        """Return what is to be said about each simulation."""
        frames = np.bincount(self.state[~self.generated], minlength=len(names))
        return tuple(
            SimulationSummary(name, int(n), int(walkers), float(g), float(n / g))
            for name, n, walkers, g in zip(
                names, frames, self._n_walkers, self._inefficiency, strict=True
            )
        )

    def spread_out(self, solution: Solution, rows: Rows | None, *, is_generated: bool) -> Array:
        """Return the log weights of all rows of one source."""
        if rows is None:
            return np.zeros(0)
        log_w = np.full(rows.u.size, -np.inf)
        mine = self.generated == is_generated
        log_w[self.chosen[0 if is_generated else -1]] = (np.log(self.counts) + solution.log_w)[mine]
        return log_w


class _Bins:
    """Bins of r, and the two sides of the split: sums of weights, and what follows from them."""

    def __init__(self, r: Array, bounds: tuple[float, float], n_bins: int, split: float) -> None:
        low, high = bounds
        self.n_bins = n_bins
        self.n_cells = n_bins + 3  # bins, below the split, above it, log of the unit
        edges = np.linspace(low, high, n_bins + 1)
        self._centres = (edges[1:] + edges[:-1]) / 2
        scaled = (r - low) / (high - low) * n_bins
        self._bin = np.minimum(scaled.astype(np.int64), n_bins - 1)
        self._above = (r >= split).astype(np.int64)

    def sums(self, counts: Array, log_w: Array) -> Array:
        """Return the sums of the weights, ``[n_cells]``, and last the log of their unit."""
        unit = float(log_w.max())
        w = counts * np.exp(log_w - unit)
        bins = np.bincount(self._bin, w, minlength=self.n_bins)
        return np.concatenate([bins, np.bincount(self._above, w, minlength=2), [unit]])

    def f(self, sums: Array) -> Array:
        """Return -log of the share of each bin."""
        with np.errstate(divide="ignore"):
            f: Array = -np.log(sums[: self.n_bins] / sums[: self.n_bins].sum())
        return f

    def delta_f(self, sums: Array) -> float:
        """Return F(below) - F(above)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.log(sums[self.n_bins + 1]) - np.log(sums[self.n_bins]))

    def log_z(self, sums: Array) -> float:
        """Return the log of the sum of all weights."""
        return float(np.log(sums[: self.n_bins].sum()) + sums[-1])

    def profile(self, sums: Array, stderr: Array, counts: Array, log_w: Array) -> Profile:
        """Return the profile with its lowest bin at 0."""
        f = self.f(sums)
        f = np.where(np.isfinite(f), f, np.nan)
        weights = counts * np.exp(log_w - log_w.max())
        squares = np.bincount(self._bin, weights**2, minlength=self.n_bins)
        total = np.bincount(self._bin, weights, minlength=self.n_bins)
        return Profile(
            r=self._centres,
            f=f - np.nanmin(f),
            stderr=np.where(np.isfinite(f), stderr, np.nan),
            counts=np.bincount(self._bin, weights > 0, minlength=self.n_bins).astype(np.int64),
            ess=np.divide(total**2, squares, out=np.zeros(self.n_bins), where=squares > 0),
        )


def _spread(values: Sequence[float]) -> float:
    return float(standard_error(np.array(values)))


def _check(
    generated: Rows | None,
    simulated: Rows,
    n_biases: int,
    bounds: tuple[float, float],
    split: float,
    n_bins: int,
    n_bootstrap: int,
) -> None:
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < split < high):
        raise ValueError(f"bounds must be finite and enclose split = {split}, got {bounds}")
    for name, value, least in (("n_bins", n_bins, 1), ("n_bootstrap", n_bootstrap, 2)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if n_biases < 1:
        raise ValueError("biases must describe at least one simulation")
    state = simulated.state
    if state.size and not -1 <= state.min() <= state.max() < n_biases:
        raise ValueError(
            f"simulated.state must lie in -1 ... {n_biases - 1}, got {state.min()} ... "
            f"{state.max()}"
        )
    if generated is not None and block_index(generated.block, generated.u.size)[1] < 2:
        raise ValueError("generated must hold at least two batches (blocks)")
