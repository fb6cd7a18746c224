"""The calls that compute-sanitizer follows on a GPU: no kernel is missing, and they are right."""

import sys

import pytest
import torch
from bgfast_kernels import cuda
from bgfast_kernels.cuda_programs import programs

from tests import cuda_shim
from tests.cuda_shim.fake_cupy import Machine, installed
from tests.kernel_calls import calls

CALLS = calls()
SOME = (  # one of each kind; the kernels themselves have tests of their own
    "dimer N=100 float64",
    "lennard_jones N=13 float32",
    "affine inverse float32",
    "spline forward float32",
    "energy cap float32",
    "assignment",
    "kernel density h=0.1",
    "its derivative h=0.1",
    "Monte Carlo Mueller-Brown all",
)
CPU = torch.device("cpu")
LAUNCHING = [m for k, m in sys.modules.items() if k.startswith("bgfast.") and hasattr(m, "place")]


@pytest.fixture(autouse=True)
def _cpu_tensors_as_they_are(monkeypatch):
    for module in LAUNCHING:
        monkeypatch.setattr(module, "place", lambda x: {"device": 0, "stream": 0})


def kernels_of(program):
    return set(cuda_shim._KERNEL.findall(program.source()))


def test_every_kernel_of_every_program_that_ships_is_called(monkeypatch):
    launched = set()

    def launch(program, kernel, **_):
        assert kernel in kernels_of(program)
        launched.add((program, kernel))

    monkeypatch.setattr(cuda, "launch", launch)
    for call in CALLS.values():
        call.kernels(*call.inputs)
    shipped = {(label, p, kernel) for label, p in programs().items() for kernel in kernels_of(p)}
    assert len(shipped) > len(programs()) > 20
    assert [(label, k) for label, p, k in shipped if (p, k) not in launched] == []


@pytest.mark.skipif(cuda_shim.COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("label", SOME)
def test_the_shim_runs_it_with_the_results_of_the_cpu(label):
    with installed(Machine()):
        CALLS[label].check(CPU)
