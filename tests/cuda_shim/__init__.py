"""Run CUDA kernels on the CPU: compile their source with g++ and ``cuda_shim.h``, call them.

See the header for what this sees of a kernel and what it does not.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from bgfast_kernels import cuda

HEADER = Path(__file__).with_name("cuda_shim.h")
COMPILER = shutil.which("g++")
FLAGS = ("-std=gnu++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-w")
CANARY = 0x5A  # not the 0xff of poisoned shared memory

_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(')
_DTYPES = {"P": "u8", "f": "f4", "d": "f8", "q": "i8", "Q": "u8", "i": "i4", "I": "u4"}


class ShimError(RuntimeError):
    """A kernel did what would be undefined on a GPU, such as a barrier in divergent code."""


@functools.cache
def _folder():
    """Return the folder of compiled kernels, shared by the processes of one test run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"bgfast-shim-{run}"
    folder.mkdir(exist_ok=True)
    return folder


class CompileError(RuntimeError):
    """A source is not valid; no planted defect may be found by this."""


class Module:
    """The kernels of one source, compiled for the CPU.

    Raises
    ------
    CompileError
        If the source does not compile.
    """

    def __init__(self, source):
        self.names = _KERNEL.findall(source)
        wrappers = "".join(
            f'extern "C" const char *shim_launch_{name}(void **a, const unsigned *s, uint64_t seed)'
            f"{{ return shim::launch({name}, a, s, seed); }}\n"
            f'extern "C" const char *shim_signature_{name}()'
            f"{{ return shim::signature({name}); }}\n"
            for name in self.names
        )
        text = f"{HEADER.read_text()}\n#line 1\n{source}\n{wrappers}"
        library = _folder() / (hashlib.sha256(text.encode()).hexdigest()[:24] + ".so")
        if not library.exists():
            part = library.with_suffix(f".{os.getpid()}")
            command = [COMPILER, *FLAGS, "-x", "c++", "-", "-o", part]
            result = subprocess.run(command, input=text, text=True, capture_output=True)
            if result.returncode:
                raise CompileError(f"does not compile:\n{result.stderr}")
            part.rename(library)
        self.library = ctypes.CDLL(str(library))

    def signature(self, name):
        """Return a kernel's parameter types, one letter each: P(ointer), f, d, i, I, q, Q."""
        function = self.library[f"shim_signature_{name}"]
        function.restype = ctypes.c_char_p
        return function().decode()

    def launch(self, name, grid, block, arguments, seed=0):
        """Run a kernel over all blocks; ``seed`` decides the order of blocks and threads.

        Raises
        ------
        TypeError
            If the number of ``arguments`` or their dtypes are not the kernel's.
        ShimError
            If threads diverge at a barrier.
        """
        signature = self.signature(name)
        given = [np.dtype(type(a)).str[1:] for a in arguments]
        if given != [_DTYPES[letter] for letter in signature]:
            raise TypeError(f"kernel {name} takes {signature}, was given {given}")
        cells = [np.array(a) for a in arguments]
        addresses = (ctypes.c_void_p * len(cells))(*(c.ctypes.data for c in cells))
        shape = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        function = self.library[f"shim_launch_{name}"]
        function.restype = ctypes.c_char_p
        if error := function(addresses, shape, ctypes.c_uint64(seed)):
            raise ShimError(f"kernel {name}: {error.decode()}")


compile_module = functools.lru_cache(maxsize=128)(Module)


def launch_in_shim(monkeypatch, seed=0, change=lambda source: source):
    """Let launches run in the shim, of sources that ``change`` was applied to."""

    def launch(program, kernel, *, grid, block, arguments, device, stream):
        module = compile_module(change(program.source()))
        module.launch(kernel, (grid,), (block,), arguments, seed)

    monkeypatch.setattr(cuda, "launch", launch)


@contextmanager
def planted(right, wrong):
    """Yield a change of sources that puts ``wrong`` in the place of ``right``.

    Fails at the end if ``right`` stood in none of them: looked at here, not where the defect is to
    be found, as any failure would pass for finding it.
    """
    count = 0

    def change(source):
        nonlocal count
        count += source.count(right)
        return source.replace(right, wrong)

    yield change
    assert count, f"no source has {right!r}: nothing was planted"


class Guarded:
    """An output array between two canaries, filled with canaries itself.

    ``array`` is what the kernel writes to; :meth:`check` fails if it wrote beside it, or left a
    number unwritten.
    """

    def __init__(self, shape, dtype, margin=4096):
        size = int(np.prod(shape))
        self._all = np.full((size + 2 * margin) * np.dtype(dtype).itemsize, CANARY, np.uint8)
        numbers = self._all.view(dtype)
        self._before, self._after = numbers[:margin], numbers[margin + size :]
        self.array = numbers[margin : margin + size].reshape(shape)
        self._canary = numbers[0]

    @property
    def address(self):
        return np.uint64(self.array.ctypes.data)

    def check(self):
        assert (self._before == self._canary).all(), "the kernel wrote before its output"
        assert (self._after == self._canary).all(), "the kernel wrote behind its output"
        assert not (self.array == self._canary).any(), "the kernel left an output unwritten"
        return self.array
