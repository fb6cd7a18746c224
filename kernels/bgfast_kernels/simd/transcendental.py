"""Exponentials and logarithms of vectors, to two or three units in the last place; tanh to five.

The series are the textbook ones, cut where the next term is below the rounding error; there is no
table and no call, so they stay in registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bgfast_kernels.simd.arithmetic import _call, quotient

# ln 2 in two parts, so that the first times an exponent is exact (Cody and Waite, 1980).
_LN2 = {
    True: (0.693359375, -2.12194440e-4),  # float32
    False: (6.93147180369123816490e-01, 1.90821492927058770e-10),
}


@intrinsic  # type: ignore[untyped-decorator]
def exp(typing_context: Any, a: Any) -> Any:
    """Return the exponential of a vector; at least about the smallest normal number.

    ``a`` must be at most 88, in float64 709.
    """
    single = a.dtype == types.float32
    lowest = -87.0 if single else -708.0

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        bound = _constant(x, lowest)
        x = builder.select(builder.fcmp_ordered("<", x, bound), bound, x)
        power, r, series = _reduced(builder, x, 7 if single else 13)
        return builder.fmul(_fma(builder, r, series, _constant(x, 1.0)), power)

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def tanh(typing_context: Any, a: Any) -> Any:
    """Return the hyperbolic tangent of a vector.

    ``e / (e + 2)`` with ``e = exp(2 a) - 1 = 2^k 2^r - 1`` and |r| <= 1/2. That 2 / ln 2 is rounded
    does no harm: it changes a by a rounding error, and far from 0 tanh is flat. Sums are in an
    order that keeps chains short, as kernels evaluate few vectors at a time. In float32 the
    quotient, too, is short, and what should be 1 may be one unit less.
    """
    single = a.dtype == types.float32
    end, degree = (10.0, 6) if single else (20.0, 12)  # tanh is 1 there; the next term no digit

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        for bound, operator in ((end, "<"), (-end, ">")):
            limit = _constant(x, bound)
            x = builder.select(builder.fcmp_ordered(operator, limit, x), limit, x)
        scale, magic = _constant(x, 2 / math.log(2)), _magic(x)
        shifted = _fma(builder, x, scale, magic)
        r = _fma(builder, x, scale, builder.fneg(builder.fsub(shifted, magic)))
        power = _power(builder, shifted)
        terms = [math.log(2) ** n / math.factorial(n) for n in range(1, degree + 2)]
        series = _polynomial_in_pairs(builder, r, terms)
        above_one = builder.fsub(power, _constant(x, 1.0))
        e = _fma(builder, builder.fmul(power, r), series, above_one)
        below = builder.fadd(e, _constant(x, 2.0))
        return quotient(context, builder, e, below) if single else builder.fdiv(e, below)

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def logarithm(typing_context: Any, a: Any) -> Any:
    """Return ``log(a)`` of positive normal numbers; NaN stays.

    ``log(2^n m) = n log 2 + 2 artanh(s)``, s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)).
    """
    single = a.dtype == types.float32
    digits = 23 if single else 52
    root_half = 0x3F3504F3 if single else 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
    high, low = _LN2[single]
    terms = 4 if single else 10

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        bits = _integers(builder, x)
        from_root = builder.sub(bits, _constant(bits, root_half))
        exponent = builder.ashr(from_root, _constant(bits, digits))
        mantissa = builder.and_(from_root, _constant(bits, 2**digits - 1))
        m = builder.bitcast(builder.add(mantissa, _constant(bits, root_half)), x.type)
        n = builder.sitofp(exponent, x.type)
        f = builder.fsub(m, _constant(x, 1.0))
        s = builder.fdiv(f, builder.fadd(m, _constant(x, 1.0)))
        # 2 artanh(s) = f - s f + 2 (s^3 / 3 + ...): f is exact, the rest is small.
        square = builder.fmul(s, s)
        tail = _polynomial(builder, square, [2 / (2 * k + 1) for k in range(1, terms + 1)])
        rest = builder.fmul(s, _fma(builder, square, tail, builder.fneg(f)))
        value = builder.fadd(f, _fma(builder, n, _constant(x, low), rest))
        value = _fma(builder, n, _constant(x, high), value)
        return builder.fadd(value, builder.fsub(x, x))  # x - x is NaN if x is

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def log_one_plus(typing_context: Any, a: Any) -> Any:
    """Return ``log(1 + a)`` for ``0 <= a <= 1``, accurate relative to ``a``; NaN stays.

    ``2 artanh(s)`` with s = a / (2 + a) <= 1/3.
    """
    terms = 8 if a.dtype == types.float32 else 17

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        s = builder.fdiv(x, builder.fadd(x, _constant(x, 2.0)))
        series = [2 / (2 * k + 1) for k in range(terms)]
        return builder.fmul(s, _polynomial(builder, builder.fmul(s, s), series))

    return a(a), emit


def _reduced(builder: Any, x: Any, degree: int) -> tuple[Any, Any, Any]:
    """Emit 2^k, r and expm1(r) / r, where x = k ln 2 + r with integral k and |r| <= ln 2 / 2.

    Adding the magic number rounds to k and leaves k + bias in the lowest bits. ``degree`` is that
    of the series of expm1.
    """
    single = isinstance(x.type.element, ir.FloatType)
    magic = _magic(x)
    shifted = _fma(builder, x, _constant(x, 1 / math.log(2)), magic)
    k = builder.fsub(shifted, magic)
    r = x
    for part in _LN2[single]:
        r = _fma(builder, k, _constant(x, -part), r)
    series = [1 / math.factorial(n) for n in range(1, degree + 1)]
    return _power(builder, shifted), r, _polynomial(builder, r, series)


def _magic(x: Any) -> Any:
    """Return a number whose unit in the last place is 1 and whose lowest bits are the bias."""
    single = isinstance(x.type.element, ir.FloatType)
    return _constant(x, 1.5 * 2.0**23 + 127 if single else 1.5 * 2.0**52 + 1023)


def _power(builder: Any, shifted: Any) -> Any:
    """Emit 2^k from the sum of k and :func:`_magic`."""
    bits = _integers(builder, shifted)
    digits = 23 if isinstance(shifted.type.element, ir.FloatType) else 52
    return builder.bitcast(builder.shl(bits, _constant(bits, digits)), shifted.type)


def _polynomial(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Evaluate ``sum_k coefficients[k] x^k`` by Horner's rule."""
    value = _constant(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = _fma(builder, value, x, _constant(x, coefficient))
    return value


def _polynomial_in_pairs(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Evaluate the same by Estrin's scheme: pairs of terms, then pairs of pairs."""
    terms = [_constant(x, coefficient) for coefficient in coefficients]
    while len(terms) > 1:
        pairs = [_fma(builder, x, b, a) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        x = builder.fmul(x, x)
    return terms[0]


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fmuladd", [a, b, c])


def _integers(builder: Any, x: Any) -> Any:
    """Return the bits of a vector as integers of the same width."""
    width = 32 if isinstance(x.type.element, ir.FloatType) else 64
    return builder.bitcast(x, ir.VectorType(ir.IntType(width), x.type.count))


def _constant(like: Any, value: float) -> Any:
    return ir.Constant(like.type, [value] * like.type.count)
