"""The loop over all pairs on blocks of samples, lanes = samples, for any potential.

``numbers`` holds the constants in the order of the indices below; lengths are scaled by ``SCALE``,
a power of two. At ``k * lanes`` of a block stands coordinate k.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from bgfast_kernels import cpu
from bgfast_kernels.blocks import (
    fetch_ahead,
    fold_far,
    new_block,
    read_block,
    scale_block,
    write_block,
)
from bgfast_kernels.continuation import X_FAR
from bgfast_kernels.pair.parameters import POTENTIALS
from bgfast_kernels.pair.potential import Potential, derivatives, straight_line
from bgfast_kernels.simd import (
    fma,
    lanes_in,
    larger,
    load,
    reciprocal,
    spread,
    store,
    where_less,
)

SCALE, SIGMA_2, S_CORE, CORE_SLOPE, ENERGY, GRADIENT, BEND, TRAP = range(8)


def terms(potential: Potential, first: str, second: str) -> Callable[..., Any]:
    """Compile ``t -> (first, second)``, two of ``value``, ``slope`` and ``curvature``."""
    d = derivatives(potential)
    lines = straight_line({name: getattr(d, name) for name in (first, second)}, "{!r}")
    name = f"{potential.name}_{first}_and_{second}"
    body = "".join(f"    {target} = {expression}\n" for target, expression in lines)
    source = f"def {name}(t):\n{body}    return {first}, {second}\n"
    space: dict[str, Any] = {"__name__": potential.u.__module__}  # numba's cache imports it
    exec(compile(source, inspect.getfile(potential.u), "exec"), space)
    return _jit(space[name], name)


def _jit(function: Callable[..., Any], key: str) -> Callable[..., Any]:
    """Compile; LLVM may fuse a multiplication and an addition, nothing else."""
    compiled: Callable[..., Any] = cpu.jit(function, key=key, fastmath={"contract"})
    return compiled


@functools.cache
def rows_kernels(name: str, n_dim: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the kernels of a potential for ``cpu.parallel_rows``.

    The first writes ``u[row]`` and row ``row`` of the flat ``grad``, the second row ``row`` of the
    flat ``out``, the Hessian times v.
    """
    value_and_slope = terms(POTENTIALS[name], "value", "slope")
    slope_and_curvature = terms(POTENTIALS[name], "slope", "curvature")
    three = n_dim == 3
    key = f"{name}-{n_dim}d"

    def pairs(x: Any, g: Any, numbers: Any, dim: Any, ahead: Any) -> Any:
        """Set ``g`` to the pairs' gradient and return their energy, in the kernel's unit.

        Meanwhile the next block is fetched from memory, see :func:`fetch_ahead`.
        """
        lanes = lanes_in(x)
        s_core, sigma_2 = spread(numbers, S_CORE), spread(numbers, SIGMA_2)
        core_slope = spread(numbers, CORE_SLOPE)
        total = 0.0 * s_core
        step = n_dim * lanes
        for k in range(0, dim * lanes, lanes):
            store(g, k, 0.0 * s_core)
        for i in range(0, dim * lanes, step):
            xi, yi, zi = load(x, i), load(x, i + lanes), load(x, i + step - lanes)
            gx, gy, gz = load(g, i), load(g, i + lanes), load(g, i + step - lanes)
            e = 0.0 * s_core
            fetch_ahead(ahead, dim, i)
            if three:
                fetch_ahead(ahead, dim, i + lanes)
            for j in range(i + step, dim * lanes, step):
                dx, dy = xi - load(x, j), yi - load(x, j + lanes)
                dz = zi - load(x, j + step - lanes)
                s = fma(dx, dx, dy * dy)
                if three:
                    s = fma(dz, dz, s)
                guarded = larger(s_core, s)
                value, slope = value_and_slope(sigma_2 * reciprocal(guarded))
                e = fma(core_slope, s - guarded, e + value)
                gx, gy = fma(slope, dx, gx), fma(slope, dy, gy)
                store(g, j, fma(-slope, dx, load(g, j)))
                store(g, j + lanes, fma(-slope, dy, load(g, j + lanes)))
                if three:
                    gz = fma(slope, dz, gz)
                    store(g, j + 2 * lanes, fma(-slope, dz, load(g, j + 2 * lanes)))
            store(g, i, gx)
            store(g, i + lanes, gy)
            if three:
                store(g, i + 2 * lanes, gz)
            total = total + e
        return total * numbers[ENERGY]

    def hessian_pairs(x: Any, v: Any, h: Any, numbers: Any, dim: Any) -> None:
        """Set ``h`` to the pairs' sum of u' w + 2 u'' (w . r) r, w = v_i - v_j, r = x_i - x_j.

        The second part vanishes within the core, where the energy is linear in s = r^2.
        """
        lanes = lanes_in(x)
        s_core, sigma_2 = spread(numbers, S_CORE), spread(numbers, SIGMA_2)
        bend, zero = spread(numbers, BEND), 0.0 * s_core
        step = n_dim * lanes
        for k in range(0, dim * lanes, lanes):
            store(h, k, zero)
        for i in range(0, dim * lanes, step):
            xi, yi, zi = load(x, i), load(x, i + lanes), load(x, i + step - lanes)
            vxi, vyi, vzi = load(v, i), load(v, i + lanes), load(v, i + step - lanes)
            hx, hy, hz = load(h, i), load(h, i + lanes), load(h, i + step - lanes)
            for j in range(i + step, dim * lanes, step):
                dx, dy = xi - load(x, j), yi - load(x, j + lanes)
                wx, wy = vxi - load(v, j), vyi - load(v, j + lanes)
                dz, wz = zi - load(x, j + step - lanes), vzi - load(v, j + step - lanes)
                s, dot = fma(dx, dx, dy * dy), fma(dx, wx, dy * wy)
                if three:
                    s, dot = fma(dz, dz, s), fma(dz, wz, dot)
                t = sigma_2 * reciprocal(larger(s_core, s))
                slope, curvature = slope_and_curvature(t)
                along = where_less(s, s_core, zero, bend) * curvature * dot
                tx, ty = fma(along, dx, slope * wx), fma(along, dy, slope * wy)
                hx, hy = hx + tx, hy + ty
                store(h, j, load(h, j) - tx)
                store(h, j + lanes, load(h, j + lanes) - ty)
                if three:
                    tz = fma(along, dz, slope * wz)
                    hz = hz + tz
                    store(h, j + 2 * lanes, load(h, j + 2 * lanes) - tz)
            store(h, i, hx)
            store(h, i + lanes, hy)
            if three:
                store(h, i + 2 * lanes, hz)

    def trap(x: Any, g: Any, numbers: Any, dim: Any) -> Any:
        """Multiply ``g`` by ``GRADIENT``, add the trap's gradient and return its energy."""
        lanes = lanes_in(x)
        factor, k_trap = spread(numbers, GRADIENT), spread(numbers, TRAP)
        total = 0.0 * k_trap
        for axis in range(0, n_dim * lanes, lanes):
            centre = 0.0 * k_trap
            for k in range(axis, dim * lanes, n_dim * lanes):
                centre = centre + load(x, k)
            centre = centre * (n_dim / dim)
            for k in range(axis, dim * lanes, n_dim * lanes):
                off = load(x, k) - centre
                store(g, k, fma(k_trap, off, factor * load(g, k)))
                total = fma(off, off, total)
        return total * (0.5 * numbers[TRAP])

    pairs, hessian_pairs, trap = (_jit(f, key) for f in (pairs, hessian_pairs, trap))

    def energy_grad_rows(
        start: Any, stop: Any, x: Any, numbers: Any, dim: Any, u: Any, grad: Any
    ) -> None:
        lanes = lanes_in(x)
        xs, g = new_block(x, dim), new_block(x, dim)
        slope, scratch = new_block(x, dim), new_block(x, dim)
        energy = new_block(x, 1)
        scale = numbers[SCALE]
        for row in range(start, stop, lanes):
            rows = min(lanes, stop - row)
            read_block(x, row, rows, dim, scratch, xs)
            far = fold_far(xs, slope, scale, dim)
            e = pairs(xs, g, numbers, dim, (x, grad, row))
            store(energy, 0, e + trap(xs, g, numbers, dim))
            scale_block(g, scale, dim)
            if far:
                for k in range(dim * lanes):
                    g[k] *= slope[k]
            for r in range(rows):
                u[row + r] = energy[r]
            write_block(g, grad, row, rows, dim, scratch)

    def hvp_rows(start: Any, stop: Any, x: Any, v: Any, numbers: Any, dim: Any, out: Any) -> None:
        """With x replaced by phi(x) the Hessian is phi' H phi' + diag(g phi'').

        phi'' = -sign(x) phi'^2 / X_FAR beyond X_FAR and 0 elsewhere.
        """
        lanes = lanes_in(x)
        xs, vs, h = new_block(x, dim), new_block(x, dim), new_block(x, dim)
        g, slope, scratch = new_block(x, dim), new_block(x, dim), new_block(x, dim)
        scale = numbers[SCALE]
        for row in range(start, stop, lanes):
            rows = min(lanes, stop - row)
            read_block(x, row, rows, dim, scratch, xs)
            read_block(v, row, rows, dim, scratch, vs)
            far = fold_far(xs, slope, scale, dim)
            if far:
                pairs(xs, g, numbers, dim, (x, out, row))
                trap(xs, g, numbers, dim)
                for k in range(dim * lanes):
                    if slope[k] != 1.0:
                        bend = -math.copysign(slope[k] * slope[k] / X_FAR, xs[k])
                        g[k] *= scale * bend * vs[k]
                        vs[k] *= slope[k]
            hessian_pairs(xs, vs, h, numbers, dim)
            trap(vs, h, numbers, dim)  # quadratic: its Hessian product is its gradient at v
            scale_block(h, scale * scale, dim)
            if far:
                for k in range(dim * lanes):
                    if slope[k] != 1.0:
                        h[k] = slope[k] * h[k] + g[k]
            write_block(h, out, row, rows, dim, scratch)

    return _jit(energy_grad_rows, key), _jit(hvp_rows, key)
