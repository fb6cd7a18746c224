"""A stand-in for CuPy on machines without a GPU: its launches run in the shim, and are recorded.

"Device memory" is the process's own, so tensors on the CPU can be handed to it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
from bgfast_kernels import cuda

from tests.cuda_shim import CompileError, compile_module


@dataclass
class Launch:
    """One launch: what was passed, and where to."""

    kernel: str
    grid: tuple
    block: tuple
    arguments: tuple
    device: int
    stream: int


@dataclass
class Machine:
    """What the fake CuPy finds, and what was done with it."""

    driver: int = 13000
    runtime: int = 13000
    devices: int = 2
    seed: int = 0
    launches: list = field(default_factory=list)
    compiled: list = field(default_factory=list)
    nvrtc: bool = True
    device: int = -1
    stream: int = -1


class CUDARuntimeError(RuntimeError):
    pass


class CompileException(Exception):  # noqa: N818  CuPy's name
    pass


class _Current:
    """A context manager that sets an attribute of the machine, like Device."""

    def __init__(self, machine, name, value):
        self._machine, self._name, self._value = machine, name, value

    def __enter__(self):
        self._before = getattr(self._machine, self._name)
        setattr(self._machine, self._name, self._value)

    def __exit__(self, *_):
        setattr(self._machine, self._name, self._before)


class _Stream(_Current):
    """A stream, which belongs to the device that was the current one when it was made."""

    def __init__(self, machine, address):
        super().__init__(machine, "stream", address)
        self._device = machine.device

    def __enter__(self):
        if self._machine.device != self._device:
            raise RuntimeError("This stream is not on the current device")
        super().__enter__()


def module(machine, old_streams=False):
    """Return a module with the parts of CuPy that bgfast uses."""

    def get_device_count():
        if machine.devices < 0:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return machine.devices

    def nvrtc_version():
        if not machine.nvrtc:
            raise RuntimeError('Failure finding "libnvrtc.so": No such file\n  and where it looked')
        return 13, 0

    class RawModule:
        def __init__(self, *, code, options, backend):
            assert isinstance(options, tuple)
            assert backend == "nvrtc"
            machine.compiled.append((machine.device, code))
            self._code = code

        def get_function(self, name):
            try:
                compiled = compile_module(self._code)
            except CompileError as error:
                raise CompileException(str(error)) from error

            def call(grid, block, arguments):
                launch = Launch(name, grid, block, arguments, machine.device, machine.stream)
                machine.launches.append(launch)
                compiled.launch(name, grid, block, arguments, seed=machine.seed)

            return call

    cupy = ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.RawModule = RawModule
    streams = SimpleNamespace()
    if not old_streams:
        streams.from_external = lambda s: _Stream(machine, s.__cuda_stream__()[1])
    cupy.cuda = SimpleNamespace(
        Device=lambda index: _Current(machine, "device", index),
        Stream=streams,
        ExternalStream=lambda address: _Stream(machine, address),
        compiler=SimpleNamespace(CompileException=CompileException),
        nvrtc=SimpleNamespace(getVersion=nvrtc_version),
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: machine.driver,
            runtimeGetVersion=lambda: machine.runtime,
            getDeviceCount=get_device_count,
        ),
    )
    return cupy


@contextmanager
def installed(machine, **options):
    """Put a fake CuPy in the place of the real one for a ``with`` block."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = module(machine, **options)
    cuda.forget()
    try:
        yield machine
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
        cuda.forget()


def address(array):
    """Return the address of a NumPy array as a kernel argument."""
    return np.uint64(array.ctypes.data)
