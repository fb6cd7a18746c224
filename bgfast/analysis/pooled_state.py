"""One state of the bidirectional estimator: its rows, its BAR solution, and the bootstrap replicas.

Notation as in :mod:`bgfast.analysis.bidirectional`: work w = u + log q, and the weight of a row
within the state is exp(-f) / n_k * fermi(c - w) with c = f + log(n_k / n_g). c is the crossing of
:mod:`bgfast.analysis.bar`; it depends on the work alone, f also on the numbers of rows. f is of the
simulated state; towards the target each row weighs exp(log_target) more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp

from bgfast.analysis.bar import crossing, fermi, scaled_fermi
from bgfast.analysis.side import Binned, Side

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_N_NODES = 17  # values of c at which the replicas' sums are taken; in between they are interpolated


@dataclass(frozen=True)
class Replicas:
    """Bootstrap replicas of one state.

    Attributes
    ----------
    times_batch, times_walker
        How often each block counts, ``[n_replicas, n_blocks]``.
    crossing, f, n_effective
        c, f and n_k of each replica, ``[n_replicas]``; NaN or infinite where there is no solution.
    """

    times_batch: Array
    times_walker: Array
    crossing: Array
    f: Array
    n_effective: Array


@dataclass(frozen=True)
class Histogram:
    """Pooled weights of one state along r, in units of exp(log_unit).

    ``sums``, ``squares`` (of the weights), ``counts`` and ``n_blocks`` (filled ones) have shape
    ``[n_bins]``, ``replicas`` has ``[n_replicas, n_bins]``.
    """

    sums: Array
    squares: Array
    counts: Integers
    n_blocks: Integers
    replicas: Array


class PooledState:
    """Rows of one state from both sides, and the solution of its BAR equation.

    Parameters
    ----------
    generated, simulated
        Rows within the state.
    n_generated
        All rows that the generator drew, also those outside of the state.
    frame_weight
        What a simulated frame counts, 1 / (statistical inefficiency).

    Attributes
    ----------
    crossing, f, n_effective
        c, f and n_k of the simulated state; the first two NaN without rows from both sides.
    log_unit
        Largest log_target; its exponential is the unit of target factors.
    log_z
        log Z of the target within the state.
    """

    def __init__(
        self, generated: Side, simulated: Side, n_generated: int, frame_weight: float
    ) -> None:
        self.generated = generated
        self.simulated = simulated
        self.n_generated = n_generated
        self.frame_weight = frame_weight
        self.n_effective = frame_weight * simulated.work.size
        self.crossing = crossing(generated.work, simulated.work, frame_weight)
        self.f = math.nan
        if self.solved:
            self.f = self.crossing - math.log(self.n_effective / n_generated)
        log_targets = np.concatenate([generated.log_target, simulated.log_target])
        self.log_unit = float(log_targets.max()) if log_targets.size else 0.0
        self._has_target = bool(np.any(log_targets))
        self.log_z = -self.f
        if self.solved and self._has_target:
            sides = (self.generated, self.simulated)
            self.log_z = float(logsumexp(np.concatenate([self.log_w(side) for side in sides])))

    @property
    def solved(self) -> bool:
        """Whether there are rows from both sides."""
        return math.isfinite(self.crossing)

    def fermi(self, side: Side) -> Array:
        """Return fermi(c - w) ``[n]``: the chance that a row was simulated, not generated."""
        return fermi(self.crossing - side.work)

    def log_w(self, side: Side) -> Array:
        """Return the log weights towards the target ``[n]``; exp of them sums to its Z."""
        frame_weight = self.frame_weight if side is self.simulated else 1.0
        log_scale = math.log(frame_weight / self.n_effective) - self.f
        log_w: Array = log_expit(self.crossing - side.work) + log_scale + side.log_target
        return log_w

    def resample(self, batch_sizes: Array, times_batch: Array, times_walker: Array) -> Replicas:
        """Solve the BAR equation in every bootstrap replica.

        Parameters
        ----------
        batch_sizes
            Number of all drawn rows in each batch, ``[n_batches]``.
        times_batch, times_walker
            See :class:`Replicas`.
        """
        n_effective = times_walker @ self.simulated.sums(
            np.full(self.simulated.work.size, self.frame_weight)
        )
        if not self.solved:
            unknown = np.full(times_batch.shape[0], np.nan)
            return Replicas(times_batch, times_walker, unknown, unknown, n_effective)

        def gap(c: float) -> Array:
            above, log_above = scaled_fermi(c - self.generated.work)
            below, log_below = scaled_fermi(self.simulated.work - c)
            ratio = (times_batch @ self.generated.sums(above)) / (
                self.frame_weight * (times_walker @ self.simulated.sums(below))
            )
            return np.log(ratio) + (log_above - log_below)

        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # The gap is c - c_true on average over samples, so one step of slope 1 nearly solves it
            nodes = _nodes(self.crossing - gap(self.crossing))
            solved = _interpolated_zero(nodes, np.array([gap(float(c)) for c in nodes]))
            f = solved - np.log(n_effective / (times_batch @ batch_sizes))
        return Replicas(times_batch, times_walker, solved, f, n_effective)

    def log_z_replicas(self, replicas: Replicas) -> Array:
        """Return log Z of the target in every replica, ``[n_replicas]``."""
        if not (self.solved and self._has_target):
            return -replicas.f
        tables = (
            self.generated.in_one_bin(self.log_unit),
            self.simulated.in_one_bin(self.log_unit),
        )
        sums = self._sums_in_replicas(tables, replicas)[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_z: Array = np.log(sums / replicas.n_effective) - replicas.f + self.log_unit
        return log_z

    def histogram(self, edges: Array, replicas: Replicas, log_unit: float) -> Histogram:
        """Return the target weights in the bins between ``edges``, in units of exp(log_unit)."""
        n_bins = edges.size - 1
        tables = (
            self.generated.binned(edges, self.log_unit),
            self.simulated.binned(edges, self.log_unit),
        )
        sums, squares = np.zeros(n_bins), np.zeros(n_bins)
        counts, n_blocks = np.zeros(n_bins, dtype=np.int64), np.zeros(n_bins, dtype=np.int64)
        unit = math.exp(self.log_unit - self.f - log_unit) / self.n_effective
        for binned, frame_weight in zip(tables, (1.0, self.frame_weight), strict=True):
            w = unit * fermi(self.crossing - binned.work) * binned.target
            per_block = binned.sums((w > 0).astype(np.float64))
            sums += frame_weight * binned.sums(w).sum(axis=0)
            squares += frame_weight * binned.sums(w**2).sum(axis=0)
            counts += per_block.sum(axis=0).astype(np.int64)
            n_blocks += (per_block > 0).sum(axis=0)
        in_replicas = self._sums_in_replicas(tables, replicas)
        with np.errstate(over="ignore", invalid="ignore"):
            units = np.exp(self.log_unit - replicas.f - log_unit) / replicas.n_effective
            in_replicas *= units[:, None]
        return Histogram(sums, squares, counts, n_blocks, in_replicas)

    def _sums_in_replicas(self, tables: tuple[Binned, Binned], replicas: Replicas) -> Array:
        """Return the sum of fermi(c - w) exp(log_target - log_unit), ``[n_replicas, n_bins]``.

        ``tables`` are the generated and the simulated rows, which count ``frame_weight`` each.
        """
        weights = (1.0, self.frame_weight)
        all_times = (replicas.times_batch, replicas.times_walker)
        sums = np.zeros((replicas.f.size, tables[0].shape[1]))
        nodes = _nodes(replicas.crossing)
        for c, share in zip(nodes, _hat_functions(nodes, replicas.crossing), strict=True):
            near = share > 0
            for binned, frame_weight, times in zip(tables, weights, all_times, strict=True):
                w = frame_weight * fermi(c - binned.work) * binned.target
                sums[near] += share[near, None] * (times[near] @ binned.sums(w))
        return sums


def standard_error(replicas: Array) -> Array:
    """Return the standard deviation over the first axis; replicas that are not finite are left out.

    NaN where fewer than two replicas are finite.
    """
    finite = np.isfinite(replicas)
    n_finite = finite.sum(axis=0)
    values = np.where(finite, replicas, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.sum(axis=0) / n_finite
        squares = np.where(finite, (values - mean) ** 2, 0.0).sum(axis=0)
        stderr = np.sqrt(squares / (n_finite - 1))
    return np.asarray(np.where(n_finite >= 2, stderr, np.nan))


def _nodes(values: Array) -> Array:
    """Return increasing nodes that cover ``values``, denser where there are more of them."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.array([0.0, 1.0])
    inner = np.quantile(finite, np.linspace(0, 1, _N_NODES - 2))
    margin = 0.25 * (inner[-1] - inner[0]) + 1e-3 + 1e-12 * np.abs(inner).max()
    nodes: Array = np.concatenate([[inner[0] - margin], inner, [inner[-1] + margin]])
    apart = np.diff(nodes, prepend=-np.inf) > 1e-3 * margin
    return np.asarray(nodes[apart])


def _interpolated_zero(nodes: Array, gaps: Array) -> Array:
    """Return where each column of the increasing ``gaps[n_nodes, n_replicas]`` crosses 0."""
    interval = np.clip((gaps <= 0).sum(axis=0) - 1, 0, nodes.size - 2)
    column = np.arange(gaps.shape[1])
    low, high = gaps[interval, column], gaps[interval + 1, column]
    width = nodes[interval + 1] - nodes[interval]
    zero: Array = nodes[interval] - low * width / (high - low)
    return zero


def _hat_functions(nodes: Array, values: Array) -> Array:
    """Return the weight of each node in a linear interpolation at ``values``: ``[n_nodes, n]``."""
    identity = np.eye(nodes.size)
    return np.array([np.interp(values, nodes, hat, left=0.0, right=0.0) for hat in identity])
