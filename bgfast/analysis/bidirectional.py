"""Free energies from a generator and disconnected simulations together (MBAR).

A generator with known density q drew n_g samples. State k (say, closed or open) was simulated on
its own: n_k samples of p_k = exp(-u) 1_k 1_C / Z_k, where 1_k restricts to the state, 1_C to the
canonical labelling of identical particles, and Z_k = exp(-f_k) is unknown. MBAR (Shirts and
Chodera, J. Chem. Phys. 129, 124105, 2008) takes all rows as draws from one mixture:

    log w = -u - log(n_g q + n_k exp(f_k - u)),    Z_k = sum of w over all rows within state k

States are disjoint and only the generator connects them, so each f_k is one BAR equation in the
work w = u + log q (:mod:`bgfast.analysis.bar`). Generated rows outside of C and of all states weigh
0, but count in n_g.

Correlated frames: with g_k the statistical inefficiency of the work along the walkers, each frame
counts 1/g_k, so n_k is the effective number. This decides how frames are weighed against generated
samples; any choice gives a consistent f_k, and error bars do not rest on it: they come from
resampling whole walkers and generator batches, with every f_k solved anew.

A simulation may run under a known bias, to cover a barrier: u is the biased energy, and
``Rows.log_target`` leads back. f_k and all overlaps are those of the biased states; weights, log Z
and everything averaged with them are those of the target, exp(-u + log_target).

The simulations must not be those that the generator was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.blocks import block_index, statistical_inefficiency, times_drawn
from bgfast.analysis.diagnostics import Verdict
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.overlap import StateOverlap, judge, overlap_matrix, state_overlap
from bgfast.analysis.pool import Pool, Rows
from bgfast.analysis.pooled_state import PooledState, Replicas, standard_error
from bgfast.analysis.profiles import Profile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bidirectional:
    """Result of :func:`bidirectional`.

    Attributes
    ----------
    log_z
        log Z_k of the target in each state. Not determined (NaN) without rows from both sides.
    log_w_generated, log_w_simulated
        Pooled log weights of all rows, in the order of the pool; -infinity where the weight is 0.
        The weights within state k sum to Z_k, so any average over the target is a weighted mean
        over both arrays. For simulated rows the weight includes the factor 1/g_k.
    overlaps
        How well generator and simulation overlap, one entry per state.
    overlap_matrix
        MBAR overlap matrix ``[1 + n_states, 1 + n_states]``, generator first: entry (i, j) is the
        chance that a sample of i is taken for one of j. Rows sum to 1.
    nonfinite_generated, nonfinite_simulated
        Rows with a NaN or infinite entry. They weigh 0; a generated one counts as drawn, a
        simulated one is left out.
    outside_generated, outside_simulated
        Finite rows with state -1, treated likewise.
    verdict
        Whether the overlap carries the estimate, in words.
    """

    log_z: tuple[Estimate, ...]
    log_w_generated: Array
    log_w_simulated: Array
    overlaps: tuple[StateOverlap, ...]
    overlap_matrix: Array
    nonfinite_generated: int
    nonfinite_simulated: int
    outside_generated: int
    outside_simulated: int
    verdict: Verdict
    _states: tuple[PooledState, ...]
    _replicas: tuple[Replicas, ...]
    _log_z_replicas: tuple[Array, ...]

    def delta_f(self, first: int = 0, second: int = 1) -> Estimate:
        """Return F_first - F_second = -log Z_first + log Z_second of the target in k_B T."""
        for state in (first, second):
            if not 0 <= state < len(self.log_z):
                raise ValueError(f"state must be 0 ... {len(self.log_z) - 1}, got {state}")
        value = self.log_z[second].value - self.log_z[first].value
        replicas = self._log_z_replicas[second] - self._log_z_replicas[first]
        return Estimate(value, float(standard_error(replicas)))

    def work(self, state: int) -> tuple[Array, Array]:
        """Return the dissipated work u + log q - f of one state, generated and simulated rows.

        Both have shape ``[n]`` for the rows within the state. Generated rows lie mostly above 0,
        simulated ones mostly below; the estimate rests on the range that they share.
        """
        rows = self._states[state]
        return rows.generated.work - rows.f, rows.simulated.work - rows.f

    def profile(self, bounds: tuple[float, float], n_bins: int = 100) -> Profile:
        """Return the free-energy profile along r from all rows, with errors as for ``log_z``.

        Parameters
        ----------
        bounds
            Range of the histogram; the upper edge belongs to the last bin.
        n_bins
            Number of bins.

        Raises
        ------
        ValueError
            If the bounds are not finite and increasing, or ``n_bins`` < 1.
        """
        low, high = bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds must be finite and increasing, got {bounds}")
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {n_bins}")
        edges = np.linspace(low, high, n_bins + 1)
        solved = [pair for pair in zip(self._states, self._replicas, strict=True) if pair[0].solved]
        log_unit = max((state.log_unit - state.f for state, _ in solved), default=0.0)
        parts = [state.histogram(edges, replicas, log_unit) for state, replicas in solved]
        nothing = np.zeros(n_bins)
        sums = sum((part.sums for part in parts), nothing)
        squares = sum((part.squares for part in parts), nothing)
        replicas = sum((part.replicas for part in parts), np.zeros((1, n_bins)))
        n_blocks = sum((part.n_blocks for part in parts), nothing)
        with np.errstate(divide="ignore", invalid="ignore"):
            f = -np.log(sums / sums.sum())
            f_replicas = -np.log(replicas / replicas.sum(axis=1, keepdims=True))
            ess = np.where(sums > 0, sums**2 / squares, 0.0)
        f[~np.isfinite(f)] = np.nan
        if np.isfinite(f).any():
            f -= np.nanmin(f)
        return Profile(
            r=(edges[1:] + edges[:-1]) / 2,
            f=f,
            stderr=np.where(n_blocks >= 2, standard_error(f_replicas), np.nan),
            counts=sum((part.counts for part in parts), np.zeros(n_bins, dtype=np.int64)),
            ess=ess,
        )


def bidirectional(
    pool: Pool, state_names: Sequence[str], n_bootstrap: int = 200, seed: int = 0
) -> Bidirectional:
    """Estimate Z_k of every state, and weights for every row, from generator and simulations.

    Parameters
    ----------
    pool
        Generated and simulated rows.
    state_names
        Names of the states, which are disjoint, in the order of their indices; for the verdict.
    n_bootstrap
        Number of resamplings of batches and walkers for the errors.
    seed
        Seed of the resampling.

    Raises
    ------
    ValueError
        If there is no state, a state index is out of range, or the generated rows come from fewer
        than two batches.
    """
    if len(state_names) < 1:
        raise ValueError("state_names must name at least one state")
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2, got {n_bootstrap}")
    generated, simulated = pool.generated, pool.simulated
    _check_states("generated", generated, len(state_names))
    _check_states("simulated", simulated, len(state_names))
    batch, n_batches = block_index(generated.block, generated.u.size)
    if n_batches < 2:
        raise ValueError(f"generated must hold at least two batches (blocks), got {n_batches}")
    batch_sizes = np.bincount(batch, minlength=n_batches).astype(np.float64)
    usable, usable_simulated = generated.finite, simulated.finite
    rng = np.random.default_rng(seed)
    times_batch = times_drawn(rng, n_batches, n_bootstrap)
    log_w_generated = np.full(generated.u.size, -np.inf)
    log_w_simulated = np.full(simulated.u.size, -np.inf)
    states, all_replicas, log_z, log_z_replicas, overlaps = [], [], [], [], []
    for k, name in enumerate(state_names):
        here = np.flatnonzero(usable & (generated.state == k))
        there = np.flatnonzero(usable_simulated & (simulated.state == k))
        work = simulated.work[there]
        walker = None if simulated.block is None else simulated.block[there]
        state = PooledState(
            generated.side(here, batch[here], n_batches),
            simulated.side(there, *block_index(walker, work.size)),
            n_generated=generated.u.size,
            frame_weight=1 / statistical_inefficiency(work, walker),
        )
        times_walker = times_drawn(rng, state.simulated.n_blocks, n_bootstrap)
        replicas = state.resample(batch_sizes, times_batch, times_walker)
        n_walkers = work.size if walker is None else np.unique(walker).size
        states.append(state)
        all_replicas.append(replicas)
        log_z_replicas.append(state.log_z_replicas(replicas))
        log_z.append(Estimate(state.log_z, float(standard_error(log_z_replicas[k]))))
        overlaps.append(state_overlap(name, state, n_walkers, float(standard_error(replicas.f))))
        if state.solved:
            log_w_generated[here] = state.log_w(state.generated)
            log_w_simulated[there] = state.log_w(state.simulated)
    left_out = int((~usable_simulated | (simulated.state < 0)).sum())
    return Bidirectional(
        log_z=tuple(log_z),
        log_w_generated=log_w_generated,
        log_w_simulated=log_w_simulated,
        overlaps=tuple(overlaps),
        overlap_matrix=overlap_matrix(states),
        nonfinite_generated=int((~usable).sum()),
        nonfinite_simulated=int((~usable_simulated).sum()),
        outside_generated=int((usable & (generated.state < 0)).sum()),
        outside_simulated=int((usable_simulated & (simulated.state < 0)).sum()),
        verdict=judge(overlaps, left_out, simulated.u.size),
        _states=tuple(states),
        _replicas=tuple(all_replicas),
        _log_z_replicas=tuple(log_z_replicas),
    )


def _check_states(name: str, rows: Rows, n_states: int) -> None:
    if rows.state.size and not -1 <= rows.state.min() <= rows.state.max() < n_states:
        raise ValueError(
            f"{name}.state must lie in -1 ... {n_states - 1}, "
            f"got {rows.state.min()} ... {rows.state.max()}"
        )
