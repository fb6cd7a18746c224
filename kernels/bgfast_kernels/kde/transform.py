"""The fast Gauss transform: sums of Gaussians, or of their derivatives, in O(n + m).

Sources and targets are sorted into boxes. The charges of a source box become TERMS moments; a
target box collects, from each box near it, a polynomial in the coordinate of its targets
(:mod:`bgfast_kernels.kde.tables`), or, where two boxes hold few points, the sum itself. Threads
share points sorted, chunks of sources and targets. What is added up, and in which order, depends on
none of it, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import parallel_rows
from bgfast_kernels.kde import box_sums, far, moments
from bgfast_kernels.kde.boxes import has_lattice, sort_between_walls, sort_into_boxes
from bgfast_kernels.kde.reflection import Walls, with_images
from bgfast_kernels.kde.sorting import MIN_ROWS, extent
from bgfast_kernels.kde.tables import (
    HALF_WIDTH,
    INTERACTION,
    TERMS,
    box_error,
    translation_table,
)

Float = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative error of a density above which the sum is taken directly instead."""

_BOX_IN_ROWS = 64  # as many targets as take as long to evaluate as a box takes besides them


def gauss_transform(
    query: Float,
    points: Float,
    charges: Float,
    bandwidth: float,
    order: int = 0,
    scale: Float | None = None,
    scale_of_query: bool = True,
    walls: Walls | None = None,
) -> tuple[Float, Float, Float]:
    """Sum derivatives of Gaussians at the points, weighted with charges, at every target.

    With ``u_ij = (q_i - p_j) / h`` and ``K(u) = exp(-u^2 / 2)`` it returns
    ``sum_j c_j K^(k)(u_ij) exp(s)`` for k = ``order`` and k = ``order + 1``.

    Parameters
    ----------
    query
        Targets q, shape [m], finite.
    points
        Sources p, shape [n], n >= 1, finite. Passing the array ``query`` itself saves one sort.
    charges
        Charge c of each source, shape [n].
    bandwidth
        Width h of the Gaussians, > 0, in the units of the points.
    order
        Order k of the first derivative, >= 0.
    scale
        Logarithms s >= 0 that keep small sums representable, one for each target
        (``scale_of_query``) or one for each source; 0 means an ordinary target or source. ``None``
        asks for them: then ``order`` is 0, ``charges`` are weights >= 0 of sum 1, every sum is
        exact to :data:`TOLERANCE`, and s > 0 where the fast transform cannot vouch for that (a
        target many bandwidths away from all weight): there the terms are summed one by one.
    scale_of_query
        Whether ``scale`` belongs to the targets.
    walls
        Reflect the sources at two walls, which hold all points and targets between them and are
        at least two bandwidths apart.

    Returns
    -------
    sums, next_sums
        Of the two orders, shape [m]. The error of the fast transform is below 1e-12 of the
        charges (absolute values) within 9 bandwidths of a target, for orders 0 and 1.
    scale
        That of the targets, shape [m], if it was asked for; else empty.

    Raises
    ------
    ValueError
        If a target or a source is not finite, or if weights are negative or not finite.
    """
    same = points is query
    query = np.ascontiguousarray(query)
    points = query if same else np.ascontiguousarray(points)
    charges = np.ascontiguousarray(charges)
    find = scale is None
    scale = None if scale is None else np.ascontiguousarray(scale)
    if scale is None:
        _check_weights(charges)
        scale, scaled = np.zeros(len(query)), False
    else:
        scaled = extent(scale) != (0.0, 0.0)
    near = np.where(scale == 0, charges, 0.0) if scaled and not scale_of_query else charges
    sums, next_sums, in_doubt = _box_sums(query, points, near, bandwidth, order, walls, find)
    if in_doubt:
        largest = _largest_scale(charges, walls, bandwidth)
        p, c, _ = _all_sources(points, charges, None, walls, largest, bandwidth)
        far.find_scales(scale, np.isnan(sums), query, p, c, bandwidth)
        scaled = True
    if scaled:
        result = (sums, next_sums, query)
        of_sources = None if scale_of_query else scale
        p, c, s = _all_sources(points, charges, of_sources, walls, float(scale.max()), bandwidth)
        if scale_of_query:
            far.far_targets(*result, p, c, bandwidth, order, scale)
        else:
            far.add_far_sources(*result, p, c, s, bandwidth, order)
    return sums, next_sums, scale if find else np.empty(0)


