"""Correlated frames of independent walkers: what they are worth, and resampling them as wholes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_BLOCKS = 128  # more walkers or batches than this are merged; the error bar has no use for more


def block_index(label: NDArray[np.integer] | None, n: int) -> tuple[Integers, int]:
    """Return the block ``[n]`` of each row, and the number of blocks.

    Rows with the same label share a block; ``None`` means that all rows are independent. More than
    :data:`MAX_BLOCKS` labels are merged, whole and in turn, into that many blocks.
    """
    if label is None:
        index = np.arange(n, dtype=np.int64)
        n_labels = n
    else:
        labels, inverse = np.unique(label, return_inverse=True)
        index, n_labels = inverse.astype(np.int64, copy=False), labels.size
    return index % MAX_BLOCKS, min(n_labels, MAX_BLOCKS)


def times_drawn(rng: np.random.Generator, n_blocks: int, n_replicas: int) -> Array:
    """Return how often each block counts in each bootstrap replica, ``[n_replicas, n_blocks]``.

    n - 1 of n blocks are drawn with replacement and scaled to n: the variance of a mean over blocks
    then comes out unbiased, which matters for few walkers (Rao and Wu, JASA 83, 231, 1988).
    NaN for fewer than two blocks, of which no error can be told.
    """
    if n_blocks < 2:
        return np.full((n_replicas, n_blocks), np.nan)
    drawn = rng.multinomial(n_blocks - 1, np.full(n_blocks, 1 / n_blocks), size=n_replicas)
    return drawn.astype(np.float64) * (n_blocks / (n_blocks - 1))


def statistical_inefficiency(series: Array, walker: NDArray[np.integer] | None) -> float:
    """Return how many frames make one independent sample of the mean of ``series[n]``.

    The autocorrelation is that of the ranks, so that a few huge values do not decide it; it is
    taken about the mean of all walkers, so that walkers which disagree raise it, up to the length
    of a walker. It is summed over Geyer's initial positive, monotone sequence (Geyer, Stat. Sci. 7,
    473, 1992), as in the multi-chain effective sample size of Vehtari et al. 2021.

    Parameters
    ----------
    series
        One number per frame.
    walker
        Walker of each frame; frames of one walker are in order of time. ``None``: independent.

    Returns
    -------
    float
        At least 1.
    """
    if walker is None or series.size < 2:
        return 1.0
    rank = np.unique(series, return_inverse=True)[1].astype(np.float64)
    rank -= rank.mean()
    covariance, n_pairs = _pooled_autocovariance(rank, walker)
    if covariance[0] <= 0:
        return 1.0
    correlation = covariance / n_pairs / (covariance[0] / n_pairs[0])
    n_even = correlation.size // 2 * 2
    pair_sums = correlation[:n_even].reshape(-1, 2).sum(axis=1)
    n_positive = pair_sums.size if (pair_sums > 0).all() else int(np.argmax(pair_sums <= 0))
    monotone = np.minimum.accumulate(pair_sums[:n_positive])
    # Longer lags have fewer pairs; in the variance of the mean they count by their share.
    share = n_pairs[:n_even].reshape(-1, 2).mean(axis=1)[:n_positive] / n_pairs[0]
    return max(1.0, 2 * float(monotone @ share) - 1)


def _pooled_autocovariance(
    centred: Array, walker: NDArray[np.integer]
) -> tuple[Array, NDArray[np.int64]]:
    """Return sum of x_i x_(i+t) over all walkers, and the number of pairs, for each lag t."""
    order = np.argsort(walker, kind="stable")
    lengths = np.unique(walker, return_counts=True)[1]
    starts = np.cumsum(lengths) - lengths
    sorted_values = centred[order]
    covariance = np.zeros(int(lengths.max()))
    n_pairs = np.zeros(covariance.size, dtype=np.int64)
    for length in np.unique(lengths):
        rows = starts[lengths == length][:, None] + np.arange(length)
        spectrum = np.fft.rfft(sorted_values[rows], n=2 * int(length), axis=1)
        power = (spectrum * spectrum.conj()).real.sum(axis=0)
        covariance[:length] += np.fft.irfft(power, n=2 * int(length))[:length]
        n_pairs[:length] += rows.shape[0] * (length - np.arange(length))
    return covariance, n_pairs
