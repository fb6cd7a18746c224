"""Let the threads of a libgomp call a compiled kernel, without Python in between.

Threads that enter Python wait for each other at its lock, which costs more than many a kernel; ones
that do not cannot lose an interrupt there either. So the loop over the parts of a kernel is native
code, compiled once for the types of the arguments, and calls the kernel by its address.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from bgfast_kernels.compiling import jit
from bgfast_kernels.team import Team

_addresses: dict[tuple[Any, ...], int] = {}
_PLAIN = frozenset((bool, int, float))

MOST_BYTES = 4096
"""Of what threads share that run a kernel."""


def run(
    team: Team,
    threads: int,
    kernel: Any,
    cuts: NDArray[np.int64],
    arguments: tuple[Any, ...],
) -> None:
    """Call ``kernel(cuts[i], cuts[i + 1], *arguments)`` for every i, and wait for all.

    Parameters
    ----------
    team
        Whose threads.
    threads
        How many of them. Better all, also for fewer parts: libgomp ends those that a smaller team
        leaves out, and torch's next operation would have to start them again.
    kernel
        A jitted function that returns nothing.
    cuts
        Where the parts begin and end.
    arguments
        What else the kernel takes.

    Raises
    ------
    MemoryError
        If a kernel could not allocate its buffers: they raise nothing else.
    """
    address = address_of(kernel, arguments)
    if _launch(team.parallel, threads, address, cuts, *arguments):
        raise MemoryError(f"no memory for the buffers of the kernel {kernel.py_func.__name__}")


def address_of(kernel: Any, arguments: tuple[Any, ...]) -> int:
    """Return the address of a kernel that is compiled for such arguments."""
    key = (kernel, *[kind if (kind := type(x)) in _PLAIN else _kind(x) for x in arguments])
    if key not in _addresses:
        signature = tuple(kernel.typeof_pyval(x) for x in (0, 0, *arguments))
        kernel.compile(signature)
        compiled = kernel.overloads[signature]
        if compiled.signature.return_type != types.none:
            raise TypeError(f"the kernel {kernel.py_func.__name__} must return nothing")
        name = compiled.fndesc.llvm_func_name
        _addresses[key] = compiled.library.get_pointer_to_function(name)
    return _addresses[key]


def _kind(x: Any) -> Any:
    """Return what tells the numba type of an argument from others; cheaper than to ask numba."""
    if isinstance(x, np.ndarray):
        return x.dtype, x.ndim, x.flags.num
    return type(x) if isinstance(x, np.generic) else typeof(x)


@intrinsic  # type: ignore[untyped-decorator]
def _run_parts(
    typing_context: Any, parallel: Any, threads: Any, kernel: Any, cuts: Any, arguments: Any
) -> Any:
    """Call the kernel at an address for every part; return whether one of the calls failed.

    What ``parallel``, the address of GOMP_parallel, lets every thread run takes tickets until there
    are none, and calls the kernel for each.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        run, n_threads, *call = values
        fields = _shared_fields(context, builder, cuts, arguments, *call)
        shared, kind = stored(builder, fields)
        part = _worker(context, builder.module, kind, arguments)
        let_all_run(builder, run, n_threads, part, shared)
        failed = builder.load(cgutils.gep_inbounds(builder, shared, 0, _FAILED))
        return builder.icmp_signed("!=", failed, failed.type(0))

    return types.boolean(parallel, threads, kernel, cuts, arguments), emit


@intrinsic  # type: ignore[untyped-decorator]
def _note_parts(typing_context: Any, place: Any, kernel: Any, cuts: Any, arguments: Any) -> Any:
    """Write what threads share to an address; return that of what they run, and the bytes."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, *call = values
        fields = _shared_fields(context, builder, cuts, arguments, *call)
        kind = ir.LiteralStructType([field.type for field in fields])
        n_bytes = -(-context.get_abi_sizeof(kind) // 64) * 64
        if n_bytes > MOST_BYTES:
            raise TypeError(f"arguments of a kernel must fit in {MOST_BYTES} bytes, got {n_bytes}")
        shared = builder.inttoptr(to, kind.as_pointer())
        for i, field in enumerate(fields):
            builder.store(field, cgutils.gep_inbounds(builder, shared, 0, i))
        part = builder.ptrtoint(_worker(context, builder.module, kind, arguments), to.type)
        return context.make_tuple(builder, signature.return_type, [part, to.type(n_bytes)])

    return types.UniTuple(types.intp, 2)(place, kernel, cuts, arguments), emit


@intrinsic  # type: ignore[untyped-decorator]
def has_failed(typing_context: Any, place: Any) -> Any:
    """Return whether a call of the kernel noted at an address failed."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        fields = builder.inttoptr(values[0], values[0].type.as_pointer())
        failed = builder.load(builder.gep(fields, [ir.IntType(64)(_FAILED)]))
        return builder.icmp_signed("!=", failed, failed.type(0))

    return types.boolean(place), emit


