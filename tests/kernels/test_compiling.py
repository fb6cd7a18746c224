"""Kernels of one factory stay apart, also where several processes compiled them."""

import subprocess
import sys

import pytest
from bgfast_kernels import cpu

FACTORY = """
import sys
import numpy as np
import torch
from bgfast_kernels import cpu


def make(value):
    @cpu.jit(key=str(value))
    def kernel(start, stop, out):
        for i in range(start, stop):
            out[i] = value

    return kernel


torch.ones(2)
kernels = [make(int(value)) for value in sys.argv[1:]]
for threads in (1, 2):  # by numba, then by the address of native code
    cpu.set_threads(threads)
    for kernel in kernels:
        out = np.zeros(4)
        cpu.parallel_rows(kernel, 4, out, min_rows=1)
        print(*out.astype(int))
"""


def test_kernels_that_two_processes_compiled_are_not_taken_for_each_other(tmp_path):
    program = tmp_path / "factory.py"
    program.write_text(FACTORY)

    def run(*values):
        command = [sys.executable, str(program), *values]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    for value in ("5", "6"):
        assert run(value) == 8 * [value]
    assert run("5", "6") == 2 * (4 * ["5"] + 4 * ["6"])


def test_a_kernel_of_a_factory_needs_a_name_of_its_own():
    value = 5

    def kernel(start, stop, out):
        out[start:stop] = value

    with pytest.raises(ValueError, match="key must name what .*kernel closes over"):
        cpu.jit(kernel)
