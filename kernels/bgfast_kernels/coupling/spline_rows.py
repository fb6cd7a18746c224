"""The spline on ranges of rows: values, log-derivatives and all gradients; lanes are elements.

Within a bin of lower knot (x_k, y_k), width w, height h, slopes d0 and d1 at its knots, with
s = h / w, t = (x - x_k) / w and a = t (1 - t) (Gregory & Delbourgo 1982; Durkan et al. 2019)::

    y = y_k + h f,                f = (s t^2 + d0 a) / D,  D = s + (d0 + d1 - 2 s) a
    dy/dx = (s / D)^2 M,          M = d1 t^2 + 2 s a + d0 (1 - t)^2
"""

from __future__ import annotations

from typing import Any

from bgfast_kernels.blocks import new_block
from bgfast_kernels.coupling.spline_bins import (
    BOUND,
    REST,
    exponentials,
    find_bin,
    kernel,
    knot_of,
    slope_of,
)
from bgfast_kernels.coupling.tiles import part_of, read_tile, sum_rows
from bgfast_kernels.simd import (
    fill,
    fma,
    lanes_in,
    larger,
    logarithm,
    reciprocal,
    root,
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
    parameters = new_block(x, n_parameters)
    widths, heights = new_block(x, n_bins), new_block(x, n_bins)
    logs = new_block(x, m)
    for row in range(start, stop, lanes):
        rows = min(lanes, stop - row)
        for first in range(0, rows * m, lanes):
            element, count = row * m + first, min(lanes, rows * m - first)
            read_tile(raw, element, count, m, n_parameters, parameters)
            value = part_of(x, element, count)
            if inverse:
                result, log = inverse_tile(value, parameters, widths, heights, n_bins, numbers)
            else:
                result, log = forward_tile(value, parameters, widths, heights, n_bins, numbers)
            store_between(y, element, 0, count, result)
            store(logs, first, log)
        sum_rows(logs, rows, m, logdet, row)


@kernel
def forward_tile(x: Any, raw: Any, widths: Any, heights: Any, n_bins: Any, numbers: Any) -> Any:
    """Return y(x) and log dy/dx of one tile."""
    width_scale = numbers[REST] * reciprocal(exponentials(raw, 0, n_bins, widths))
    height_scale = numbers[REST] * reciprocal(exponentials(raw, n_bins, n_bins, heights))
    bound, zero, size = spread(numbers, BOUND), fill(raw, 0.0), larger(-x, x)
    inside = where_less(bound, size, zero, x)
    k, w_before, w_weight, h_before, h_weight, left, right = find_bin(
        inside, raw, widths, width_scale, heights, n_bins, numbers
    )
    x_k, w = knot_of(k, w_before, w_weight, width_scale, numbers)
    y_k, h = knot_of(k, h_before, h_weight, height_scale, numbers)
    d0, _ = slope_of(left, numbers)
    d1, _ = slope_of(right, numbers)
    inverse_w = reciprocal(w)
    s, t = h * inverse_w, (inside - x_k) * inverse_w
    a = t * (1.0 - t)
    inverse_d = reciprocal(fma(d0 + d1 - 2.0 * s, a, s))
    y = fma(h * inverse_d, fma(s * t, t, d0 * a), y_k)
    log = log_derivative(s, t, a, d0, d1, inverse_d)
    return where_less(bound, size, x, y), where_less(bound, size, zero, log)


@kernel
def inverse_tile(y: Any, raw: Any, widths: Any, heights: Any, n_bins: Any, numbers: Any) -> Any:
    """Return x(y) and log dx/dy of one tile.

    With e = (y - y_k) / h, t solves A t^2 + B t = s e, A = s - d0 + e (d0 + d1 - 2 s) and
    B = d0 - e (d0 + d1 - 2 s). Of the two ways to write the root the one that does not subtract
    nearly equal numbers is taken; where B < 0, A > s.
    """
    width_scale = numbers[REST] * reciprocal(exponentials(raw, 0, n_bins, widths))
    height_scale = numbers[REST] * reciprocal(exponentials(raw, n_bins, n_bins, heights))
    bound, zero, size = spread(numbers, BOUND), fill(raw, 0.0), larger(-y, y)
    inside = where_less(bound, size, zero, y)
    k, h_before, h_weight, w_before, w_weight, left, right = find_bin(
        inside, raw, heights, height_scale, widths, n_bins, numbers
    )
    x_k, w = knot_of(k, w_before, w_weight, width_scale, numbers)
    y_k, h = knot_of(k, h_before, h_weight, height_scale, numbers)
    d0, _ = slope_of(left, numbers)
    d1, _ = slope_of(right, numbers)
    s, e = h * reciprocal(w), (inside - y_k) * reciprocal(h)
    bend = d0 + d1 - 2.0 * s
    quadratic, linear = fma(e, bend, s - d0), d0 - e * bend
    product = 2.0 * s * e
    discriminant = fma(linear, linear, 2.0 * quadratic * product)
    size_linear = larger(-linear, linear)
    q = size_linear + root(larger(zero, discriminant))
    t = where_less(linear, zero, q, product) / where_less(linear, zero, 2.0 * quadratic, q)
    a = t * (1.0 - t)
    x = fma(w, t, x_k)
    log = -log_derivative(s, t, a, d0, d1, reciprocal(fma(bend, a, s)))
    return where_less(bound, size, y, x), where_less(bound, size, zero, log)


@kernel
def log_derivative(s: Any, t: Any, a: Any, d0: Any, d1: Any, inverse_d: Any) -> Any:
    """Return log dy/dx."""
    rest = 1.0 - t
    m = fma(d1 * t, t, fma(2.0 * s, a, d0 * rest * rest))
    ratio = s * inverse_d
    return logarithm(ratio * ratio * m)
