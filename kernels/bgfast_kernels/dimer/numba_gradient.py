"""Energy and gradient of the dimer in solvent on blocks of samples, lanes = samples.

``numbers`` holds the constants in the order of the indices below; all lengths are scaled by
``SCALE``, a power of two. ``at k * lanes`` of a block stands coordinate k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from bgfast_kernels import cpu
from bgfast_kernels.blocks import (
    fetch_ahead,
    fold_far,
    new_block,
    read_block,
    scale_block,
    write_block,
)
from bgfast_kernels.simd import (
    fma,
    lanes_in,
    larger,
    load,
    reciprocal,
    root,
    smaller,
    spread,
    store,
)

SCALE, K_D, D0, A, B, C, L, K_BOX, STRENGTH, S_CORE, S_MIN, FAR = range(12)

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a kernel; LLVM may fuse a multiplication and an addition, nothing else."""
    return cast(F, cpu.jit(function, fastmath={"contract"}))


@kernel
def energy_grad_rows(
    start: Any, stop: Any, x: Any, numbers: Any, dim: Any, u: Any, grad: Any
) -> None:
    """Write ``u[row]`` and row ``row`` of the flat ``grad`` for ``start <= row < stop``."""
    lanes = lanes_in(x)
    xs, g = new_block(x, dim), new_block(x, dim)
    slope, scratch = new_block(x, dim), new_block(x, dim)
    energy = new_block(x, 1)
    for row in range(start, stop, lanes):
        rows = min(lanes, stop - row)
        read_block(x, row, rows, dim, scratch, xs)
        far = fold_far(xs, slope, numbers[SCALE], dim)
        store(energy, 0, gradient(xs, g, numbers, dim, (x, grad, row)))
        add_cores(xs, energy, numbers, dim)
        if far:
            for k in range(dim * lanes):
                g[k] *= slope[k]
        for r in range(rows):
            u[row + r] = energy[r]
        write_block(g, grad, row, rows, dim, scratch)


@kernel
def gradient(x: Any, g: Any, numbers: Any, dim: Any, ahead: Any) -> Any:
    """Set ``g`` to the gradient in the user's unit of length and return the energies."""
    e = pairs(x, g, numbers, dim, ahead)
    e = e + walls(x, g, numbers, dim)
    e = e + restraint(x, g, numbers)
    e = e + dimer(x, g, numbers)
    scale_block(g, numbers[SCALE], dim)
    return e


@kernel
def pairs(x: Any, g: Any, numbers: Any, dim: Any, ahead: Any) -> Any:
    """Set ``g`` to the sum of r^-14 (x_i - x_j) and return the energy of all pairs.

    A pair within the core counts with its energy at the core radius; :func:`add_cores` adds the
    rest. Meanwhile the next block is fetched from memory, see :func:`fetch_ahead`.
    """
    lanes = lanes_in(x)
    s_core = spread(numbers, S_CORE)
    zero = 0.0 * s_core
    for k in range(0, dim * lanes, lanes):
        store(g, k, zero)
    total = zero
    for i in range(0, dim * lanes, 2 * lanes):
        xi, yi = load(x, i), load(x, i + lanes)
        gx, gy = load(g, i), load(g, i + lanes)
        e = zero
        fetch_ahead(ahead, dim, i)
        first = i + 2 * lanes if i > 0 else 4 * lanes  # not the dimer's own pair
        for j in range(first, dim * lanes, 2 * lanes):
            dx, dy = xi - load(x, j), yi - load(x, j + lanes)
            inverse = reciprocal(larger(s_core, fma(dx, dx, dy * dy)))
            inverse_2 = inverse * inverse
            inverse_6 = inverse_2 * inverse_2 * inverse_2
            w = inverse_6 * inverse
            e = e + inverse_6
            gx, gy = fma(w, dx, gx), fma(w, dy, gy)
            store(g, j, fma(-w, dx, load(g, j)))
            store(g, j + lanes, fma(-w, dy, load(g, j + lanes)))
        store(g, i, gx)
        store(g, i + lanes, gy)
        total = total + e
    return total * numbers[STRENGTH]


@kernel
def walls(x: Any, g: Any, numbers: Any, dim: Any) -> Any:
    """Turn the pair sums ``g`` into a gradient, add the soft walls' and return their energy."""
    lanes = lanes_in(x)
    l = spread(numbers, L)  # noqa: E741
    pair_factor = -12.0 * spread(numbers, STRENGTH)
    wall_factor = 2.0 * spread(numbers, K_BOX)
    e = 0.0 * l
    for k in range(0, dim * lanes, lanes):
        xk = load(x, k)
        beyond = xk - smaller(l, larger(-l, xk))
        store(g, k, fma(wall_factor, beyond, pair_factor * load(g, k)))
        e = fma(beyond, beyond, e)
    return e * numbers[K_BOX]


@kernel
def restraint(x: Any, g: Any, numbers: Any) -> Any:
    """Add the gradient of the centre and alignment restraint and return its energy."""
    lanes = lanes_in(x)
    y1, y2 = load(x, lanes), load(x, 3 * lanes)
    centre = load(x, 0) + load(x, 2 * lanes)
    factor = 2.0 * spread(numbers, K_D)
    add(g, 0, factor * centre)
    add(g, lanes, factor * y1)
    add(g, 2 * lanes, factor * centre)
    add(g, 3 * lanes, factor * y2)
    return fma(centre, centre, fma(y1, y1, y2 * y2)) * numbers[K_D]


@kernel
def dimer(x: Any, g: Any, numbers: Any) -> Any:
    """Add the gradient of the dimer's own term and return its energy."""
    lanes = lanes_in(x)
    a, b, c = numbers[A], numbers[B], numbers[C]
    dx, dy = load(x, 0) - load(x, 2 * lanes), load(x, lanes) - load(x, 3 * lanes)
    s = fma(dx, dx, dy * dy)
    guarded = larger(spread(numbers, S_MIN), s)
    d = root(guarded)
    inverse = 1.0 / d
    q = d + 0.5 * (s - guarded) * inverse - numbers[D0]
    w = (c + q * (a * (q * q) - b)) * inverse
    add(g, 0, w * dx)
    add(g, lanes, w * dy)
    add(g, 2 * lanes, -w * dx)
    add(g, 3 * lanes, -w * dy)
    return q * (c + q * (0.25 * a * (q * q) - 0.5 * b))


@kernel
def add(g: Any, k: Any, term: Any) -> None:
    """Add a vector to a block."""
    store(g, k, load(g, k) + term)


@kernel
def add_cores(x: Any, energy: Any, numbers: Any, dim: Any) -> None:
    """Add to the energies what :func:`pairs` left out within the core: 6 (s_c - s) / s_c^7."""
    lanes = lanes_in(x)
    s_core, strength = numbers[S_CORE], numbers[STRENGTH]
    energy_at_core = strength * s_core**-6
    for r in range(lanes):
        if energy[r] > 0.5 * energy_at_core:
            missing = 0.0
            for i in range(r, dim * lanes, 2 * lanes):
                first = i + 2 * lanes if i > r else r + 4 * lanes
                for j in range(first, dim * lanes, 2 * lanes):
                    dx, dy = x[i] - x[j], x[i + lanes] - x[j + lanes]
                    missing += max(0.0, 1.0 - (dx * dx + dy * dy) / s_core)
            energy[r] += 6.0 * energy_at_core * missing
