"""All gradients of the spline in one pass over rows; see ``spline_rows`` for the notation.

For the map itself, the loss changes with y and with l = log dy/dx; ``g_y`` and ``g_l`` are these
derivatives. For the inverse x(y), log dx/dy = -l, and by the implicit function theorem a change of
the loss with (x, -l) is one with y of -(g_x - g_l dl/dx) / (dy/dx) at fixed parameters: the same
formulas serve both directions, evaluated at x. There t is solved for again: a rounded x holds less
about it than y does where the spline is steep.
"""

from __future__ import annotations

from typing import Any

from bgfast_kernels.blocks import new_block
from bgfast_kernels.coupling.spline_bins import BOUND, kernel
from bgfast_kernels.coupling.spline_segment import segment_of
from bgfast_kernels.coupling.tiles import of_rows, part_of, read_tile, write_tile
from bgfast_kernels.simd import (
    fill,
    fma,
    lanes_in,
    larger,
    load,
    reciprocal,
    spread,
    store,
    store_between,
    where_less,
)


@kernel
def gradient_rows(
    start: Any,
    stop: Any,
    x: Any,
    raw: Any,
    grad_value: Any,
    grad_logdet: Any,
    m: Any,
    n_bins: Any,
    inverse: Any,
    numbers: Any,
    grad_input: Any,
    grad_raw: Any,
) -> None:
    """Write rows ``start <= row < stop`` of the flat ``grad_input`` and ``grad_raw``."""
    lanes = lanes_in(x)
    n_parameters = 3 * n_bins - 1
    parameters = new_block(x, n_parameters + 1)  # the last, 0, is the raw slope at the end
    searched, other = new_block(x, 3 * n_bins), new_block(x, 3 * n_bins)
    scratch = new_block(x, 1)
    end = stop * m
    for element in range(start * m, end, lanes):
        count = min(lanes, end - element)
        read_tile(raw, element, count, m, n_parameters, parameters)
        g = gradient_tile(
            part_of(x, element, count),
            part_of(grad_value, element, count),
            of_rows(grad_logdet, element, count, m, scratch),
            parameters,
            searched,
            other,
            n_bins,
            inverse,
            numbers,
        )
        store_between(grad_input, element, 0, count, g)
        write_tile(parameters, grad_raw, element, count, m, n_parameters)