def _all_sources(
    points: Float,
    charges: Float,
    scale: Float | None,
    walls: Walls | None,
    largest: float,
    bandwidth: float,
) -> tuple[Float, Float, Float]:
    """Return the sources and those images that matter where scales go up to ``largest``."""
    if scale is None:
        scale = np.zeros(len(points))
    if walls is None:
        return points, charges, scale
    return with_images(points, charges, scale, walls, far.radius(largest) * bandwidth)


def _largest_scale(weights: Float, walls: Walls | None, bandwidth: float) -> float:
    """Return a bound on the scale of any target between the walls."""
    if walls is None:
        return np.inf
    across = (walls.hi - walls.lo) / bandwidth
    return 0.5 * across**2 - math.log(weights[weights > 0].min())


def _check_weights(weights: Float) -> None:
    least, _ = extent(weights)  # NaN for what is not finite: 0 / 0 is how a zero sum arrives here
    if not least >= 0:
        i = int(np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))[0])
        raise ValueError(
            "weights must be finite and >= 0 with a positive sum; normalised to a sum of 1, "
            f"the one at index {i} is {weights[i]}"
        )


def _box_sums(
    query: Float,
    points: Float,
    charges: Float,
    bandwidth: float,
    order: int,
    walls: Walls | None,
    find_far: bool,
) -> tuple[Float, Float, bool]:
    """Return the sums of both orders by the fast transform, NaN where it is unsure, and if it is.

    It is never unsure unless ``find_far``.
    """
    fold = 0
    if walls is not None and has_lattice(walls, bandwidth, len(query) + len(points)):
        fold = walls.parity
        targets, sources, half_width = sort_between_walls(query, points, charges, bandwidth, walls)
    else:
        if walls is not None:
            points, charges, _ = with_images(
                points, charges, np.zeros(len(points)), walls, INTERACTION * bandwidth
            )
        targets, sources = sort_into_boxes(query, points, charges, bandwidth)
        half_width = HALF_WIDTH

    slot = np.empty(len(sources.start) - 2, np.int32)
    n_slots = moments.assign_slots(targets.start, sources.start, slot)
    expansions = np.empty((2 if fold else 1, n_slots * TERMS))
    magnitude = np.zeros(len(slot) if find_far else 0)
    heads = np.zeros((-(-sources.n_inside // moments.CHUNK), TERMS + 1))
    parallel_rows(
        moments.box_moments,
        sources.n_inside,
        *(sources.start, sources.t, sources.charge, slot, fold, expansions, magnitude, heads),
        block=moments.CHUNK,
        min_rows=MIN_ROWS,
    )
    moments.join(sources.start, slot, fold, heads, expansions, magnitude)

    value, slope, in_doubt = np.empty(len(query)), np.empty(len(query)), np.zeros(1, np.bool_)
    table = translation_table(order, half_width).reshape(-1)
    error = box_error(half_width) / TOLERANCE if find_far else np.zeros(0)
    # Fewer targets are worth a thread if there are more boxes.
    work = len(query) + _BOX_IN_ROWS * len(slot)
    parallel_rows(
        box_sums.evaluate,
        len(query),
        *(targets.start, targets.t, sources.start, sources.t, sources.charge),
        *(slot, expansions, magnitude, half_width, fold),
        *(table, error, order, value, slope, in_doubt),
        min_rows=1 + MIN_ROWS * len(query) // work,
    )
    sums, next_sums = np.empty(len(query)), np.empty(len(query))
    parallel_rows(
        box_sums.unsort,
        len(query),
        *(targets.rank, value, slope, sums, next_sums),
        min_rows=MIN_ROWS,
    )
    return sums, next_sums, bool(in_doubt[0])
