"""Random numbers inside kernels: SFC64, one independent stream per row.

The generator, its seeding and the ziggurat for normals are those of NumPy, and the tests compare
them with ``numpy.random.Generator(numpy.random.SFC64(...))``: integers and uniforms bit for bit,
normals to rounding of the ziggurat's tables. The state of a stream is four uint64, so a run stops
and continues exactly.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu

_TAIL = 3.6541528853610088  # where the lowest layer's edge meets the tail
_AREA = 0.004928673233974655  # of every layer
_TO_UNIT = 1.0 / 2.0**53


def streams(seed: int, n: int, first: int = 0) -> NDArray[np.uint64]:
    """Return the states of the streams ``first ... first + n - 1`` of a seed.

    Stream i depends on ``(seed, i)`` alone: it is that of ``SFC64(SeedSequence(seed,
    spawn_key=(i,)))``, the i-th child a fresh ``SeedSequence(seed)`` spawns.

    Parameters
    ----------
    seed
        A non-negative integer.
    n
        Number of streams.
    first
        Index of the first one.

    Returns
    -------
    NDArray
        States, uint64, shape ``[n, 4]``.

    Raises
    ------
    ValueError
        If ``seed`` is not a non-negative integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    states = np.empty((n, 4), np.uint64)
    for i in range(n):
        sequence = np.random.SeedSequence(int(seed), spawn_key=(first + i,))
        state: Any = np.random.SFC64(sequence).state
        states[i] = state["state"]["state"]
    return states


@functools.cache
def ziggurat_tables() -> NDArray[np.float64]:
    """Return the tables of the 256-layer ziggurat, read-only, shape ``[256, 4]``.

    Columns: k, below which a 52-bit integer is accepted at once; w, the width of one unit of that
    integer; f = exp(-x^2 / 2) at the layer's edge x; f of the layer before. Marsaglia and Tsang,
    J. Stat. Softw. 5, 8 (2000), with the tail and area of NumPy's tables.
    """
    table = np.zeros((256, 4))
    edge, top = _TAIL, math.exp(-0.5 * _TAIL**2)
    table[0, :3] = math.floor(edge * top / _AREA * 2.0**52), _AREA / top / 2.0**52, 1.0
    table[255, 1:3] = edge / 2.0**52, top
    for i in range(254, 0, -1):
        inner = math.sqrt(-2.0 * math.log(_AREA / edge + top))
        top = math.exp(-0.5 * inner**2)
        table[i + 1, 0] = math.floor(inner / edge * 2.0**52)
        table[i, 1:3] = inner / 2.0**52, top
        edge = inner
    table[1:, 3] = table[:-1, 2]
    table.setflags(write=False)
    return table


@cpu.jit(inline="always")
def next_uint64(state):  # type: ignore[no-untyped-def]
    """Advance ``state[4]`` and return 64 random bits."""
    out = state[0] + state[1] + state[3]
    state[3] += np.uint64(1)
    state[0] = state[1] ^ (state[1] >> np.uint64(11))
    state[1] = state[2] + (state[2] << np.uint64(3))
    state[2] = ((state[2] << np.uint64(24)) | (state[2] >> np.uint64(40))) + out
    return out


@cpu.jit(inline="always")
def next_double(state):  # type: ignore[no-untyped-def]
    """Return a uniform number in [0, 1) with 53 random bits."""
    return np.float64(next_uint64(state) >> np.uint64(11)) * _TO_UNIT


@cpu.jit
def _finish_normal(state, tables, layer, bits, x):  # type: ignore[no-untyped-def]
    """Decide on a draw the ziggurat did not accept at once; returns ``(accepted, x)``."""
    if layer == 0:
        while True:
            beyond = -math.log1p(-next_double(state)) / _TAIL
            height = -math.log1p(-next_double(state))
            if height + height > beyond * beyond:
                negative = (bits >> np.uint64(8)) & np.uint64(1)
                return True, -(_TAIL + beyond) if negative else _TAIL + beyond
    f, f_before = tables[layer, 2], tables[layer, 3]
    return f + (f_before - f) * next_double(state) < math.exp(-0.5 * x * x), x


@cpu.jit
def fill_normal(state, tables, out):  # type: ignore[no-untyped-def]
    """Fill ``out[n]`` with standard normal numbers; ``tables`` is :func:`ziggurat_tables`."""
    # The state lives in registers; it goes through memory only where a draw is not accepted at
    # once (1.2 %).
    a, b, c, count = state[0], state[1], state[2], state[3]
    i = 0
    while i < out.size:
        r = a + b + count
        count += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + r

        layer = np.intp(r & np.uint64(0xFF))
        bits = np.int64((r >> np.uint64(9)) & np.uint64(0xFFFFFFFFFFFFF))
        magnitude = np.float64(bits)
        sign = np.float64(np.int64(1) - np.int64((r >> np.uint64(7)) & np.uint64(2)))
        x = sign * (magnitude * tables[layer, 1])
        accepted = magnitude < tables[layer, 0]
        if not accepted:
            state[0], state[1], state[2], state[3] = a, b, c, count
            accepted, x = _finish_normal(state, tables, layer, np.uint64(bits), x)
            a, b, c, count = state[0], state[1], state[2], state[3]
        if accepted:
            out[i] = x
            i += 1
    state[0], state[1], state[2], state[3] = a, b, c, count


@cpu.jit
def fill_uniform(state, out):  # type: ignore[no-untyped-def]
    """Fill ``out[n]`` with uniform numbers in [0, 1)."""
    for i in range(out.size):
        out[i] = next_double(state)
