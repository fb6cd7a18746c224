"""Hessian-vector product of the dimer in solvent on blocks of samples, lanes = samples."""

from __future__ import annotations

import math
from typing import Any

from bgfast_kernels.blocks import (
    fetch_ahead,
    fold_far,
    new_block,
    read_block,
    scale_block,
    write_block,
)
from bgfast_kernels.dimer.numba_gradient import (
    D0,
    K_BOX,
    K_D,
    S_CORE,
    S_MIN,
    SCALE,
    STRENGTH,
    A,
    B,
    C,
    L,
    add,
    gradient,
    kernel,
)
from bgfast_kernels.dimer.parameters import X_FAR
from bgfast_kernels.simd import (
    fma,
    lanes_in,
    larger,
    load,
    reciprocal,
    root,
    spread,
    store,
    where_less,
)


@kernel
def hvp_rows(start: Any, stop: Any, x: Any, v: Any, numbers: Any, dim: Any, out: Any) -> None:
    """Write row ``row`` of the flat ``out``, Hessian times v, for ``start <= row < stop``.

    With x replaced by phi(x) the Hessian is phi' H phi' + diag(g phi''), phi'' = -sign(x) phi'^2
    / X_FAR beyond X_FAR and 0 elsewhere.
    """
    lanes = lanes_in(x)
    xs, vs, h = new_block(x, dim), new_block(x, dim), new_block(x, dim)
    g, slope, scratch = new_block(x, dim), new_block(x, dim), new_block(x, dim)
    for row in range(start, stop, lanes):
        rows = min(lanes, stop - row)
        read_block(x, row, rows, dim, scratch, xs)
        read_block(v, row, rows, dim, scratch, vs)
        far = fold_far(xs, slope, numbers[SCALE], dim)
        if far:
            gradient(xs, g, numbers, dim, (x, out, row))
            for k in range(dim * lanes):
                if slope[k] != 1.0:
                    g[k] *= -math.copysign(slope[k] * slope[k] / X_FAR, xs[k]) * vs[k]
                    vs[k] *= slope[k]
        hessian_product(xs, vs, h, numbers, dim, (x, v, out, row))
        if far:
            for k in range(dim * lanes):
                if slope[k] != 1.0:
                    h[k] = slope[k] * h[k] + g[k]
        write_block(h, out, row, rows, dim, scratch)


@kernel
def hessian_product(x: Any, v: Any, h: Any, numbers: Any, dim: Any, ahead: Any) -> None:
    """Set ``h`` to the Hessian at the scaled ``x`` times ``v``, in the user's unit of length."""
    pairs(x, v, h, numbers, dim, ahead)
    walls(x, v, h, numbers, dim)
    restraint(v, h, numbers)
    dimer(x, v, h, numbers)
    scale_block(h, numbers[SCALE] * numbers[SCALE], dim)


@kernel
def pairs(x: Any, v: Any, h: Any, numbers: Any, dim: Any, ahead: Any) -> None:
    """Set ``h`` to the sum of s^-7 (v_i - v_j) - 14 s^-8 ((v_i - v_j) . r) r, r = x_i - x_j.

    The second part vanishes within the core, where the energy is linear in s = r^2.
    """
    lanes = lanes_in(x)
    s_core = spread(numbers, S_CORE)
    zero = 0.0 * s_core
    for k in range(0, dim * lanes, lanes):
        store(h, k, zero)
    for i in range(0, dim * lanes, 2 * lanes):
        xi, yi = load(x, i), load(x, i + lanes)
        vxi, vyi = load(v, i), load(v, i + lanes)
        hx, hy = load(h, i), load(h, i + lanes)
        fetch_ahead((ahead[0], ahead[2], ahead[3]), dim, i)
        fetch_ahead((ahead[1], ahead[2], ahead[3]), dim, i)
        first = i + 2 * lanes if i > 0 else 4 * lanes  # not the dimer's own pair
        for j in range(first, dim * lanes, 2 * lanes):
            dx, dy = xi - load(x, j), yi - load(x, j + lanes)
            wx, wy = vxi - load(v, j), vyi - load(v, j + lanes)
            s = fma(dx, dx, dy * dy)
            inverse = reciprocal(larger(s_core, s))
            inverse_2 = inverse * inverse
            inverse_7 = inverse_2 * inverse_2 * inverse_2 * inverse
            bend = where_less(s, s_core, zero, -14.0 * inverse)
            along = bend * fma(dx, wx, dy * wy)
            tx, ty = fma(along, dx, wx), fma(along, dy, wy)
            hx, hy = fma(inverse_7, tx, hx), fma(inverse_7, ty, hy)
            store(h, j, fma(-inverse_7, tx, load(h, j)))
            store(h, j + lanes, fma(-inverse_7, ty, load(h, j + lanes)))
        store(h, i, hx)
        store(h, i + lanes, hy)


@kernel
def walls(x: Any, v: Any, h: Any, numbers: Any, dim: Any) -> None:
    """Turn the pair sums ``h`` into a Hessian product and add the soft walls'."""
    lanes = lanes_in(x)
    l = spread(numbers, L)  # noqa: E741
    pair_factor = -12.0 * spread(numbers, STRENGTH)
    wall_factor = 2.0 * spread(numbers, K_BOX)
    for k in range(0, dim * lanes, lanes):
        xk = load(x, k)
        stiffness = where_less(l, larger(-xk, xk), wall_factor, 0.0 * l)
        store(h, k, fma(stiffness, load(v, k), pair_factor * load(h, k)))


@kernel
def restraint(v: Any, h: Any, numbers: Any) -> None:
    """Add the product with the Hessian of the centre and alignment restraint."""
    lanes = lanes_in(v)
    factor = 2.0 * spread(numbers, K_D)
    centre = factor * (load(v, 0) + load(v, 2 * lanes))
    add(h, 0, centre)
    add(h, lanes, factor * load(v, lanes))
    add(h, 2 * lanes, centre)
    add(h, 3 * lanes, factor * load(v, 3 * lanes))


@kernel
def dimer(x: Any, v: Any, h: Any, numbers: Any) -> None:
    """Add the product with the Hessian of the dimer's own term.

    With f(q) the term, r = x1 - x2, w = v1 - v2: f'/d w + (f''/d^2 - f'/d^3) (r . w) r, where the
    last summand vanishes below D_MIN (d^2 is linear in d there).
    """
    lanes = lanes_in(x)
    a, b, c = numbers[A], numbers[B], numbers[C]
    dx, dy = load(x, 0) - load(x, 2 * lanes), load(x, lanes) - load(x, 3 * lanes)
    wx, wy = load(v, 0) - load(v, 2 * lanes), load(v, lanes) - load(v, 3 * lanes)
    s = fma(dx, dx, dy * dy)
    s_min = spread(numbers, S_MIN)
    guarded = larger(s_min, s)
    d = root(guarded)
    inverse = 1.0 / d
    q = d + 0.5 * (s - guarded) * inverse - numbers[D0]
    w = (c + q * (a * (q * q) - b)) * inverse
    curvature = 3.0 * a * (q * q) - b - where_less(s, s_min, 0.0 * s_min, w)
    along = curvature * inverse * inverse * fma(dx, wx, dy * wy)
    tx, ty = fma(along, dx, w * wx), fma(along, dy, w * wy)
    add(h, 0, tx)
    add(h, lanes, ty)
    add(h, 2 * lanes, -tx)
    add(h, 3 * lanes, -ty)
