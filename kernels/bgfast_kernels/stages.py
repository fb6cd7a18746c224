"""Let a team of threads go through the stages of one kernel together.

A kernel of short stages, each of which needs what all threads did in the one before, is a single
function that every thread runs: it takes its own share of a stage, then waits at a barrier, which
costs a fraction of what it costs to launch a stage from Python.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bgfast_kernels import team
from bgfast_kernels.compiling import jit
from bgfast_kernels.launch import borrowed, let_all_run, new_task, stored

Functions = tuple[int, int, int, int]
"""Addresses of GOMP_parallel and of what its threads call; zeros where there is no libgomp."""


def functions() -> Functions:
    """Return what :func:`together` needs of the threads that the process has."""
    found = team.openmp()
    return (0, 0, 0, 0) if found is None else (found.parallel, *found.inside)


@jit
def share(n: int, block: int, thread: int, n_threads: int) -> tuple[int, int]:
    """Return where the share of a thread in ``n`` rows begins and ends, at multiples of a block."""
    blocks = -(-n // block)
    start = block * (blocks * thread // n_threads)
    return start, min(n, block * (blocks * (thread + 1) // n_threads))


@intrinsic  # type: ignore[untyped-decorator]
def wait(typing_context: Any, barrier: Any) -> Any:
    """Wait until all threads of the team are here; ``barrier`` is what the kernel was given."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        with builder.if_then(cgutils.is_not_null(builder, values[0])):
            function = ir.FunctionType(ir.VoidType(), []).as_pointer()
            builder.call(builder.inttoptr(values[0], function), [])
        return context.get_dummy_value()

    return types.void(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def together(typing_context: Any, of_team: Any, threads: Any, kernel: Any, arguments: Any) -> Any:
    """Let threads call ``kernel(thread, n_threads, barrier, *arguments)`` at the same time.

    Parameters
    ----------
    of_team
        What :func:`functions` returned. Without a libgomp one thread does it all.
    threads
        How many are wanted, :func:`bgfast_kernels.cpu.get_threads` of them or one; there may be
        fewer, so a kernel has to go by the number that it is told.
    kernel
        A jitted function that returns nothing and must not fail, as others would wait for it at the
        barrier forever: it allocates nothing.
    arguments
        A tuple of what else it takes.
    """
    of_kernel = (types.intp, types.intp, types.intp, *arguments.types)
    if kernel.get_call_type(typing_context, of_kernel, {}).return_type != types.none:
        raise TypeError("a kernel of stages must return nothing")

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        functions, n_threads, _, rest = values
        parallel, *inside = (builder.extract_value(functions, i) for i in range(4))
        given = [
            borrowed(context, builder, kind, builder.extract_value(rest, i))
            for i, kind in enumerate(arguments.types)
        ]
        compiled = kernel.dispatcher.get_compile_result(types.none(*of_kernel))
        context.add_linking_libs((compiled.library,))
        shared, kind = stored(builder, [*inside, *given])
        member = _member(context, builder.module, kind, compiled.fndesc, of_kernel)
        several = builder.icmp_signed(">", n_threads, n_threads.type(1))
        several = builder.and_(several, cgutils.is_not_null(builder, parallel))
        with builder.if_else(several) as (then, otherwise):
            with then:
                let_all_run(builder, parallel, n_threads, member, shared)
            with otherwise:
                alone = [n_threads.type(k) for k in (0, 1, 0)]
                callee = context.declare_function(builder.module, compiled.fndesc)
                context.call_conv.call_function(
                    builder, callee, types.none, of_kernel, [*alone, *given]
                )
        return context.get_dummy_value()

    return types.void(of_team, threads, kernel, arguments), emit


def _member(
    context: Any, module: Any, kind: Any, of_compiled: Any, of_kernel: tuple[Any, ...]
) -> Any:
    """Emit the function that every thread runs, ``void member(void *shared)``."""
    member, builder, fields = new_task(module, "bgfast_member", kind)
    number, count, barrier, *arguments = (builder.load(field) for field in fields)
    asked = ir.FunctionType(ir.IntType(32), []).as_pointer()
    who = [
        builder.sext(builder.call(builder.inttoptr(f, asked), []), number.type)
        for f in (number, count)
    ]
    kernel = context.declare_function(module, of_compiled)
    given = [*who, barrier, *arguments]
    context.call_conv.call_function(builder, kernel, types.none, of_kernel, given)
    builder.ret_void()
    return member
