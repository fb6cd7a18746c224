"""What both ways to the sums are told: which boxes there are and what happens between them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit

Float = NDArray[np.float64]
Int = NDArray[np.int32]
Bool = NDArray[np.bool_]

LINE = 16
"""Numbers, of 4 or 8 bytes, that fill cache lines, two of which a processor may fetch at once."""


class Boxes(NamedTuple):
    """Which boxes there are: ``n_boxes`` in a row from ``origin`` on, ``width`` wide each.

    Or, if ``box`` and ``t`` are not empty, they tell the box and the coordinate of each target and
    of each source that is not a target.
    """

    n_boxes: int
    origin: float
    width: float
    box: Int
    t: Float


class Between(NamedTuple):
    """What happens between boxes.

    Parameters
    ----------
    half_width
        Half the width of a box in bandwidths.
    fold
        The parity of images in walls at both ends of the boxes, or 0: no walls.
    table
        :func:`bgfast_kernels.kde.tables.translation_table`, flat.
    error
        The relative :func:`bgfast_kernels.kde.tables.box_error`, or empty to doubt no sum.
    order
        Of the first derivative.
    """

    half_width: float
    fold: int
    table: Float
    error: Float
    order: int


class Sums(NamedTuple):
    """Where the sums of both orders go, NaN where in doubt, zeros, if any, and whether one is."""

    value: Float
    slope: Float
    zeros: Float
    in_doubt: Bool


@jit
def sums_in(result: Float) -> Sums:
    """Return the two or three rows of memory as the places where sums and zeros go."""
    zeros = result[2] if len(result) > 2 else result[0, :0]
    return Sums(result[0], result[1], zeros, np.zeros(1, np.bool_))


@jit
def lines(n: int) -> Float:
    """Return memory for ``n`` numbers that begins at a cache line."""
    memory = np.empty(n + LINE)
    start = -memory.ctypes.data % (8 * LINE) // 8
    return memory[start : start + n]


@jit
def piece(memory: Any, n: int) -> Any:
    """Return ``n`` numbers of memory, and what is left of it behind their last cache line."""
    return memory[:n], memory[-(-n // LINE) * LINE :]
