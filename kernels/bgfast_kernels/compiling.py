"""The one place for numba's flags and the compile cache."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

F = TypeVar("F", bound=Callable[..., Any])


@functools.cache
def source_hash() -> str:
    """Return a hash over every source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    def check_cachable(self, cres: Any) -> bool:
        # A kernel lifted from a closure is cachable here: `key` names what it closes over.
        return True


class _SourceKeyedCache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache, keyed on the hash of the whole package.

    numba looks at the file of the jitted function alone: an edited callee in another file would be
    served stale, and a kernel made by a factory would never be found again.
    """

    _impl_class = _CacheImpl

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), source_hash())


def jit(function: F | None = None, *, key: str = "", **options: Any) -> Any:
    """Compile ``function`` with the package's flags at its first call.

    Parameters
    ----------
    function
        A function numba can compile.
    key
        Name of what a factory-made function closes over (for example the energy); it tells kernels
        of one factory apart, on disk and where they are linked, and must be given for them.
    options
        Of numba: ``fastmath``, LLVM's flags (leave NaN and infinity alone unless the caller has
        excluded them); ``inline="always"`` lets numba inline a small callee before type inference,
        ``forceinline=True`` LLVM one of any size; ``error_model``, if not ``"numpy"``, which makes
        a division by zero an infinity instead of an exception.

    Raises
    ------
    ValueError
        If ``function`` closes over something and has no ``key``.
    """
    if function is None:
        return lambda f: jit(f, key=key, **options)
    if function.__closure__ and not key:
        raise ValueError(f"key must name what {function.__qualname__} closes over, got none")
    flags = {"nogil": True, "boundscheck": False, "error_model": "numpy", **options}
    if key:
        # The name of native code has it from here. What numba adds to names counts up in a process:
        # kernels that two processes compiled may have the same numbers.
        function.__qualname__ += f".{key}"
    dispatcher = numba.njit(**flags)(function)
    dispatcher._cache = _SourceKeyedCache(function)
    return cast(F, dispatcher)
