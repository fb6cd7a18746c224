"""Every shipped CUDA kernel compiles for every architecture: no spills, few registers."""

import json
import re
from pathlib import Path

import bgfast_kernels
import pytest
from bgfast_kernels import cuda, get, names
from bgfast_kernels.cuda_programs import ARCHITECTURES, programs

from tests import nvrtc

PROGRAMS = programs()
# Largest number of registers a thread may use, and still a good many threads fit on the chip.
CEILINGS = json.loads(Path(__file__).with_name("cuda_registers.json").read_text())

needs_nvrtc = pytest.mark.skipif(
    nvrtc.library() is None, reason=f"needs NVRTC: pip install {nvrtc.PACKAGES[0]} (extra test)"
)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("label", PROGRAMS)
def test_it_compiles_without_spills_within_its_registers(label, architecture):
    program = PROGRAMS[label]
    kernels, ptx = nvrtc.compile_for(program.source(), architecture)
    assert {kernel.name for kernel in kernels} == set(CEILINGS[label])
    for kernel in kernels:
        assert kernel.spills == kernel.stack == 0
        assert kernel.registers <= CEILINGS[label][kernel.name]
    if program.dtype == "float32":
        assert not double_arithmetic(ptx)


def double_arithmetic(ptx):
    """Return the instructions of a PTX that work on float64 numbers."""
    return re.findall(r"^\s*(?:@\S+ )?(\w[\w.]*\.f64\b\S*)", ptx, re.MULTILINE)


@needs_nvrtc
def test_spills_and_double_precision_are_noticed():
    source = """
    extern "C" __global__ void __launch_bounds__(1024, 2) k(float *x, int n) {
        float a[96];
        for (int i = 0; i < 96; ++i) a[i] = x[i * n];
        for (int i = 0; i < 96; ++i) x[i * n] = a[95 - i] * 2.5 + a[i];
    }"""
    (kernel,), ptx = nvrtc.compile_for(source, "sm_90")
    assert kernel.spills > 0
    assert any("fma" in i or "mul" in i for i in double_arithmetic(ptx))


@needs_nvrtc
def test_an_error_of_the_source_is_the_message():
    with pytest.raises(RuntimeError, match="undefined"):
        nvrtc.compile_for('extern "C" __global__ void k() { missing(); }', "sm_90")


def test_the_table_holds_the_shipped_programs():
    assert set(CEILINGS) == set(PROGRAMS)


def test_every_source_file_is_part_of_a_shipped_program():
    root = Path(bgfast_kernels.__file__).parent
    used = set()
    for program in PROGRAMS.values():
        cuda._inline(program.path, used)
    assert {str(path.relative_to(root)) for path in root.rglob("*.cuh")} == used


def test_every_cuda_implementation_ships_a_program():
    for name in names():
        if implementation := get(name).implementations.get("cuda"):
            package = implementation.split(":")[0].split(".")[1]
            assert any(program.path.startswith(f"{package}/") for program in PROGRAMS.values())
