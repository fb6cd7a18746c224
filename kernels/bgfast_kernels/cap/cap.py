"""The energy cap on the CPU: value and derivative in one pass, lanes are energies."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.simd import (
    fill,
    lanes_in,
    larger,
    load_between,
    logarithm,
    store_between,
    where_at_most,
    where_less,
)

Array = NDArray[Any]

# Fewer numbers than this are not worth waking a thread for.
_LEAST_NUMBERS = 2**16


def lin_log_cap(u: Array, e_high: float, e_max: float, capped: Array, derivative: Array) -> None:
    """Compute capped energies and the derivative of the cap.

    Parameters
    ----------
    u
        Energies, ``[n]``, float32 or float64, contiguous.
    e_high, e_max
        Where the logarithm starts, and where it ends; finite in the dtype of ``u``.
    capped, derivative
        Where the results go, ``[n]`` each.
    """
    n = len(u)
    if n < 2 * _LEAST_NUMBERS:
        _cap(0, n, u, e_high, e_max, capped, derivative)
    else:
        arguments = (u, e_high, e_max, capped, derivative)
        cpu.parallel_rows(_cap, n, *arguments, block=16, min_rows=_LEAST_NUMBERS)


@cpu.jit
def _cap(
    start: Any, stop: Any, u: Any, e_high: Any, e_max: Any, capped: Any, derivative: Any
) -> None:
    zero, one = fill(u, 0.0), fill(u, 1.0)
    high, top = fill(u, e_high), fill(u, e_max)
    for i in range(start, stop, lanes_in(u)):
        here = stop - i
        given = load_between(u, i, 0, here, zero)
        x = where_less(top, given, top, given)
        excess = larger(x - high, zero)  # 0 for NaN
        w = one + excess
        slope = one / w  # 1 below e_high
        # log(w) alone would lose what of a small excess the sum has rounded away.
        value = high + (logarithm(w) + (excess - (w - one)) * slope)
        store_between(capped, i, 0, here, where_less(high, x, value, x))
        store_between(derivative, i, 0, here, where_at_most(given, top, slope, zero))