def _shared_fields(
    context: Any, builder: Any, of_cuts: Any, of_rest: Any, address: Any, cuts: Any, rest: Any
) -> list[Any]:
    """Emit the values of what the threads share."""
    array = context.make_array(of_cuts)(context, builder, cuts)
    n_parts = builder.sub(array.nitems, array.nitems.type(1))
    given = [
        borrowed(context, builder, kind, builder.extract_value(rest, i))
        for i, kind in enumerate(of_rest.types)
    ]
    zero = n_parts.type(0)
    return [zero, zero, n_parts, address, array.data, *given]


_NEXT, _FAILED, _N_PARTS, _KERNEL, _CUTS, _ARGUMENTS = range(6)
"""Fields of what the threads share."""


def borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Emit an argument without the counters of its references, as the caller keeps it alive.

    Kernels count references as they pass arrays on; on several cores they would wait for the
    counter's cache line.
    """
    if isinstance(kind, types.BaseTuple):
        for i, of_part in enumerate(kind):
            part = borrowed(context, builder, of_part, builder.extract_value(value, i))
            value = builder.insert_value(value, part, i)
        return value
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


def stored(builder: Any, fields: list[Any]) -> tuple[Any, Any]:
    """Emit a structure of the values on the stack; return its address and type."""
    kind = ir.LiteralStructType([field.type for field in fields])
    address = cgutils.alloca_once(builder, kind)
    for i, field in enumerate(fields):
        builder.store(field, cgutils.gep_inbounds(builder, address, 0, i))
    return address, kind


def let_all_run(builder: Any, parallel: Any, n_threads: Any, task: Any, shared: Any) -> None:
    """Emit the call of GOMP_parallel that lets every thread run ``task(shared)``."""
    unsigned = ir.IntType(32)
    parameters = [task.type, cgutils.voidptr_t, unsigned, unsigned]
    function = ir.FunctionType(ir.VoidType(), parameters).as_pointer()
    data = builder.bitcast(shared, cgutils.voidptr_t)
    size = builder.trunc(n_threads, unsigned)
    builder.call(builder.inttoptr(parallel, function), [task, data, size, unsigned(0)])


def new_task(module: Any, name: str, kind: Any) -> tuple[Any, Any, list[Any]]:
    """Begin a function ``void task(void *shared)``.

    Returns
    -------
    task, builder, fields
        The function, a builder at its beginning, and the addresses of what is ``shared``, a
        structure of type ``kind``.
    """
    kind_of_task = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
    task = ir.Function(module, kind_of_task, module.get_unique_name(name))
    task.linkage = "internal"
    builder = ir.IRBuilder(task.append_basic_block("entry"))
    shared = builder.bitcast(task.args[0], kind.as_pointer())
    fields = [cgutils.gep_inbounds(builder, shared, 0, i) for i in range(len(kind.elements))]
    return task, builder, fields


def _worker(context: Any, module: Any, kind: Any, of_rest: Any) -> Any:
    """Emit the function that every thread runs, ``void worker(void *shared)``."""
    of_kernel = (types.intp, types.intp, *of_rest.types)
    worker, builder, fields = new_task(module, "bgfast_worker", kind)
    n_parts, address, cuts, *arguments = (builder.load(field) for field in fields[_N_PARTS:])
    function = context.call_conv.get_function_type(types.none, of_kernel).as_pointer()
    kernel = builder.inttoptr(address, function)
    take, call, end = (worker.append_basic_block(block) for block in ("take", "call", "end"))
    builder.branch(take)

    builder.position_at_end(take)
    one = n_parts.type(1)
    ticket = builder.atomic_rmw("add", fields[_NEXT], one, "seq_cst")
    builder.cbranch(builder.icmp_signed("<", ticket, n_parts), call, end)

    builder.position_at_end(call)
    start, stop = (builder.load(builder.gep(cuts, [i])) for i in (ticket, builder.add(ticket, one)))
    status, _ = context.call_conv.call_function(
        builder, kernel, types.none, of_kernel, [start, stop, *arguments]
    )
    with builder.if_then(status.is_error):
        builder.store(one, fields[_FAILED])
    builder.branch(take)

    builder.position_at_end(end)
    builder.ret_void()
    return worker


@jit
def _launch(parallel: int, threads: int, kernel: int, cuts: Any, *arguments: Any) -> bool:
    failed: bool = _run_parts(parallel, threads, kernel, cuts, arguments)
    return failed


@jit
def note(place: int, kernel: int, cuts: Any, *arguments: Any) -> tuple[int, int]:
    """Write a call of a kernel to an address, to be run later.

    Parameters
    ----------
    place
        Where, at most :data:`MOST_BYTES`.
    kernel
        Its address, of :func:`address_of`.
    cuts, arguments
        As :func:`run` takes them; arrays have to stay alive.

    Returns
    -------
    worker, n_bytes
        Address of what threads have to run together, ``void worker(void *place)``, and how many
        bytes it took, a multiple of 64.
    """
    noted: tuple[int, int] = _note_parts(place, kernel, cuts, arguments)
    return noted
