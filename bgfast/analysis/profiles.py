"""Free energy along a coordinate r from weighted samples, with bootstrap errors, in flat memory.

F(r) = -log p(r) in units of k_B T. Row i of the stream goes to batch i mod n_batches; each batch
keeps a weighted histogram, and errors come from resampling the batches. Rows must be independent
draws (those of a generator are; for a Markov chain the errors would come out too small).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bgfast.analysis.bootstrap import bootstrap_stderr
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.weights import as_log_weights, weights_from

Array = NDArray[np.float64]
Orientation = Literal["below-above", "above-below"]


@dataclass(frozen=True)
class Profile:
    """A free-energy profile; every array has shape ``[n_bins]``.

    Attributes
    ----------
    r
        Centres of the bins.
    f
        -log(mean density in the bin) in k_B T, lowest bin at 0. NaN where no sample fell.
    stderr
        Bootstrap standard error of -log of the density, which is normalised within the bounds. (The
        shift that puts the lowest bin at 0 is not resampled; it moves the curve as a whole.) NaN
        where fewer than two batches hold samples, so that nothing can be said.
    counts
        Rows of positive weight in the bin.
    ess
        Effective sample size (sum w)^2 / sum w^2 of the rows in the bin.
    """

    r: Array
    f: Array
    stderr: Array
    counts: NDArray[np.int64]
    ess: Array


class ProfileAccumulator:
    """Takes in samples of a coordinate and their log weights chunk by chunk, in constant memory.

    Parameters
    ----------
    bounds
        Range of the histogram; the upper edge belongs to the last bin.
    n_bins
        Number of bins.
    split
        Where one state ends and the other begins, for :meth:`delta_f`.
    n_batches
        Number of batches for the bootstrap.
    """

    def __init__(
        self,
        bounds: tuple[float, float],
        n_bins: int = 100,
        split: float | None = None,
        n_batches: int = 256,
    ) -> None:
        low, high = bounds
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"bounds must be finite and increasing, got {bounds}")
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {n_bins}")
        if n_batches < 2:
            raise ValueError(f"n_batches must be at least 2, got {n_batches}")
        if split is not None and not np.isfinite(split):
            raise ValueError(f"split must be finite, got {split}")
        self.bounds = (float(low), float(high))
        self.n_bins = n_bins
        self.split = split
        self.n_batches = n_batches
        self.n = 0
        self._shift = -np.inf  # largest log weight so far; all sums are of exp(log_w - shift)
        self._bins: Array = np.zeros((n_batches, n_bins))
        self._bins_w2: Array = np.zeros(n_bins)
        self._counts: NDArray[np.int64] = np.zeros(n_bins, dtype=np.int64)
        self._states: Array = np.zeros((n_batches, 2))  # below split, at or above it
        self._states_w2: Array = np.zeros(2)

    def update(self, r: ArrayLike, log_w: ArrayLike | None = None) -> None:
        """Take in one chunk.

        Parameters
        ----------
        r
            The coordinate, shape ``[n]``. Rows that are not finite get weight 0.
        log_w
            Log weights, shape ``[n]``; rows that are not finite get weight 0. ``None``: all equal.

        Raises
        ------
        ValueError
            If the shapes are not both ``[n]``.
        """
        values = np.asarray(r, dtype=np.float64)
        logs = as_log_weights(np.zeros(values.shape) if log_w is None else log_w)
        if values.shape != logs.shape:
            raise ValueError(
                f"r must have the shape of log_w, {list(logs.shape)}, got {list(values.shape)}"
            )
        batch = (self.n + np.arange(values.size)) % self.n_batches
        self.n += values.size
        used = np.isfinite(values) & np.isfinite(logs)
        if not used.any():
            return
        values, logs, batch = values[used], logs[used], batch[used]
        self._raise_shift(float(logs.max()))
        w = weights_from(logs, self._shift)
        self._add_to_bins(values, w, batch)
        if self.split is not None:
            side = np.asarray(values >= self.split, dtype=np.int64)
            self._states += _sums(batch, side, w, self._states.shape)
            self._states_w2 += np.bincount(side, w**2, minlength=2)

    def profile(self, n_bootstrap: int = 400, seed: int = 0) -> Profile:
        """Return the profile of all rows so far; all NaN if none of them fell within the bounds."""
        low, high = self.bounds
        total = self._bins.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            f = -np.log(total / total.sum())
        f[~np.isfinite(f)] = np.nan
        if np.isfinite(f).any():
            f -= np.nanmin(f)
        return Profile(
            r=low + (np.arange(self.n_bins) + 0.5) * (high - low) / self.n_bins,
            f=f,
            stderr=bootstrap_stderr(self._bins, _minus_log_share, n_bootstrap, seed),
            counts=self._counts.copy(),
            ess=_effective(total, self._bins_w2),
        )

    def delta_f(
        self, orientation: Orientation = "below-above", n_bootstrap: int = 400, seed: int = 0
    ) -> Estimate:
        """Return the free-energy difference of the two states in k_B T.

        All rows count, also those outside the bounds.

        Parameters
        ----------
        orientation
            ``"below-above"``: F(r < split) - F(r >= split) = -log(P(r < split) / P(r >= split)),
            which is closed - open for the dimer. ``"above-below"``: its negative.
        n_bootstrap
            Number of resamplings of the batches.
        seed
            Seed of the resampling.

        Returns
        -------
        Estimate
            Infinite with unknown error if one of the states has no samples.

        Raises
        ------
        ValueError
            If no split was given, or the orientation is unknown.
        """
        if self.split is None:
            raise ValueError("delta_f needs a split; give one to ProfileAccumulator")
        if orientation not in ("below-above", "above-below"):
            raise ValueError(
                f"orientation must be 'below-above' or 'above-below', got {orientation!r}"
            )
        sign = 1.0 if orientation == "below-above" else -1.0
        value = _minus_log_ratio(self._states.sum(axis=0, keepdims=True))[0]
        stderr = bootstrap_stderr(self._states, _minus_log_ratio, n_bootstrap, seed)
        return Estimate(sign * float(value), float(stderr))

    def state_ess(self) -> tuple[float, float]:
        """Return the effective sample size below the split and at or above it."""
        if self.split is None:
            raise ValueError("state_ess needs a split; give one to ProfileAccumulator")
        total = self._states.sum(axis=0)
        below, above = _effective(total, self._states_w2)
        return float(below), float(above)

    def _add_to_bins(self, r: Array, w: Array, batch: NDArray[np.int64]) -> None:
        low, high = self.bounds
        inside = (r >= low) & (r <= high)
        r, w, batch = r[inside], w[inside], batch[inside]
        index = np.minimum(((r - low) / (high - low) * self.n_bins).astype(int), self.n_bins - 1)
        self._bins += _sums(batch, index, w, self._bins.shape)
        self._bins_w2 += np.bincount(index, w**2, minlength=self.n_bins)
        self._counts += np.bincount(index[w > 0], minlength=self.n_bins)

    def _raise_shift(self, largest: float) -> None:
        if largest > self._shift:
            scale = np.exp(self._shift - largest)
            self._bins *= scale
            self._states *= scale
            self._bins_w2 *= scale**2
            self._states_w2 *= scale**2
            self._shift = largest


def free_energy_profile(
    r: ArrayLike,
    log_w: ArrayLike | None = None,
    *,
    bounds: tuple[float, float],
    n_bins: int = 100,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> Profile:
    """Return the free-energy profile of samples ``r[n]`` with log weights ``log_w[n]``.

    One-shot form of :class:`ProfileAccumulator`, where conventions and errors are stated.
    """
    accumulator = ProfileAccumulator(bounds, n_bins)
    accumulator.update(r, log_w)
    return accumulator.profile(n_bootstrap, seed)


def free_energy_difference(
    r: ArrayLike,
    log_w: ArrayLike | None = None,
    *,
    split: float,
    orientation: Orientation = "below-above",
    n_bootstrap: int = 400,
    seed: int = 0,
) -> Estimate:
    """Return the free-energy difference of the states on both sides of ``split`` in k_B T.

    One-shot form of :meth:`ProfileAccumulator.delta_f`, where the sign is stated.
    """
    accumulator = ProfileAccumulator((split - 1, split + 1), n_bins=1, split=split)
    accumulator.update(r, log_w)
    return accumulator.delta_f(orientation, n_bootstrap, seed)


def _sums(
    batch: NDArray[np.int64], column: NDArray[np.int64], w: Array, shape: tuple[int, ...]
) -> Array:
    """Sum the weights of each (batch, column), shape ``[n_batches, n_columns]``."""
    flat: Array = np.bincount(batch * shape[1] + column, w, minlength=shape[0] * shape[1]).astype(
        np.float64
    )
    return flat.reshape(shape)


def _effective(sum_w: Array, sum_w2: Array) -> Array:
    """Return (sum w)^2 / sum w^2; 0 where the weights are so small that their squares vanish."""
    return np.divide(sum_w**2, sum_w2, out=np.zeros(sum_w.size), where=sum_w2 > 0)


def _minus_log_share(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Array = -np.log(sums / sums.sum(axis=1, keepdims=True))
    return shares


def _minus_log_ratio(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = np.log(sums[:, 1]) - np.log(sums[:, 0])
    return ratio
