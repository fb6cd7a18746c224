"""Activations of vectors."""

from __future__ import annotations

from typing import Any

from bgfast_kernels import simd
from bgfast_kernels.compiling import jit
from bgfast_kernels.network import memory

RELU, TANH = 0, 1
KINDS = {"relu": RELU, "tanh": TANH}

# Where the approximations reach 1. tanh is 1 - 1e-4 at the first, a fortieth of what bfloat16 tells
# from 1, and 1 - 5e-7 at the second.
_END, _BETTER_END = 4.971_786_8, 7.622_339_8


@jit(inline="always")  # type: ignore[untyped-decorator]
def activated(kind: int, parts: int, x: Any) -> Any:
    """Return tanh(x) or max(0, x), as good as so many parts can hold."""
    if kind == RELU:
        y = simd.larger(memory.fill(0), x)
    elif parts == 1:
        y = _tanh(x)
    elif parts == 2:
        y = _better_tanh(x)
    else:
        y = simd.tanh(x)
    return y


@jit(inline="always")  # type: ignore[untyped-decorator]
def derivative(kind: int, y: Any) -> Any:
    """Return the derivative of the activation whose result is y."""
    zero, one = memory.fill(0), memory.fill(1)
    return simd.fma(-y, y, one) if kind == TANH else simd.where_less(zero, y, one, zero)


@jit(inline="always")  # type: ignore[untyped-decorator]
def _tanh(x: Any) -> Any:
    """Return tanh(x) to 1e-4, to 1e-6 below |x| = 3.

    The seventh convergent of Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))).
    """
    x = simd.larger(-_END, simd.smaller(_END, x))
    t = x * x
    last = memory.fill(135135)
    p = simd.fma(simd.fma(t + 378.0, t, memory.fill(17325)), t, last)
    q = simd.fma(28.0 * t + 3150.0, t, memory.fill(62370))
    return x * p * simd.reciprocal(simd.fma(q, t, last))


@jit(inline="always")  # type: ignore[untyped-decorator]
def _better_tanh(x: Any) -> Any:
    """Return tanh(x) to 6e-7: the eleventh convergent."""
    x = simd.larger(-_BETTER_END, simd.smaller(_BETTER_END, x))
    t = x * x
    last = memory.fill(13749310575)
    p = simd.fma(t + 2145.0, t, memory.fill(675675))
    p = simd.fma(simd.fma(p, t, memory.fill(64324260)), t, memory.fill(1964187225))
    q = simd.fma(66.0 * t + 45045.0, t, memory.fill(7567560))
    q = simd.fma(simd.fma(q, t, memory.fill(413513100)), t, memory.fill(6547290750))
    return x * simd.fma(p, t, last) * simd.reciprocal(simd.fma(q, t, last))
