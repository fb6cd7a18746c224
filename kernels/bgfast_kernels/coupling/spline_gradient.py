"""All gradients of the spline in one pass over rows; see ``spline_rows`` for the notation.

For the map itself, the loss changes with y and with l = log dy/dx; ``g_y`` and ``g_l`` are these
derivatives. For the inverse x(y), log dx/dy = -l, and by the implicit function theorem a change of
the loss with (x, -l) is one with y of -(g_x - g_l dl/dx) / (dy/dx) at fixed parameters: the same
formulas serve both directions, evaluated at x.
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
    parameters = new_block(x, n_parameters)
    widths, heights = new_block(x, n_bins), new_block(x, n_bins)
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
            widths,
            heights,
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
    widths: Any,
    heights: Any,
    n_bins: Any,
    inverse: Any,
    numbers: Any,
) -> Any:
    """Replace the raw numbers of one tile by their gradients and return that of the input."""
    width_share = reciprocal(exponentials(raw, 0, n_bins, widths))
    height_share = reciprocal(exponentials(raw, n_bins, n_bins, heights))
    width_scale, height_scale = numbers[REST] * width_share, numbers[REST] * height_share
    bound, zero, size = spread(numbers, BOUND), fill(raw, 0.0), larger(-x, x)
    inside = where_less(bound, size, zero, x)
    k, w_before, w_weight, h_before, h_weight, left, right = find_bin(
        inside, raw, widths, width_scale, heights, n_bins, numbers
    )
    x_k, w = knot_of(k, w_before, w_weight, width_scale, numbers)
    _, h = knot_of(k, h_before, h_weight, height_scale, numbers)
    d0, d0_of_raw = slope_of(left, numbers)
    d1, d1_of_raw = slope_of(right, numbers)

    inverse_w = reciprocal(w)
    s, t = h * inverse_w, (inside - x_k) * inverse_w
    rest = 1.0 - t
    a, a_t = t * rest, rest - t
    bend = d0 + d1 - 2.0 * s
    d_s = 1.0 - 2.0 * a
    inverse_d = reciprocal(fma(bend, a, s))
    f = fma(s * t, t, d0 * a) * inverse_d
    m = fma(d1 * t, t, fma(2.0 * s, a, d0 * rest * rest))
    inverse_m = reciprocal(m)
    # Derivatives of l at fixed knots: by t, s, d0, d1.
    l_t = 2.0 * (fma(d1, t, s * a_t - d0 * rest) * inverse_m - bend * a_t * inverse_d)
    l_s = 2.0 * (w * reciprocal(h) + a * inverse_m - d_s * inverse_d)
    l_d0 = rest * rest * inverse_m - 2.0 * a * inverse_d
    l_d1 = t * t * inverse_m - 2.0 * a * inverse_d

    ratio = s * inverse_d
    slope = ratio * ratio * m
    g_y, g_x = g_value, g_value * slope
    if inverse:
        g_l = -g_l
        g_x = fma(g_l * l_t, inverse_w, g_value) * reciprocal(slope)
        g_y = -g_x
    else:
        g_x = fma(g_l * l_t, inverse_w, g_x)
    g_x = where_less(bound, size, g_value, g_x)
    # Outside the interval nothing depends on the parameters.
    g_y, g_l = where_less(bound, size, zero, g_y), where_less(bound, size, zero, g_l)

    g_f = g_y * h
    g_s = fma(g_f * inverse_d, t * t - f * d_s, g_l * l_s)
    g_d0 = fma(g_f * inverse_d, a * (1.0 - f), g_l * l_d0) * d0_of_raw
    g_d1 = fma(-g_f * inverse_d, a * f, g_l * l_d1) * d1_of_raw
    # y_k moves y; x_k moves t, by -1 / w; w moves t and s.
    g_knot = -fma(g_l * l_t, inverse_w, g_y * slope)
    g_h = fma(g_s, inverse_w, g_y * f)
    g_w = fma(g_knot, t, -g_s * s * inverse_w)
    of_widths = (g_knot, g_w, w_before, w_weight, width_share)
    softmax_gradient(raw, 0, widths, n_bins, k, of_widths, numbers)
    of_heights = (g_y, g_h, h_before, h_weight, height_share)
    softmax_gradient(raw, n_bins, heights, n_bins, k, of_heights, numbers)
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
    found: Any,
    numbers: Any,
) -> None:
    """Replace K raw numbers by their gradients.

    ``found`` holds the derivative by the width of each bin before bin ``k`` and that by its own,
    the sum of the exponentials before bin ``k`` and its own, and ``share``: ``weights * share`` is
    the softmax.
    """
    lanes = lanes_in(raw)
    g_before, g_bin, before, weight, share = found
    scale = numbers[REST] * share
    mean = fma(before, g_before, weight * g_bin) * share
    g_before, g_bin, g_after = scale * (g_before - mean), scale * (g_bin - mean), -scale * mean
    for j in range(n_bins):
        number = fill(raw, j)
        g = where_less(k, number, g_after, where_less(number, k, g_before, g_bin))
        store(raw, (first + j) * lanes, load(weights, j * lanes) * g)
