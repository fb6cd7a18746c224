"""NVRTC through ctypes: compile CUDA source to a cubin without a driver or a device.

``python -m tests.nvrtc`` prints the registers of every shipped kernel, for the committed table.
"""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from importlib import metadata

from bgfast_kernels.cuda import OPTIONS

ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")
PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel."""

    name: str
    registers: int
    stack: int
    spills: int


@functools.cache
def library():
    """Return the NVRTC library of the installed package, or ``None``."""
    for package in PACKAGES:
        try:
            files = metadata.files(package) or ()
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
                return ctypes.CDLL(str(file.locate()))
    return None


def compile_for(source, architecture):
    """Return the kernels in a source, and its PTX, compiled as CuPy does.

    Raises
    ------
    RuntimeError
        If it does not compile; the message is the compiler's.
    """
    nvrtc = library()
    program = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"", 0, None, None))
    try:
        options = (
            *OPTIONS,
            *ADDED_BY_CUPY,
            f"--gpu-architecture={architecture}",
            "--ptxas-options=-v",
        )
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        code = nvrtc.nvrtcCompileProgram(program, len(options), array)
        log = _text(program, "ProgramLog")
        if code:
            raise RuntimeError(log)
        ptx = _text(program, "PTX")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    kernels = [
        Kernel(m["name"], int(m["registers"]), int(m["stack"]), int(m["stores"]) + int(m["loads"]))
        for m in _ENTRY.finditer(log)
    ]
    return kernels, ptx


def _text(program, what):
    size = ctypes.c_size_t()
    _check(getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library(), f"nvrtcGet{what}")(program, buffer))
    return buffer.value.decode()


def _check(code):
    if code:
        raise RuntimeError(f"NVRTC returned error {code}")


if __name__ == "__main__":
    import json

    from bgfast_kernels.cuda_programs import ARCHITECTURES, programs

    table = {}
    for label, program in programs().items():
        for arch in ARCHITECTURES:
            for kernel in compile_for(program.source(), arch)[0]:
                entry = table.setdefault(label, {}).setdefault(kernel.name, {})
                entry[arch] = kernel.registers
    print(json.dumps(table, indent=1))
