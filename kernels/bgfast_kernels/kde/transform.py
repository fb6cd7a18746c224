"""The fast Gauss transform: sums of Gaussians, or of their derivatives, in O(n + m).

Sources and targets are sorted into boxes. The charges of a source box become TERMS moments; a
target box collects, from each box near it, a polynomial in the coordinate of its targets
(:mod:`bgfast_kernels.kde.tables`). There are two ways to do it, for few boxes and for many. In both
what is added up, and in which order, does not depend on the number of threads, nor do the bits.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.cpu import get_threads
from bgfast_kernels.kde import far
from bgfast_kernels.kde.boxes import Lattice, boxes_without_gaps, lattice_between, survey
from bgfast_kernels.kde.few_boxes import LEAST_POINTS_OF_A_BOX, sum_in_few_boxes
from bgfast_kernels.kde.many_boxes import sum_in_many_boxes
from bgfast_kernels.kde.reflection import Walls, with_images
from bgfast_kernels.kde.tables import HALF_WIDTH, INTERACTION, box_error, translation_table
from bgfast_kernels.stages import functions

Float = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative error of a density above which the sum is taken directly instead."""

_NO_BOX: NDArray[np.int32] = np.empty(0, np.int32)
_NO_T: Float = np.empty(0)


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
        Sources p, shape [n], n >= 1, finite. Passing the array ``query`` itself saves
        looking at it twice, and a sort where boxes are many.
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
    query = _plain(query)
    points = query if same else _plain(points)
    charges = _plain(charges)
    find = scale is None
    given = charges if scale is None else _plain(scale)
    extents = np.empty((3, 2))
    lattice = survey(functions(), get_threads(), given, query, points, same, bandwidth, extents)
    of_given, of_query, of_points = extents.tolist()
    if find:
        _check_weights(charges, of_given)
    _check_finite("points" if same else "query", query, of_query)
    _check_finite("points", points, of_points)
    scaled = not find and of_given != [0.0, 0.0]
    near = np.where(given == 0, charges, 0.0) if scaled and not scale_of_query else charges
    found, in_doubt = _box_sums(query, points, near, lattice, bandwidth, order, walls, find)
    sums, next_sums, scale = found[0], found[1], found[2] if find else given
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


def _plain(x: Float) -> Float:
    """Return float64 numbers of the one kind of array that kernels are compiled for."""
    x = np.ascontiguousarray(x, np.float64)
    return x if x.flags.writeable else x.copy()


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


def _check_weights(weights: Float, extent: list[float]) -> None:
    if not extent[0] >= 0:  # NaN for what is not finite: 0 / 0 is how a zero sum arrives here
        i = int(np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))[0])
        raise ValueError(
            "weights must be finite and >= 0 with a positive sum; normalised to a sum of 1, "
            f"the one at index {i} is {weights[i]}"
        )


def _check_finite(name: str, x: Float, extent: list[float]) -> None:
    if math.isnan(extent[0]):
        i = int(np.flatnonzero(~np.isfinite(x))[0])
        raise ValueError(f"{name} must be finite, got {x[i]} at index {i}; leave such points out")


def _box_sums(
    query: Float,
    points: Float,
    charges: Float,
    lattice: Lattice,
    bandwidth: float,
    order: int,
    walls: Walls | None,
    find_far: bool,
) -> tuple[Float, bool]:
    """Return the sums of both orders by the fast transform, NaN where it is unsure, and if it is.

    It is never unsure unless ``find_far``: then zeros, for the scale, are a third row of the sums.
    ``lattice`` is that of :func:`survey`.
    """
    same, fold = points is query, 0
    of_team, threads = functions(), get_threads()
    if walls is not None:
        lattice = lattice_between(walls, bandwidth, len(query) + len(points))
        if lattice[2] > 0:
            fold = walls.parity
        else:
            no_scale, reach = np.zeros(len(points)), INTERACTION * bandwidth
            points, charges, _ = with_images(points, charges, no_scale, walls, reach)
            same, extents = False, np.empty((3, 2))
            lattice = survey(of_team, threads, no_scale, query, points, same, bandwidth, extents)
    box, t = _NO_BOX, _NO_T
    if lattice[2] == 0:
        everything = query if same else np.concatenate([query, points])
        n_boxes, box, t = boxes_without_gaps(everything, bandwidth)
        lattice = (0.0, 0.0, n_boxes)
    _, width, n_boxes = lattice
    few = len(box) == 0 and LEAST_POINTS_OF_A_BOX * n_boxes <= len(points)
    half_width = HALF_WIDTH if fold == 0 else 0.5 * width / bandwidth
    table = translation_table(order, half_width).reshape(-1)
    error = _relative_error(half_width) if find_far else _NO_T
    # One piece of memory: of two the allocator might return the second to the system each time.
    sums = np.empty((3 if find_far else 2, len(query)))
    between = (half_width, fold, table, error, order)
    problem = (of_team, threads, query, points, charges, *lattice, *between, sums)
    in_doubt = sum_in_few_boxes(*problem) if few else sum_in_many_boxes(*problem, same, box, t)
    return sums, in_doubt


@functools.lru_cache(maxsize=64)
def _relative_error(half_width: float) -> Float:
    return box_error(half_width) / TOLERANCE
