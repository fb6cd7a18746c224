"""Arithmetic on vectors, lane by lane."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, type_callable

from bgfast_kernels.simd.lanes import Lanes, shuffle_mask, splat

Emit = Callable[..., Any]


def larger(a: Any, b: Any) -> Any:
    """Return the lane-wise maximum; a lane where ``b`` is NaN is NaN."""


def smaller(a: Any, b: Any) -> Any:
    """Return the lane-wise minimum; a lane where ``b`` is NaN is NaN."""


def _teach(function: Any, emit: Emit) -> None:
    """Teach numba ``function(a, b)`` where one or both are vectors; a number is spread."""

    @type_callable(function)  # type: ignore[untyped-decorator]
    def typing(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            for lanes, other in ((a, b), (b, a)):
                if isinstance(lanes, Lanes) and (other == lanes or isinstance(other, types.Number)):
                    return lanes
            return None

        return typer

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lanes = signature.return_type
        vectors = [
            value
            if kind == lanes
            else splat(context, builder, lanes, context.cast(builder, value, kind, lanes.dtype))
            for value, kind in zip(values, signature.args, strict=True)
        ]
        return emit(builder, *vectors)

    for kinds in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(function, *kinds)(lower)


_teach(operator.add, lambda builder, a, b: builder.fadd(a, b))
_teach(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_teach(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_teach(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
_teach(larger, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
_teach(smaller, lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@type_callable(operator.neg)  # type: ignore[untyped-decorator]
def _type_negative(context: Any) -> Any:
    return lambda a: a if isinstance(a, Lanes) else None


@lower_builtin(operator.neg, Lanes)  # type: ignore[untyped-decorator]
def _lower_negative(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return _negative(builder, values[0])


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c`` of three vectors, rounded once where the machine has an instruction."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, "llvm.fmuladd", values)

    return a(a, a, a), emit


@intrinsic  # type: ignore[untyped-decorator]
def root(typing_context: Any, a: Any) -> Any:
    """Return the square root of a vector."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, "llvm.sqrt", values)

    return a(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def reciprocal(typing_context: Any, a: Any) -> Any:
    """Return ``1 / a`` to about one unit in the last place; ``a`` must be a normal number or NaN.

    With AVX-512: the 14-bit estimate y and, with e = 1 - a y, the series y (1 + e), in float64
    y (1 + e) (1 + e^2). Elsewhere: the division.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return quotient(context, builder, None, values[0])

    return a(a), emit


def quotient(context: Any, builder: Any, a: Any, b: Any) -> Any:
    """Emit ``a / b``, or ``1 / b`` for no ``a``, with :func:`reciprocal`'s series."""
    one = ir.Constant(b.type, [1.0] * b.type.count)
    if "+avx512f" not in context.codegen().magic_tuple()[2]:
        return builder.fdiv(one if a is None else a, b)
    single = isinstance(b.type.element, ir.FloatType)
    y = _estimate(builder, b, "ps" if single else "pd")
    e = _call(builder, "llvm.fma", [_negative(builder, b), y, one])
    y = y if a is None else builder.fmul(a, y)
    y = _call(builder, "llvm.fma", [y, e, y])
    return y if single else _call(builder, "llvm.fma", [y, builder.fmul(e, e), y])


@intrinsic  # type: ignore[untyped-decorator]
def where_less(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return ``x`` in the lanes where ``a < b``, else ``y``; all are vectors."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", values[0], values[1]), *values[2:])

    return a(a, a, a, a), emit


@intrinsic  # type: ignore[untyped-decorator]
def where_at_most(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return ``x`` in the lanes where ``a <= b``, else (also for NaN) ``y``; all are vectors."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<=", values[0], values[1]), *values[2:])

    return a(a, a, a, a), emit


