"""Vectors to and from memory: load, store, prefetch, transpose."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bgfast_kernels.simd.lanes import WIDTH_BYTES, Lanes, shuffle_mask, splat


@intrinsic  # type: ignore[untyped-decorator]
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """Return ``array[offset : offset + lanes]`` as a vector."""
    lanes = Lanes(array.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, _address(context, builder, array, lanes, *values))

    return lanes(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(typing_context: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Set ``array[offset : offset + lanes]`` to ``vector``."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _store(builder, values[2], _address(context, builder, array, vector, *values[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic  # type: ignore[untyped-decorator]
def spread(typing_context: Any, array: Any, index: Any) -> Any:
    """Return a vector whose every lane is ``array[index]``."""
    lanes = Lanes(array.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, values[0]).data
        return splat(context, builder, lanes, builder.load(builder.gep(data, [values[1]])))

    return lanes(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Fetch the cache line of ``array[offset]``; any offset is allowed."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, values[0]).data
        address = builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t)
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def transpose_tile(
    typing_context: Any,
    source: Any,
    source_offset: Any,
    source_stride: Any,
    target: Any,
    target_offset: Any,
    target_stride: Any,
) -> Any:
    """Copy a square tile of lanes x lanes numbers, transposed, in log2(lanes) shuffle stages.

    Number c of row r, ``source[source_offset + r * source_stride + c]``, goes to
    ``target[target_offset + c * target_stride + r]``.
    """
    lanes = Lanes(source.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source_value, start, stride, target_value, target_start, target_step = values
        rows = []
        for r in range(lanes.count):
            offset = builder.add(start, builder.mul(stride, ir.Constant(stride.type, r)))
            rows.append(
                _load(builder, _address(context, builder, source, lanes, source_value, offset))
            )
        for c, column in enumerate(_transposed(builder, rows)):
            offset = builder.add(
                target_start, builder.mul(target_step, ir.Constant(target_step.type, c))
            )
            _store(builder, column, _address(context, builder, target, lanes, target_value, offset))
        return context.get_dummy_value()

    tile = (types.intp, types.intp)
    return types.void(source, *tile, target, *tile), emit


def _address(
    context: Any, builder: Any, array_type: Any, lanes: Any, array: Any, offset: Any
) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), context.get_value_type(lanes).as_pointer())


def _load(builder: Any, address: Any) -> Any:
    vector = builder.load(address)
    vector.align = WIDTH_BYTES // vector.type.count
    return vector


def _store(builder: Any, vector: Any, address: Any) -> None:
    builder.store(vector, address).align = WIDTH_BYTES // vector.type.count


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    count = len(rows)
    step = 1
    while step < count:
        low = [k if not k & step else count + k - step for k in range(count)]
        high = [k + step if not k & step else count + k for k in range(count)]
        swapped = list(rows)
        for r in range(count):
            if not r & step:
                a, b = rows[r], rows[r + step]
                swapped[r] = builder.shuffle_vector(a, b, shuffle_mask(low))
                swapped[r + step] = builder.shuffle_vector(a, b, shuffle_mask(high))
        rows = swapped
        step *= 2
    return rows
