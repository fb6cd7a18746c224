"""Kernels for the matrix unit on processors without one: what tests of networks promise holds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bgfast_kernels import network, vector_network

from tests.matrix_unit import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(network.is_supported(), reason="there is a matrix unit")
@pytest.mark.skipif(
    not vector_network.is_supported(vector_network.ROUNDED), reason="nothing rounds to bfloat16"
)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_networks_on_a_matrix_unit_in_software_pass_their_tests(tmp_path):
    tests = [
        "tests/kernels/test_network.py",
        "tests/kernels/test_network_memory.py",
        "tests/flows/test_dense_tiles.py",
        "tests/flows/test_coupling_block.py",
        "tests/flows/test_coupling_chain.py",
    ]
    options = ["-p", "tests.matrix_unit.plugin", "-p", "no:xdist", "-o", "addopts=", "-q"]
    command = [sys.executable, "-m", "pytest", *options, "-k", "not vectors", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    ran = int(done.stdout.split(" passed")[0].split()[-1])
    assert ran > 250