@intrinsic  # type: ignore[untyped-decorator]
def any_less(typing_context: Any, a: Any, b: Any) -> Any:
    """Return whether ``a < b`` in any lane of two vectors."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        mask = builder.bitcast(builder.fcmp_ordered("<", *values), ir.IntType(a.count))
        return builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))

    return types.boolean(a, a), emit


@intrinsic  # type: ignore[untyped-decorator]
def lane_sum(typing_context: Any, a: Any) -> Any:
    """Return the sum of a vector's lanes, added in pairs."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (x,) = values
        while x.type.count > 1:
            half = x.type.count // 2
            low, high = (shuffle_mask(range(start, start + half)) for start in (0, half))
            undefined = ir.Constant(x.type, ir.Undefined)
            first = builder.shuffle_vector(x, undefined, low)
            x = builder.fadd(first, builder.shuffle_vector(x, undefined, high))
        return builder.extract_element(x, ir.Constant(ir.IntType(32), 0))

    return a.dtype(a), emit


@intrinsic  # type: ignore[untyped-decorator]
def lane_sums(typing_context: Any, vectors: Any) -> Any:
    """Return a vector whose lane i is the sum of the lanes of vector i, added in pairs.

    ``vectors`` is a tuple of as many as one of them has lanes.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows = [builder.extract_value(values[0], i) for i in range(vectors.count)]
        return sums_of_lanes(builder, rows)

    return vectors.dtype(vectors), emit


def sums_of_lanes(builder: Any, rows: Sequence[Any]) -> Any:
    """Emit :func:`lane_sums` of vectors.

    The last ones may be ``None``: their lanes are undefined.
    """
    while len(rows) > 1:
        rows = [
            _merged(builder, a, b, len(rows)) for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _merged(builder: Any, a: Any, b: Any, n_rows: int) -> Any:
    """Emit a vector in which half as many numbers make each row's sum; ``None`` if of none.

    The shuffles are those that processors have instructions for: first numbers of two vectors come
    side by side in each quarter of a register, then quarters of two vectors do.
    """
    if a is None:
        return None
    count = a.type.count
    quarter = count // 4
    if n_rows > 4:
        width, apart = count // n_rows, quarter // 2
        starts = [k + at for k in range(0, count, quarter) for at in range(0, apart, width)]
        low = [k + i for at in starts for k in (at, count + at) for i in range(width)]
    else:
        apart = quarter
        starts = [0, 2 * quarter, count, count + 2 * quarter]
        low = [at + i for at in starts for i in range(quarter)]
    b = ir.Constant(a.type, ir.Undefined) if b is None else b
    halves = ([k + by for k in low] for by in (0, apart))
    return builder.fadd(*(builder.shuffle_vector(a, b, shuffle_mask(m)) for m in halves))


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def where_bit(typing_context: Any, bit: Any, a: Any, b: Any) -> Any:
    """Return ``a`` in the lanes whose number has a bit, a literal such as 2, set, else ``b``."""
    chosen = bit.literal_value

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        mask = ir.Constant(
            ir.VectorType(ir.IntType(1), a.count), [bool(k & chosen) for k in range(a.count)]
        )
        return builder.select(mask, *values[1:])

    return a(bit, a, a), emit


def _call(builder: Any, name: str, values: Sequence[Any]) -> Any:
    kind = values[0].type
    element = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(kind, [kind] * len(values))
    function = cgutils.get_or_insert_function(
        builder.module, signature, f"{name}.v{kind.count}{element}"
    )
    return builder.call(function, values)


def _estimate(builder: Any, x: Any, suffix: str) -> Any:
    mask = ir.IntType(x.type.count)
    signature = ir.FunctionType(x.type, [x.type, x.type, mask])
    name = f"llvm.x86.avx512.rcp14.{suffix}.512"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(
        function, [x, ir.Constant(x.type, ir.Undefined), ir.Constant(mask, 2**x.type.count - 1)]
    )


def _negative(builder: Any, x: Any) -> Any:
    return builder.fsub(ir.Constant(x.type, [-0.0] * x.type.count), x)
