"""What an annealing run says it evaluated is what it evaluated."""

import pytest
import torch
from bgfast_kernels import montecarlo

from bgfast.energies import DoubleWell
from bgfast.experiments.dimer_evaluations import with_annealing
from bgfast.experiments.evaluations import SWEEP, EnergyEvaluations
from bgfast.flows import Sequential, architecture
from bgfast.sampling.anneal import AnnealSettings, anneal, population, run
from bgfast.sampling.metropolis_cuda import DeviceMoves
from tests.cuda_shim import COMPILER
from tests.montecarlo_shim import tensors_of_the_cpu

SETTINGS = AnnealSettings(
    n_samples=600, islands=2, draws=2, pilot=400, chunk=700, cess=0.9, resample_below=0.9
)
SWEEPS = {"sweeps": 4, "sweeps_from": 0.3, "hmc_until": 0.6, "final_sweeps": 2, "final_frames": 3}


@pytest.fixture
def rows(monkeypatch):
    """Rows that each function was really given, while a test runs."""
    found = {"energy": 0, "kernel": 0, "flow": 0, "inverse": 0, "sweeps": 0}
    monkeypatch.setattr(population, "_LEAST_ROWS", 1)  # batches are not filled up

    def watch(owner, name, kind, number):
        function = getattr(owner, name)

        def watched(*args):
            found[kind] += number(*args)
            return function(*args)

        monkeypatch.setattr(owner, name, watched)

    watch(DoubleWell, "_energy", "energy", lambda energy, x: len(x))
    watch(montecarlo, "evaluate", "kernel", lambda system, x: len(x))
    watch(Sequential, "forward", "flow", lambda flow, z: len(z))
    watch(Sequential, "inverse", "inverse", lambda flow, x: len(x))
    watch(
        montecarlo, "advance", "sweeps", lambda system, moves, w, n, stride: len(w.x) * n * stride
    )
    watch(
        DeviceMoves,
        "advance",
        "sweeps",
        lambda moves, state, n, stride: len(state["x"]) * n * stride,
    )
    return found


@pytest.mark.parametrize("options", [{}, SWEEPS], ids=["hmc", "sweeps"])
@pytest.mark.parametrize("interval", [None, (-9.0, 1.0)], ids=["free", "interval"])
@pytest.mark.parametrize("on_device", [False, True], ids=["cpu", "device"])
def test_rows_are_counted_as_they_are_evaluated(monkeypatch, rows, options, interval, on_device):
    settings = AnnealSettings(**(vars(SETTINGS) | options))
    flow = architecture("R2", 2, (8,), dtype=torch.float64)
    if not on_device:
        made = anneal(flow, DoubleWell(2), settings, interval=interval).evaluations
    elif options and COMPILER is None:
        pytest.skip("needs g++")
    else:
        monkeypatch.setattr(run, "_run", run._run_on_device)
        with tensors_of_the_cpu():
            made = anneal(flow, DoubleWell(2), settings, interval=interval).evaluations
    assert made.flow + made.gradient == rows["flow"] > 0
    assert made.flow + made.gradient + made.starts == rows["energy"] + rows["kernel"]
    assert made.inverse == rows["inverse"]
    assert made.sweeps == rows["sweeps"]
    assert all(n > 0 for n in (made.starts, made.inverse, made.sweeps)) == bool(options)
    total = with_annealing(EnergyEvaluations(0, 0, 5), vars(made)).total
    assert total == 5 + rows["energy"] + rows["kernel"] + SWEEP * rows["sweeps"]
