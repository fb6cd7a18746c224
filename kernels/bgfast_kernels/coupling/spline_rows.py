"""The spline on ranges of rows: values, log-derivatives and all gradients; lanes are elements.

Within a bin of lower knot (x_k, y_k), width w, height h, slopes d0 and d1 at its knots, with
s = h / w, t = (x - x_k) / w and a = t (1 - t) (Gregory & Delbourgo 1982; Durkan et al. 2019)::

    y = y_k + h f,                f = (s t^2 + d0 a) / D,  D = s + (d0 + d1 - 2 s) a
    dy/dx = (s / D)^2 M,          M = d1 t^2 + 2 s a + d0 (1 - t)^2
"""

from __future__ import annotations

from typing import Any

from bgfast_kernels.blocks import new_block
from bgfast_kernels.coupling.spline_bins import BOUND, kernel
from bgfast_kernels.coupling.spline_segment import segment_of
from bgfast_kernels.coupling.tiles import part_of, read_tile, sum_rows
from bgfast_kernels.simd import (
    fill,
    fma,
    lanes_in,
    larger,
    logarithm,
    reciprocal,
    spread,
    store,
    store_between,
    where_less,
)


@kernel
def spline_rows(
    start: Any,
    stop: Any,
    x: Any,
    raw: Any,
    m: Any,
    n_bins: Any,
    inverse: Any,
    numbers: Any,
    y: Any,
    logdet: Any,
) -> None:
    """Write rows ``start <= row < stop`` of the flat ``y`` and of ``logdet``."""
    lanes = lanes_in(x)
    n_parameters = 3 * n_bins - 1
    parameters = new_block(x, n_parameters + 1)  # the last, 0, is the raw slope at the end
    searched, other = new_block(x, 3 * n_bins), new_block(x, 3 * n_bins)
    logs = new_block(x, m)
    for row in range(start, stop, lanes):
        rows = min(lanes, stop - row)
        for first in range(0, rows * m, lanes):
            element, count = row * m + first, min(lanes, rows * m - first)
            read_tile(raw, element, count, m, n_parameters, parameters)
            value = part_of(x, element, count)
            result, log = tile(value, parameters, searched, other, n_bins, inverse, numbers)
            store_between(y, element, 0, count, result)
            store(logs, first, log)
        sum_rows(logs, rows, m, logdet, row)


@kernel
def tile(
    value: Any, raw: Any, searched: Any, other: Any, n_bins: Any, inverse: Any, numbers: Any
) -> Any:
    """Return y(x) and log dy/dx of one tile, or x(y) and log dx/dy."""
    bound, zero, size = spread(numbers, BOUND), fill(raw, 0.0), larger(-value, value)
    inside = where_less(bound, size, zero, value)
    place, _, (_, _, width_or_height, _, _), (end, end_low, scale, scale_low) = segment_of(
        inside, raw, searched, other, n_bins, inverse, numbers
    )
    _, t, s, d0, d1, _, _ = place
    rest = 1.0 - t
    a = t * rest
    inverse_d = reciprocal(fma(d0 - s + (d1 - s), a, s))
    ratio = s * inverse_d
    slope = ratio * ratio * fma(d1 * t, t, fma(2.0 * s, a, d0 * rest * rest))
    log = logarithm(slope)
    share = t
    if inverse:
        log = -log
    else:
        share = fma(s * t, t, d0 * a) * inverse_d
    found = end + fma(width_or_height, share, end_low)
    length = reciprocal(scale)
    result = found * length
    result = fma(fma(-result, scale, found) - result * scale_low, length, result)
    return where_less(bound, size, value, result), where_less(bound, size, zero, log)
