"""The one file that imports CuPy: source assembly, compilation, launch on a given stream.

Kernels are CUDA C++ in ``.cuh`` files beside the Python of their op. A :class:`Program` is one of
these files and the ``#define`` s it is compiled with; CuPy compiles it by NVRTC when it is first
launched on a device. The caller allocates all memory and names the stream, so a launch neither
allocates nor waits, and can be captured in a CUDA graph once the program is compiled.

Importing this module imports nothing of CUDA.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_ROOT = Path(__file__).parent
_INCLUDE = re.compile(r'^#include "([^"]+)"[^\n]*\n', re.MULTILINE)
_REAL = {"float32": "float", "float64": "double"}

OPTIONS = ("--std=c++17",)
"""What NVRTC is told besides the device; the tests compile with the same options."""


class CudaError(RuntimeError):
    """A CUDA kernel cannot be compiled or launched here; the message says why."""


@dataclass(frozen=True)
class Program:
    """One translation unit.

    Parameters
    ----------
    path
        File of the kernels, relative to this package, such as ``"dimer/energy_grad.cuh"``.
    dtype
        ``"float32"`` or ``"float64"``: what ``REAL`` is defined as.
    defines
        Further definitions, pairs of a name and an integer, or a line of C.

    Raises
    ------
    ValueError
        If ``dtype`` is another one.
    """

    path: str
    dtype: str
    defines: tuple[tuple[str, int | str], ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in _REAL:
            raise ValueError(f"dtype must be one of {', '.join(_REAL)}, got {self.dtype!r}")

    def source(self) -> str:
        """Return the whole program as one string: definitions, then the file, includes in place.

        CuPy caches what it compiled on this string, and would not notice an edited include.
        """
        defines = {"REAL": _REAL[self.dtype], **dict(self.defines)}
        head = "".join(f"#define {name} {value}\n" for name, value in defines.items())
        return head + _inline(self.path, set())


def _inline(path: str, seen: set[str]) -> str:
    """Return a file with every file it includes put in place, each once."""
    if path in seen:
        return ""
    seen.add(path)
    text = (_ROOT / path).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: _inline(match[1], seen), text)


def pointer(address: int) -> np.uint64:
    """Return a device address as a kernel argument."""
    return np.uint64(address)


def launch(
    program: Program,
    kernel: str,
    *,
    grid: int,
    block: int,
    arguments: Sequence[np.generic],
    device: int,
    stream: int,
) -> None:
    """Enqueue a kernel; returns at once.

    Parameters
    ----------
    program
        Where the kernel is; compiled at its first launch on the device.
    kernel
        Its name.
    grid, block
        Number of blocks, and of threads in each.
    arguments
        NumPy scalars of exactly the types of the kernel's parameters: CuPy copies them as they
        are. Addresses through :func:`pointer`.
    device
        Index of the device that owns the memory and the stream.
    stream
        The CUDA stream's address, 0 for the default stream.

    Raises
    ------
    TypeError
        If an argument is not a NumPy scalar: a Python number would be passed as 64 bits.
    CudaError
        If CuPy, a device or a new enough driver is missing, or the kernel does not compile.
    """
    for i, argument in enumerate(arguments):
        if not isinstance(argument, np.generic):
            raise TypeError(
                f"argument {i} of kernel {kernel} must be a NumPy scalar, "
                f"got {type(argument).__name__}"
            )
    cupy = _usable_cupy()
    with cupy.cuda.Device(device):
        function = _compiled(program, kernel, device)
        with _stream(device, stream):
            function((grid,), (block,), tuple(arguments))


@functools.lru_cache(maxsize=256)
def _compiled(program: Program, kernel: str, device: int) -> Any:
    """Return a kernel loaded on ``device``, which is the current one."""
    cupy = _cupy()
    module = cupy.RawModule(code=program.source(), options=OPTIONS, backend="nvrtc")
    try:
        return module.get_function(kernel)
    except cupy.cuda.compiler.CompileException as error:
        raise CudaError(f"{program.path} does not compile: {error}") from error


class _External:
    """A stream of someone else's, as the CUDA stream protocol wants it."""

    def __init__(self, address: int) -> None:
        self.address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


@functools.lru_cache(maxsize=64)
def _stream(device: int, address: int) -> Any:
    """Return CuPy's name of a stream of ``device``, which is the current one.

    The default stream has one address on every device, and CuPy ties a name to the device on which
    it was made.
    """
    cuda = _cupy().cuda
    if hasattr(cuda.Stream, "from_external"):
        return cuda.Stream.from_external(_External(address))
    return cuda.ExternalStream(address)  # CuPy 13


def _cupy() -> ModuleType:
    return importlib.import_module("cupy")


@functools.cache
def _usable_cupy() -> ModuleType:
    """Return CuPy if it can launch kernels here; found out once."""
    if reasons := _missing():
        raise CudaError("; ".join(reasons))
    return _cupy()


def why_unavailable() -> str | None:
    """Return what CUDA kernels lack on this machine, or ``None`` if nothing."""
    try:
        _usable_cupy()
    except CudaError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """Return the versions of CuPy and of the CUDA that it and the driver support.

    What cannot be found out is left out; nothing is raised.
    """
    found: dict[str, str] = {}
    try:
        cupy = _cupy()
        found["cupy"] = str(cupy.__version__)
        found["CUDA of cupy"] = _version(cupy.cuda.runtime.runtimeGetVersion())
        found["CUDA of the driver"] = _version(cupy.cuda.runtime.driverGetVersion())
    except Exception:  # of CuPy, whatever it is: a version is no reason to stop
        pass
    return found


def forget() -> None:
    """Forget what was found out about CuPy and what was compiled."""
    for cache in (_usable_cupy, _compiled, _stream):
        cache.cache_clear()


def _missing() -> list[str]:
    """List what is missing, in the order a user would have to mend it."""
    try:
        cupy = _cupy()
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return [f"CuPy cannot be imported: {error}"]
        return [
            "CuPy is not installed: pip install 'bgfast[cuda13]', "
            "or 'bgfast[cuda12]' where the driver supports CUDA 12 at most"
        ]
    except ImportError as error:
        return [f"CuPy cannot be imported: {error}"]
    runtime = cupy.cuda.runtime
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError as error:
        return [f"CuPy finds no CUDA driver: {error}"]
    if driver == 0:
        return ["no NVIDIA driver is installed, or none that this process can see"]
    if driver // 1000 < needed // 1000:
        return [
            f"the NVIDIA driver is too old: it supports CUDA {_version(driver)} at most, "
            f"CuPy {cupy.__version__} needs CUDA {needed // 1000}; update the driver, or "
            f"install the CuPy of the driver's version, such as 'bgfast[cuda{driver // 1000}]'"
        ]
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return [f"no CUDA device: {error}"]
    if not count:
        return ["no CUDA device: the driver sees none"]
    try:
        cupy.cuda.nvrtc.getVersion()
    except (RuntimeError, ImportError, OSError) as error:
        return [
            "CuPy finds no NVRTC, the compiler of CUDA kernels "
            f"({str(error).partition(chr(10))[0]}); it comes with 'bgfast[cuda{needed // 1000}]' "
            "or a CUDA toolkit"
        ]
    return []


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
