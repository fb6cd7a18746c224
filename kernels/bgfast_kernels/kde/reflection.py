"""Mirror images of sources between two walls, for densities that do not leak out of bounds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Walls(NamedTuple):
    """Two walls, and what they do to the charges of images.

    ``parity`` is +1 or -1: the factor of a charge at every reflection. (A derivative in a source is
    a sum of the other parity, since an image moves the other way.)
    """

    lo: float
    hi: float
    parity: int


def with_images(
    points: Float, charges: Float, scale: Float, walls: Walls, reach: float
) -> tuple[Float, Float, Float]:
    """Return the sources and their images within ``reach`` of ``[lo, hi]``, the sources first.

    Parameters
    ----------
    points, charges, scale
        Shape [n], the points within the walls; images have the scale of their source.
    walls
        The bounds and the parity.
    reach
        Distance in the units of the points.
    """
    lo, hi, parity = walls
    length = hi - lo
    source, position, sign = [np.arange(len(points))], [points], [np.ones(len(points))]
    # Image k lies in the |k|-th interval left or right of [lo, hi].
    for k in range(1, math.ceil(reach / length) + 1):
        for shift in (k * length, -k * length):
            image = points + shift if k % 2 == 0 else lo + hi + shift - points
            near = np.flatnonzero((image >= lo - reach) & (image <= hi + reach))
            source.append(near)
            position.append(image[near])
            sign.append(np.full(len(near), parity if k % 2 else 1.0))
    index = np.concatenate(source)
    return (
        np.concatenate(position),
        charges[index] * np.concatenate(sign),
        scale[index],
    )