@kernel
def gradient_tile(
    x: Any,
    g_value: Any,
    g_l: Any,
    raw: Any,
    searched: Any,
    other: Any,
    n_bins: Any,
    inverse: Any,
    numbers: Any,
) -> Any:
    """Replace the raw numbers of one tile by their gradients and return that of the input."""
    bound, zero, size = spread(numbers, BOUND), fill(raw, 0.0), larger(-x, x)
    inside = where_less(bound, size, zero, x)
    place, of_searched, of_other, _ = segment_of(
        inside, raw, searched, other, n_bins, inverse, numbers
    )
    k, t, s, d0, d1, d0_of_raw, d1_of_raw = place
    if inverse:
        widths, heights, of_widths, of_heights = other, searched, of_other, of_searched
    else:
        widths, heights, of_widths, of_heights = searched, other, of_searched, of_other
    _, _, w, _, w_scale = of_widths
    _, _, h, _, h_scale = of_heights
    inverse_w, inverse_h = w_scale * reciprocal(w), h_scale * reciprocal(h)

    rest = 1.0 - t
    a, e0, e1 = t * rest, d0 - s, d1 - s
    bend = e0 + e1
    of_left, of_right = d0 * rest * rest, d1 * t * t
    inverse_d = reciprocal(fma(bend, a, s))
    m = fma(2.0 * s, a, of_left + of_right)
    inverse_m = reciprocal(m)
    f, above = fma(s * t, t, d0 * a) * inverse_d, fma(s * rest, rest, d1 * a) * inverse_d
    # Derivatives of l at fixed knots: by t, log s, d0, d1.
    l_t = 2.0 * (fma(e1, t, -e0 * rest) * inverse_m - bend * (rest - t) * inverse_d)
    l_log_s = 2.0 * a * fma(s, inverse_m, (d0 + d1) * inverse_d)
    l_d0 = rest * rest * inverse_m - 2.0 * a * inverse_d
    l_d1 = t * t * inverse_m - 2.0 * a * inverse_d

    ratio = s * inverse_d
    slope = ratio * ratio * m
    # y_k moves y; x_k moves what x does, the other way round.
    if inverse:
        g_l = -g_l
        g_x = fma(g_l * l_t, inverse_w, g_value) * reciprocal(slope)
        g_y, g_knot = -g_x, g_value
    else:
        g_x = fma(g_l * l_t, inverse_w, g_value * slope)
        g_y, g_knot = g_value, -g_x
    g_x = where_less(bound, size, g_value, g_x)
    # Outside the interval nothing depends on the parameters.
    g_y, g_l = where_less(bound, size, zero, g_y), where_less(bound, size, zero, g_l)
    g_knot = where_less(bound, size, zero, g_knot)

    # y = y_k + h f; 1 - f is `above`.
    g_f = g_y * h * reciprocal(h_scale) * a * inverse_d
    g_log_s = fma(g_f * ratio, of_right - of_left, g_l * l_log_s)
    g_d0 = fma(g_f, above, g_l * l_d0) * d0_of_raw
    g_d1 = fma(-g_f, f, g_l * l_d1) * d1_of_raw
    # w and h move s, and what lies below them.
    of_w, of_h = g_log_s * inverse_w, g_log_s * inverse_h
    g_w, w_gap = fma(g_knot, t, -of_w), fma(g_knot, rest, of_w)
    g_h, h_gap = fma(g_y, f, of_h), fma(g_y, above, -of_h)
    softmax_gradient(raw, 0, widths, n_bins, k, (g_knot, g_w, w_gap), of_widths)
    softmax_gradient(raw, n_bins, heights, n_bins, k, (g_y, g_h, h_gap), of_heights)
    lanes = lanes_in(raw)
    for j in range(n_bins - 1):  # the right knot of bin j, the left one of bin j + 1
        gap = k - j
        left_or_none = where_less(gap, fill(raw, 1.5), g_d0, zero)
        g = where_less(gap, fill(raw, 0.5), g_d1, left_or_none)
        store(raw, (2 * n_bins + j) * lanes, where_less(gap, fill(raw, -0.5), zero, g))
    return g_x


@kernel
def softmax_gradient(
    raw: Any,
    first: Any,
    weights: Any,
    n_bins: Any,
    k: Any,
    by_size: Any,
    segment: Any,
) -> None:
    """Replace K raw numbers by their gradients.

    ``by_size`` holds the derivatives by the width of each bin before bin ``k``, by its own, and
    their difference. The softmax is ``weights / total``; of the gradients, each the difference of
    such a derivative and the mean over the softmax, none is computed by subtracting the mean, which
    near the ends of the interval would leave little.
    """
    lanes = lanes_in(raw)
    zero = fill(raw, 0.0)
    g_before, g_bin, gap = by_size
    before, own, _, total, scale = segment
    share = reciprocal(total)
    before, own = where_less(k, fill(raw, 0.5), zero, before * share), own * share
    after = where_less(fill(raw, n_bins - 1.5), k, zero, 1.0 - before - own)
    length = reciprocal(scale)
    g_after = -length * fma(before, g_before, own * g_bin)
    g_bin = length * fma(after, g_bin, -before * gap)
    g_before = length * fma(after, g_before, own * gap)
    for j in range(n_bins):
        number = fill(raw, j)
        g = where_less(k, number, g_after, where_less(number, k, g_before, g_bin))
        store(raw, (first + j) * lanes, load(weights, 3 * j * lanes) * g)
