"""The Gauss transform of CUDA tensors: sorting by torch, sums by the kernels, no host waiting.

What the CPU refuses by an error (points that are not finite, weights that are no weights) is known
only on the device here: every result is NaN then.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from bgfast_kernels import cuda
from bgfast_kernels.kde import cuda_kernels as kernels
from bgfast_kernels.kde.tables import TERMS, box_error, translation_table
from bgfast_kernels.kde.transform import TOLERANCE
from torch import Tensor

from bgfast.ops.cuda import packed, place


class Sorted(NamedTuple):
    """Points in ascending order: the points, and the place each had before."""

    x: Tensor
    place: Tensor


class Boxes(NamedTuple):
    """Boxes of sorted points: each point's box, counted from 1, where each starts, its cell."""

    box: Tensor
    start: Tensor
    cell: Tensor


class Images(NamedTuple):
    """Walls and the number of images on either side; one interval and no image without walls."""

    lo: float
    hi: float
    parity: int
    near: int
    far: int


def gauss_transform_cuda(
    query: Tensor | None,
    points: Tensor,
    charges: Tensor,
    scale: Tensor | None,
    scale_of_query: bool,
    bandwidth: float,
    order: int,
    bounds: list[float],
    parity: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what :func:`bgfast_kernels.kde.transform.gauss_transform` returns."""
    points, charges = packed(points), packed(charges)
    targets = points if query is None else packed(query)
    find = scale is None
    scale = targets.new_empty(targets.shape) if scale is None else packed(scale)
    if len(targets) == 0:
        return targets.clone(), targets.clone(), targets.clone()
    images = _images(bounds, parity, bandwidth)
    far = kernels.Launcher(kernels.FAR, **place(points))
    in_boxes = charges
    if not find and not scale_of_query:
        in_boxes = torch.where(scale == 0, charges, 0.0)
    same = query is None
    sums, slopes, doubtful, poison = _box_sums(
        None if same else targets, points, in_boxes, bandwidth, order, images, find
    )
    if find or scale_of_query:
        pair = (_address(targets), _size(targets), _address(points), _address(charges))
        far.per_item(
            "kde_far_targets",
            len(targets),
            *(*pair, _size(points), np.float64(1 / bandwidth), np.int32(order)),
            *_image_arguments(images),
            *(_address(doubtful), np.int32(find), _address(poison)),
            *(_address(t) for t in (scale, sums, slopes)),
        )
    else:
        _add_far_sources(
            far, targets, points, charges, scale, bandwidth, order, images, sums, slopes
        )
    return sums, slopes, scale.clone() if find else scale.new_empty(0)


def _images(bounds: list[float], parity: int, bandwidth: float) -> Images:
    if not bounds:
        return Images(0.0, 0.0, 1, 0, 0)
    lo, hi = bounds
    near = kernels.box_images(hi - lo, bandwidth)
    return Images(lo, hi, parity, near, kernels.far_images(hi - lo, bandwidth))


def _box_sums(
    query: Tensor | None,
    points: Tensor,
    charges: Tensor,
    bandwidth: float,
    order: int,
    images: Images,
    find: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return both sums, where they are in doubt, and NaN if the input was bad, else 0."""
    launcher = kernels.Launcher(kernels.TRANSFORM, **place(points))
    source = Sorted(*torch.sort(points, stable=True))
    target = source if query is None else Sorted(*torch.sort(query, stable=True))
    charge = charges[source.place]
    x, c = _with_images(source.x, charge, images)
    poison = points.new_zeros(1)
    lattice = (_address(x), _size(x), np.float64(kernels.box_width(bandwidth)))
    weights = c if find else None
    sources = _boxes(launcher, x, lattice, weights, poison)
    shared = target.x is x
    targets = sources if shared else _boxes(launcher, target.x, lattice, None, poison)

    n, m = len(x), len(target.x)
    moments = x.new_empty(n, TERMS + 1)
    n_chunks = -(-n // kernels.CHUNK)
    head = x.new_empty(n_chunks, TERMS + 1)
    boxes = (_address(sources.box), _address(moments), _address(head))
    launcher.per_warp("kde_moments", n_chunks, _address(x), _address(c), _size(x), *lattice, *boxes)
    join = (_size(x), _address(sources.box), _address(sources.start))
    launcher.over_boxes("kde_join", n, *join, _address(moments), _address(head))

    table, error = _tables(order, points.device)
    local, bound = x.new_empty(m, 2 * TERMS), x.new_empty(m)
    launcher.over_boxes(
        "kde_local",
        m,
        *(_size(target.x), _address(targets.box), _address(targets.cell)),
        *(_size(x), _address(sources.box), _address(sources.cell)),
        *(_address(t) for t in (moments, table, error, local, bound)),
    )
    sums, slopes = x.new_empty(m), x.new_empty(m)
    doubtful = torch.empty(m if find else 1, dtype=torch.int32, device=x.device)
    launcher.per_item(
        "kde_evaluate",
        m,
        *(_address(target.x), _size(target.x), *lattice),
        *(_address(t) for t in (targets.box, target.place, local, bound, poison)),
        *(np.int32(find), _address(sums), _address(slopes), _address(doubtful)),
    )
    return sums, slopes, doubtful, poison


def _with_images(x: Tensor, charge: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    """Return sorted sources and their images, sorted: every image as a whole stands in a row."""
    if images.near == 0:
        return x, charge
    length = images.hi - images.lo
    places, charges = [], []
    for k in range(-images.near, images.near + 1):
        if k % 2:
            places.append((images.lo + images.hi + k * length - x).flip(0))
            charges.append(images.parity * charge.flip(0))
        else:
            places.append(x + k * length)
            charges.append(charge)
    return torch.cat(places), torch.cat(charges)


def _boxes(
    launcher: kernels.Launcher,
    x: Tensor,
    lattice: tuple[np.generic, ...],
    weights: Tensor | None,
    poison: Tensor,
) -> Boxes:
    n = len(x)
    mark = torch.empty(n, dtype=torch.int32, device=x.device)
    checked = (_address(x if weights is None else weights), np.int32(weights is not None))
    marks = (*checked, _address(mark), _address(poison))
    launcher.per_item("kde_mark", n, _address(x), _size(x), *lattice, *marks)
    box = torch.cumsum(mark, 0, dtype=torch.int32)
    start = torch.empty(n + 1, dtype=torch.int32, device=x.device)
    cell = x.new_empty(n)
    found = (_address(box), _address(start), _address(cell))
    launcher.per_item("kde_boxes", n, _address(x), _size(x), *lattice, *found)
    return Boxes(box, start, cell)


def _add_far_sources(
    launcher: kernels.Launcher,
    targets: Tensor,
    points: Tensor,
    charges: Tensor,
    scale: Tensor,
    bandwidth: float,
    order: int,
    images: Images,
    sums: Tensor,
    slopes: Tensor,
) -> None:
    n = len(points)
    mark = torch.empty(n, dtype=torch.int32, device=points.device)
    launcher.per_item(
        "kde_mark_far", n, _address(charges), _address(scale), _size(points), _address(mark)
    )
    count = torch.cumsum(mark, 0, dtype=torch.int32)
    listed = torch.empty_like(count)
    launcher.per_item(
        "kde_list", n, _address(mark), _address(count), _size(points), _address(listed)
    )
    launcher.per_item(
        "kde_far_sources",
        len(targets),
        *(_address(targets), _size(targets)),
        *(_address(t) for t in (points, charges, scale, listed, count)),
        *(_size(points), np.float64(1 / bandwidth), np.int32(order)),
        *_image_arguments(images),
        *(_address(sums), _address(slopes)),
    )


def _image_arguments(images: Images) -> tuple[np.generic, ...]:
    numbers = (np.float64(images.lo), np.float64(images.hi))
    return (*numbers, np.int32(images.far), np.int32(images.parity))


@functools.lru_cache(maxsize=32)
def _tables(order: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the translation table and the relative error bound, copied to the device once."""
    table, error = translation_table(order), box_error() / TOLERANCE
    return torch.tensor(table, device=device), torch.tensor(error, device=device)


def _address(x: Tensor) -> np.generic:
    return cuda.pointer(x.data_ptr())


def _size(x: Tensor) -> np.generic:
    return np.int64(len(x))
