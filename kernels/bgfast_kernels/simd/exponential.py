"""Exponential functions of vectors, a few units in the last place, NaN kept.

x = k ln 2 + r with integral k and |r| <= ln 2 / 2; expm1(r) is its Taylor series, which is short
enough here to need no fitted polynomial, and expm1(x) = 2^k expm1(r) + (2^k - 1).
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

# ln 2 in two parts, so that k times the first is exact (Cody and Waite, 1980).
_LN2 = {
    32: (0.693359375, -2.12194440e-4),
    64: (6.93147180369123816490e-01, 1.90821492927058770e-10),
}
# Degree at which the series stops: the next term is below half a unit in the last place of r.
_DEGREE = {32: 8, 64: 14}
# (bits of the mantissa, exponent bias)
_FORMAT = {32: (23, 127), 64: (52, 1023)}


@intrinsic  # type: ignore[untyped-decorator]
def exp(typing_context: Any, a: Any) -> Any:
    """Return the exponential of a vector; |a| must be below 80."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        scale, series = _reduced(builder, values[0])
        return _call(builder, "llvm.fmuladd", scale, series, scale)

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def expm1(typing_context: Any, a: Any) -> Any:
    """Return exp(a) - 1 of a vector without loss near 0; |a| must be below 80."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        scale, series = _reduced(builder, values[0])
        shifted = builder.fsub(scale, _constant(scale.type, 1.0))
        return _call(builder, "llvm.fmuladd", scale, series, shifted)

    return a(a), emit


def _reduced(builder: Any, x: Any) -> tuple[Any, Any]:
    """Emit 2^k and expm1(r)."""
    kind = x.type
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    k = _call(builder, "llvm.rint", builder.fmul(x, _constant(kind, 1.0 / math.log(2.0))))
    r = x
    for part in _LN2[bits]:
        r = _call(builder, "llvm.fmuladd", k, _constant(kind, -part), r)
    series = _constant(kind, 1.0 / math.factorial(_DEGREE[bits]))
    for degree in range(_DEGREE[bits] - 1, 0, -1):
        coefficient = _constant(kind, 1.0 / math.factorial(degree))
        series = _call(builder, "llvm.fmuladd", series, r, coefficient)
    series = builder.fmul(series, r)
    mantissa, bias = _FORMAT[bits]
    integers = ir.VectorType(ir.IntType(bits), kind.count)
    biased = builder.fptosi(builder.fadd(k, _constant(kind, float(bias))), integers)
    shift = ir.Constant(integers, [mantissa] * kind.count)
    return builder.bitcast(builder.shl(biased, shift), kind), series


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _call(builder: Any, name: str, *values: Any) -> Any:
    kind = values[0].type
    element = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(kind, [kind] * len(values))
    function = cgutils.get_or_insert_function(
        builder.module, signature, f"{name}.v{kind.count}{element}"
    )
    return builder.call(function, values)
