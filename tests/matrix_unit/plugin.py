"""Let kernels for the matrix unit call the one in software."""

import ctypes
import os

import llvmlite.binding
from bgfast_kernels import network
from bgfast_kernels.network import amx

from tests.matrix_unit import LIBRARY

_NAMES = (
    "ldtilecfg",
    "tilerelease",
    "tileloadd64",
    "tileloaddt164",
    "tilestored64",
    "tilezero",
    "tdpbf16ps",
)

_library = ctypes.CDLL(os.environ[LIBRARY])
for _name in _NAMES:
    _function = getattr(_library, f"bgfast_{_name}")
    _address = ctypes.cast(_function, ctypes.c_void_p).value
    llvmlite.binding.add_symbol(f"bgfast_{_name}", _address)

_call = amx._call
amx._call = lambda builder, name, values: _call(
    builder, name.replace("llvm.x86.", "bgfast_"), values
)
network.is_supported = lambda: True
