"""Vectors of 16 float32 to and from addresses, as numba functions.

Kernels of this package pass addresses on, not arrays: numba would count references to arrays in the
inner loops. An array has to be kept alive by who asked for its address.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.simd.arithmetic import sums_of_lanes
from bgfast_kernels.simd.lanes import Lanes
from bgfast_kernels.simd.memory import _between, _load, _prefetch, _store, _transposed, pointer

_numbers = Lanes(types.float32)
_NUMBERS = ir.VectorType(ir.FloatType(), 16)


@intrinsic  # type: ignore[untyped-decorator]
def address(typing_context: Any, array: Any) -> Any:
    """Return where the numbers of an array begin.

    That is ``array.ctypes.data``, but signed: numba takes sums of signed and unsigned integers to
    be floating-point numbers.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.intp(array), emit


@jit
def scratch(n_bytes: int) -> NDArray[np.uint8]:
    """Return memory that begins at a cache line, as the rows of a tile should."""
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -address(memory) % 64
    return memory[start : start + n_bytes]


@intrinsic  # type: ignore[untyped-decorator]
def keep(typing_context: Any, array: Any) -> Any:
    """Do nothing; an array that is an argument here has not been freed before."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def fill(typing_context: Any, value: Any) -> Any:
    """Return a vector whose every number is a literal."""
    number = float(value.literal_value)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(_NUMBERS, [number] * 16)

    return _numbers(value), emit


@intrinsic  # type: ignore[untyped-decorator]
def load(typing_context: Any, address: Any) -> Any:
    """Return the 16 numbers at an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, _pointer(builder, *values))

    return _numbers(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, address: Any) -> Any:
    """Fetch the cache line of an address, which may be any number."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _prefetch(builder, pointer(builder, values[0], ir.IntType(8)))
        return context.get_dummy_value()

    return types.void(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(typing_context: Any, address: Any, vector: Any) -> Any:
    """Write 16 numbers to an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _store(builder, values[1], _pointer(builder, values[0]))
        return context.get_dummy_value()

    return types.void(types.intp, vector), emit


@intrinsic  # type: ignore[untyped-decorator]
def load_some(typing_context: Any, address: Any, count: Any) -> Any:
    """Return up to 16 numbers at an address, zeros behind the first ``count``."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        mask = _between(builder, _numbers, ir.Constant(values[1].type, 0), values[1])
        return masked_load(builder, _pointer(builder, values[0]), mask)

    return _numbers(types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store_some(typing_context: Any, address: Any, count: Any, vector: Any) -> Any:
    """Write the first ``count`` numbers of a vector alone."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        mask = _between(builder, _numbers, ir.Constant(values[1].type, 0), values[1])
        masked_store(builder, values[2], _pointer(builder, values[0]), mask)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, vector), emit


def masked_load(builder: Any, place: Any, mask: Any) -> Any:
    """Emit the numbers at a pointer, as many as a mask has lanes; zeros where it is not set."""
    kind, align = ir.VectorType(ir.FloatType(), mask.type.count), ir.IntType(32)
    signature = ir.FunctionType(kind, [place.type, align, mask.type, kind])
    name = f"llvm.masked.load.v{kind.count}f32.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    zeros = ir.Constant(kind, [0.0] * kind.count)
    return builder.call(function, [place, align(4), mask, zeros])


def masked_store(builder: Any, vector: Any, place: Any, mask: Any) -> None:
    """Emit that a vector is written where a mask of lanes is set."""
    align = ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [vector.type, place.type, align, mask.type])
    name = f"llvm.masked.store.v{vector.type.count}f32.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    builder.call(function, [vector, place, align(4), mask])


@intrinsic  # type: ignore[untyped-decorator]
def sums_of_columns(typing_context: Any, address: Any) -> Any:
    """Return the sums of eight columns of 32 numbers that follow each other.

    They are in the first eight lanes; the others are undefined.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        halves = [
            _load(builder, _pointer(builder, builder.add(values[0], values[0].type(64 * i))))
            for i in range(16)
        ]
        columns = [builder.fadd(a, b) for a, b in zip(halves[::2], halves[1::2], strict=True)]
        return sums_of_lanes(builder, [*columns, *[None] * 8])

    return _numbers(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def transpose(typing_context: Any, source: Any, target: Any, step: Any) -> Any:
    """Copy 16 rows of 16 numbers, transposed; new rows begin ``step`` bytes after each other."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, target, step = values
        rows = [
            _load(builder, _pointer(builder, builder.add(source, source.type(64 * r))))
            for r in range(16)
        ]
        for r, row in enumerate(_transposed(builder, rows)):
            place = builder.add(target, builder.mul(step, step.type(r)))
            _store(builder, row, _pointer(builder, place))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


@jit(inline="always")  # type: ignore[untyped-decorator]
def transpose_tile(source: int, target: int) -> None:
    """Copy a tile of 16 rows of 16 words, transposed."""
    transpose(source, target, 64)


def _pointer(builder: Any, address: Any) -> Any:
    return pointer(builder, address, _NUMBERS)
