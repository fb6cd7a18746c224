"""Vectors to and from memory: load, store, prefetch, transpose."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from bgfast_kernels.simd.lanes import WIDTH_BYTES, Lanes, shuffle_mask, splat


@intrinsic  # type: ignore[untyped-decorator]
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """Return ``array[offset : offset + lanes]`` as a vector."""
    lanes = Lanes(array.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, _address(context, builder, array, lanes, *values))

    return lanes(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def numbers_at(typing_context: Any, address: Any, like: Any) -> Any:
    """Return numbers of the dtype of the array ``like`` at an address as a flat array.

    It ends nowhere, and somebody else has to keep it alive: a call with addresses takes a fraction
    of the time that it takes with arrays.
    """
    flat = types.Array(like.dtype, 1, "C")

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(flat)(context, builder)
        data = pointer(builder, values[0], array.data.type.pointee)
        size = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
        end = context.get_constant(types.intp, 2**62)
        populate_array(array, data, shape=(end,), strides=(size,), itemsize=size, meminfo=None)
        return array._getvalue()

    return flat(types.intp, like), emit


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
def fill(typing_context: Any, array: Any, value: Any) -> Any:
    """Return a vector of the array's dtype whose every lane is the number ``value``."""
    lanes = Lanes(array.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return splat(context, builder, lanes, context.cast(builder, values[1], value, lanes.dtype))

    return lanes(array, value), emit


@intrinsic  # type: ignore[untyped-decorator]
def load_between(
    typing_context: Any, array: Any, offset: Any, first: Any, last: Any, otherwise: Any
) -> Any:
    """Return ``array[offset + lane]`` in the lanes ``first <= lane < last``, else ``otherwise``.

    Memory of the other lanes is not touched; it need not belong to the array.
    """
    lanes = Lanes(array.dtype)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, array, lanes, *values[:2])
        mask = _between(builder, lanes, *values[2:4])
        kind = values[4].type
        align = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [address.type, align, mask.type, kind]),
            f"llvm.masked.load.v{lanes.count}{_suffix(kind)}.p0",
        )
        width = WIDTH_BYTES // lanes.count
        return builder.call(function, [address, align(width), mask, values[4]])

    return lanes(array, types.intp, types.intp, types.intp, lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def store_between(
    typing_context: Any, array: Any, offset: Any, first: Any, last: Any, vector: Any
) -> Any:
    """Set ``array[offset + lane]`` in the lanes ``first <= lane < last`` alone."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, array, vector, *values[:2])
        mask = _between(builder, vector, *values[2:4])
        kind = values[4].type
        align = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, address.type, align, mask.type]),
            f"llvm.masked.store.v{vector.count}{_suffix(kind)}.p0",
        )
        width = WIDTH_BYTES // vector.count
        builder.call(function, [values[4], address, align(width), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, vector), emit


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, offset: Any) -> Any:
    """Fetch the cache line of ``array[offset]``; any offset is allowed."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, values[0]).data
        _prefetch(builder, builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t))
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


def _between(builder: Any, lanes: Lanes, first: Any, last: Any) -> Any:
    """Emit the mask of the lanes ``first <= lane < last``."""
    integer = ir.IntType(32)
    undefined = ir.Constant(ir.VectorType(integer, lanes.count), ir.Undefined)
    number = ir.Constant(undefined.type, list(range(lanes.count)))

    def everywhere(value: Any) -> Any:
        single = builder.insert_element(undefined, builder.trunc(value, integer), integer(0))
        return builder.shuffle_vector(single, undefined, shuffle_mask([0] * lanes.count))

    above = builder.icmp_signed(">=", number, everywhere(first))
    return builder.and_(above, builder.icmp_signed("<", number, everywhere(last)))


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """Emit an address, an integer, as a pointer to numbers of an LLVM type.

    A sum of integers does not say which of them is the address. When numba has compiled a function
    for its cache, LLVM may have taken the other one, an offset, for the pointer; numba then inlines
    that code elsewhere, and where the offset is zero LLVM sees an access to a null pointer, which
    it may leave out. The attribute, unknown to llvmlite, forbids that here and where it is inlined.
    """
    set.add(builder.function.attributes, "null_pointer_is_valid")
    return builder.inttoptr(address, kind.as_pointer())


def _suffix(kind: Any) -> str:
    return "f32" if isinstance(kind.element, ir.FloatType) else "f64"


def _prefetch(builder: Any, address: Any, *, writes: bool = False) -> None:
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, flag(int(writes)), flag(3), flag(1)])


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
