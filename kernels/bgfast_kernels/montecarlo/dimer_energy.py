"""The dimer in a repulsive fluid, for Monte Carlo: its energy and the change by one particle.

Parameters are ``(eps, sigma, k_d, d0, a, b, c, l, k_box)``. The formula, its continuation at short
distance and the far map are those of the op ``dimer``; here a configuration is one row, float64,
and a SIMD vector holds eight pairs of it.
"""

from __future__ import annotations

import math

import numpy as np

from bgfast_kernels import cpu, simd
from bgfast_kernels.dimer.parameters import CORE, D_MIN, X_FAR
from bgfast_kernels.montecarlo.scalar import far_map

LANES = 8
_CORE = CORE**2  # of (r / sigma)^2
_CORE_SLOPE = -6.0 / _CORE**7
_PAD = 1e9  # in sigma: so far away that a pair with it adds nothing to any sum
_CONSTANTS = np.array([0.0, _CORE, _PAD**2, 0.5])


@cpu.jit
def padded(n):  # type: ignore[no-untyped-def]
    """Return ``n`` rounded up to whole SIMD vectors."""
    return (n + LANES - 1) // LANES * LANES


@cpu.jit
def scratch_size(n):  # type: ignore[no-untyped-def]
    """Return the length of the scratch array :func:`energy` needs for ``n`` particles."""
    return 4 * padded(n) + 2 * (n // 2) + LANES


@cpu.jit
def distance(x):  # type: ignore[no-untyped-def]
    """Return d = |x1 - x2|."""
    return math.sqrt((x[0] - x[2]) ** 2 + (x[1] - x[3]) ** 2)


@cpu.jit
def wall(p, x, y):  # type: ignore[no-untyped-def]
    """Return the wall energy of one particle."""
    out_x = max(abs(x) - p[7], 0.0)
    out_y = max(abs(y) - p[7], 0.0)
    return p[8] * (out_x * out_x + out_y * out_y)


@cpu.jit
def bond(p, x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    """Return the dimer's restraint and double well."""
    d = math.sqrt((x1 - x2) ** 2 + (y1 - y2) ** 2)
    if d < D_MIN:
        d = D_MIN + (d * d - D_MIN * D_MIN) / (2.0 * D_MIN)
    stretch = d - p[3]
    square = stretch * stretch
    restraint = p[2] * ((x1 + x2) ** 2 + y1 * y1 + y2 * y2)
    return restraint + (0.25 * p[4] * square - 0.5 * p[5]) * square + p[6] * stretch


@cpu.jit
def _any_beyond(x, bound):  # type: ignore[no-untyped-def]
    beyond = 0
    for i in range(x.size):
        beyond |= abs(x[i]) > bound
    return beyond != 0


@cpu.jit(fastmath={"reassoc", "contract"})
def _walls(x, half_width):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(x.size):
        out = max(abs(x[i]) - half_width, 0.0)
        total += out * out
    return total


@cpu.jit
def energy(x, p, limit, scratch):  # type: ignore[no-untyped-def]
    """Return u(x), or a number above ``limit`` once u(x) is certain to exceed it.

    Pairs are taken at fixed distance m in a cyclic order of the particles, so that every loop runs
    over whole SIMD vectors. The dimer's particles stand opposite each other in that order: the pair
    to leave out is the first one at the largest m.
    """
    if _any_beyond(x, X_FAR):
        return _plain_energy(x, p)
    u = bond(p, x[0], x[1], x[2], x[3]) + p[8] * _walls(x, p[7])
    if u > limit and p[0] >= 0.0:
        return u

    n = x.size // 2
    half = n // 2
    width = padded(n)
    head_x, head_y, ring_x, ring_y = _cyclic_order(x, p[1], scratch)
    nearest = simd.spread(_CONSTANTS, 2)
    total = simd.spread(_CONSTANTS, 0)
    for first in range(0, width, LANES):
        x1, y1 = simd.load(head_x, first), simd.load(head_y, first)
        for m in range(1, half):
            dx = x1 - simd.load(ring_x, first + m)
            dy = y1 - simd.load(ring_y, first + m)
            s = simd.fma(dx, dx, dy * dy)
            nearest = simd.smaller(nearest, s)
            cube = simd.reciprocal(s * s * s)
            total = simd.fma(cube, cube, total)

    # At the largest m an even n meets every pair twice.
    head_x[0] = _PAD
    weight = 1.0
    if n % 2 == 0:
        head_x[half] = _PAD
        weight = 0.5
    last = simd.spread(_CONSTANTS, 0)
    for first in range(0, width, LANES):
        dx = simd.load(head_x, first) - simd.load(ring_x, first + half)
        dy = simd.load(head_y, first) - simd.load(ring_y, first + half)
        s = simd.fma(dx, dx, dy * dy)
        nearest = simd.smaller(nearest, s)
        cube = simd.reciprocal(s * s * s)
        last = simd.fma(cube, cube, last)

    if simd.any_less(nearest, simd.spread(_CONSTANTS, 1)):
        return _plain_energy(x, p)
    return u + p[0] * _sum(total + last * weight, scratch)


@cpu.jit
def _cyclic_order(x, sigma, scratch):  # type: ignore[no-untyped-def]
    """Write coordinates in units of sigma: once padded, once repeated; views of ``scratch``."""
    n = x.size // 2
    half = n // 2
    width = padded(n)
    head_x, head_y = scratch[LANES : LANES + width], scratch[LANES + width : LANES + 2 * width]
    rings = scratch[LANES + 2 * width :]
    ring_x, ring_y = rings[: width + half], rings[width + half : 2 * (width + half)]
    scale = 1.0 / sigma
    ring_x[0], ring_y[0] = scale * x[0], scale * x[1]
    ring_x[half], ring_y[half] = scale * x[2], scale * x[3]
    for k in range(2, half + 1):
        ring_x[k - 1], ring_y[k - 1] = scale * x[2 * k], scale * x[2 * k + 1]
    for k in range(half + 1, n):
        ring_x[k], ring_y[k] = scale * x[2 * k], scale * x[2 * k + 1]
    for i in range(n):
        head_x[i], head_y[i] = ring_x[i], ring_y[i]
    for i in range(n, width):
        head_x[i], head_y[i] = _PAD, _PAD
    for i in range(n, width + half):
        ring_x[i], ring_y[i] = ring_x[i - n], ring_y[i - n]
    return head_x, head_y, ring_x, ring_y


@cpu.jit
def _sum(vector, scratch):  # type: ignore[no-untyped-def]
    simd.store(scratch, 0, vector)
    low = (scratch[0] + scratch[1]) + (scratch[2] + scratch[3])
    return low + ((scratch[4] + scratch[5]) + (scratch[6] + scratch[7]))


@cpu.jit
def _pair(x1, y1, x2, y2, sigma):  # type: ignore[no-untyped-def]
    """Return (sigma / r)^12, linear in r^2 below the core radius."""
    s = ((x1 - x2) / sigma) ** 2 + ((y1 - y2) / sigma) ** 2
    t = max(s, _CORE)
    return t**-6 + _CORE_SLOPE * min(s - _CORE, 0.0)


@cpu.jit
def _plain_energy(x, p):  # type: ignore[no-untyped-def]
    """Return u(x) of a configuration with particles on top of each other, or far out."""
    u = bond(p, far_map(x[0]), far_map(x[1]), far_map(x[2]), far_map(x[3]))
    for j in range(x.size // 2):
        xj, yj = far_map(x[2 * j]), far_map(x[2 * j + 1])
        u += wall(p, xj, yj)
        for i in range(j if j > 1 else 0):
            u += p[0] * _pair(far_map(x[2 * i]), far_map(x[2 * i + 1]), xj, yj, p[1])
    return u


@cpu.jit
def load_particles(x, sigma, q):  # type: ignore[no-untyped-def]
    """Fill ``q[4, width]``: far-mapped x, y in units of sigma, padded; particle index; scratch."""
    n = x.size // 2
    q[:2] = _PAD
    for k in range(n):
        q[0, k], q[1, k] = far_map(x[2 * k]) / sigma, far_map(x[2 * k + 1]) / sigma
    for j in range(q.shape[1]):
        q[2, j] = j


@cpu.jit
def pair_change(k, partner, new_x, new_y, q):  # type: ignore[no-untyped-def]
    """Return the change of sum_j (sigma / r_kj)^12 when particle ``k`` moves.

    Parameters
    ----------
    k, partner
        The particle, and the one it does not repel (``k`` itself if there is none).
    new_x, new_y
        Its new place, in units of sigma.
    q
        See :func:`load_particles`.
    """
    old_x, old_y = simd.spread(q[0], k), simd.spread(q[1], k)
    half, far = simd.spread(_CONSTANTS, 3), simd.spread(_CONSTANTS, 2)
    nearest = far
    total = simd.spread(_CONSTANTS, 0)
    for first in range(0, q.shape[1], LANES):
        qx, qy, index = simd.load(q[0], first), simd.load(q[1], first), simd.load(q[2], first)
        apart = (index - k) * (index - partner)
        apart = apart * apart
        dx, dy = qx - new_x, qy - new_y
        s = simd.where_less(apart, half, far, simd.fma(dx, dx, dy * dy))
        dx, dy = qx - old_x, qy - old_y
        r = simd.where_less(apart, half, far, simd.fma(dx, dx, dy * dy))
        nearest = simd.smaller(nearest, simd.smaller(r, s))
        s3, r3 = s * s * s, r * r * r
        # (sigma / s)^12 - (sigma / r)^12 = (1/s3 - 1/r3) (1/s3 + 1/r3), with one reciprocal.
        inverse = simd.reciprocal(s3 * r3)
        total = simd.fma((r3 - s3) * inverse, (r3 + s3) * inverse, total)
    if simd.any_less(nearest, simd.spread(_CONSTANTS, 1)):
        return _change_with_core(k, partner, new_x, new_y, q)
    return _sum(total, q[3])


@cpu.jit
def _change_with_core(k, partner, new_x, new_y, q):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(q.shape[1]):
        if j not in (k, partner):
            total += _pair(new_x, new_y, q[0, j], q[1, j], 1.0)
            total -= _pair(q[0, k], q[1, k], q[0, j], q[1, j], 1.0)
    return total
