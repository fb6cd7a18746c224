"""Parts of a kernel run on torch's OpenMP threads: each once, errors come back, forks are safe."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, team


@pytest.fixture
def run():
    torch.ones(2)  # torch, and so its OpenMP runtime, is in the process
    found = team.openmp()
    if found is None:
        pytest.skip("torch brings no libgomp here")
    return found


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_every_part_runs_once(run, n, threads):
    counts = np.zeros(n, int)
    run(lambda i: np.add.at(counts, i, 1), n, threads)
    np.testing.assert_array_equal(counts, 1)


def test_parts_run_on_threads_at_the_same_time(run):
    both = threading.Barrier(2, timeout=20)
    run(lambda i: both.wait(), 2, 2)


def test_an_error_of_a_part_comes_back(run):
    def part(i):
        if i == 1:
            raise KeyError("part 1")

    with pytest.raises(KeyError, match="part 1"):
        run(part, 2, 2)
    run(lambda i: None, 2, 2)  # and the threads are still there


def test_a_pool_serves_where_there_is_no_openmp(monkeypatch):
    monkeypatch.setattr(team, "openmp", lambda: None)
    monkeypatch.setattr(cpu, "_threads", 2)
    out = np.zeros(1000)
    cpu.parallel_rows(lambda start, stop, a: a[start:stop].__iadd__(1), 1000, out)
    np.testing.assert_array_equal(out, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent():
    code = """
import os, sys, torch
from bgfast_kernels import cpu
from bgfast.energies import ParticleDimer
cpu.set_threads(2)
energy = ParticleDimer()
x = energy.lattice_configuration(d=1.5).repeat(2000, 1).float()
here = energy.energy(x)
if (child := os.fork()) == 0:
    os._exit(0 if (energy.energy(x) == here).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # torch alone must not hang in the child
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=100)
    assert done.returncode == 0
