"""Standard errors from resampling batches of independent samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bootstrap_stderr(
    sums: Array, statistic: Callable[[Array], Array], n_bootstrap: int, seed: int
) -> Array:
    """Return the standard deviation of ``statistic`` over resamplings of the batches.

    Parameters
    ----------
    sums
        Weight sums per batch and column, shape ``[n_batches, n_columns]``.
    statistic
        Maps sums ``[n_bootstrap, n_columns]`` to ``[n_bootstrap]`` or ``[n_bootstrap, n_columns]``.

    Returns
    -------
    Array
        NaN where fewer than two batches are filled, in any column that the statistic rests on.
        Replicas in which the statistic is infinite are left out.
    """
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2, got {n_bootstrap}")
    n_batches = sums.shape[0]
    rng = np.random.default_rng(seed)
    times_drawn = rng.multinomial(n_batches, np.full(n_batches, 1 / n_batches), size=n_bootstrap)
    replicas = statistic(times_drawn @ sums)
    replicas = np.where(np.isfinite(replicas), replicas, np.nan)
    known = np.count_nonzero(sums, axis=0) >= 2
    if replicas.ndim == 1:
        known = known.all()
    finite = np.isfinite(replicas)
    n_finite = finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(finite, replicas, 0.0).sum(axis=0) / n_finite
        squares = np.where(finite, (replicas - mean) ** 2, 0.0).sum(axis=0)
        stderr = np.sqrt(squares / (n_finite - 1))
    return np.where(known & (n_finite >= 2), stderr, np.nan)
