"""The GPU report without a GPU: its command line, its arithmetic, and a whole table by the shim."""

import dataclasses
import json

import pytest
import torch
from bgfast_kernels import get
from bgfast_kernels import spec as spec_module

from benchmarks import gpu_case, gpu_report, timing
from benchmarks.gpu_timing import Card, buffer_sets
from bgfast.ops import TORCH_OPS, dimer_cuda, gauss_transform_cuda
from bgfast.ops.backend import why_no_cuda
from tests.cuda_shim import COMPILER
from tests.cuda_shim.fake_cupy import Machine, installed

CARD = Card("a card", copy_bandwidth=4e12, issue_rate=3.3e13, cache_bytes=50 << 20)


class Clock:
    """Runs every call once; a call takes 20 us, in a graph 10 us."""

    def per_call(self, calls, repeats):
        for call in calls:
            call()
        return 20e-6

    def per_replay(self, calls, repeats):
        return 10e-6


def density_grad(points, backend):
    """The op's forward pass on the CPU by the CUDA kernels, in the place of a CUDA tensor's."""
    p = points.double()
    if backend == "torch":
        return p, p
    share = torch.full_like(p, 1 / len(p))
    found = gauss_transform_cuda.gauss_transform_cuda(None, p, share, None, True, 0.1, 0, [], 1)
    assert all(t.isfinite().all() for t in found)
    return p, p


@pytest.mark.parametrize("command", [["--sizes", "a"], ["--sizes", "0"], ["--repeats", "0"]])
def test_a_bad_command_line_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        gpu_report.arguments(command)
    assert "--sizes must be positive numbers" in capsys.readouterr().err


def test_sizes_may_be_written_as_floats():
    assert gpu_report.arguments(["--sizes", "1e2,5,1e5"]).sizes == [100, 5, 100_000]


@pytest.mark.skipif(not why_no_cuda(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing(capsys):
    assert gpu_report.main([]) == 1
    assert "this report needs a GPU: torch " in capsys.readouterr().err


def test_the_bound_is_the_slower_of_memory_and_issue():
    assert CARD.bound(4e12, 1.0) == 1.0
    assert CARD.bound(1.0, 3.3e13) == 1.0


def test_buffers_rotate_over_more_than_the_cache():
    assert buffer_sets(30 << 20, CARD) * (30 << 20) >= 2 * CARD.cache_bytes
    assert buffer_sets(1 << 40, CARD) == 1
    assert buffer_sets(1, CARD) == 64


def test_every_op_with_a_cuda_kernel_has_a_case(monkeypatch):
    twin = dataclasses.replace(TORCH_OPS["spline"], name="twin")
    spec = dataclasses.replace(get("spline"), name="twin")
    numba = {"numba": spec.implementations["numba"]}
    lone = dataclasses.replace(spec, name="lone", implementations=numba)
    monkeypatch.setitem(TORCH_OPS, "twin", twin)
    monkeypatch.setitem(TORCH_OPS, "lone", dataclasses.replace(twin, name="lone"))
    monkeypatch.setitem(spec_module._REGISTRY, "twin", spec)
    monkeypatch.setitem(spec_module._REGISTRY, "lone", lone)
    chosen = list(gpu_report.cases(torch.device("cpu")))
    with_case = {case.kernel.split()[0] for case in chosen}
    assert "lone" not in with_case
    assert {"pair_lennard_jones", "affine_coupling", "spline", "twin", "dimer", "kde"} <= with_case
    assert with_case == set(gpu_case.names())


def test_a_case_of_an_op_moves_what_it_reads_and_writes():
    (case,) = [
        c
        for c in gpu_case.of_ops(["pair_lennard_jones"], torch.device("cpu"))
        if c.dtype == torch.float32
    ]
    (x,) = case.inputs(5)
    u, grad = case.reference(x)
    assert case.bytes == 4 * (x.shape[1] + 1 + grad.shape[1])
    assert (u.shape, grad.shape) == ((5,), x.shape)


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_every_case_gives_a_row_with_a_small_error(monkeypatch):
    where = {"device": 0, "stream": 0}
    monkeypatch.setattr(gpu_report, "place", lambda x: where)
    monkeypatch.setattr(dimer_cuda, "place", lambda x: where)
    monkeypatch.setattr(gpu_report, "dimer_hvp", lambda x, v, p, backend: dimer_cuda.hvp(x, v, p))
    monkeypatch.setattr(gpu_report, "_compiled_seconds", lambda *_: 40e-6)
    monkeypatch.setattr(gauss_transform_cuda, "place", lambda x: where)
    monkeypatch.setattr(gpu_report, "_density_grad", density_grad)
    monkeypatch.setattr(gpu_case, "BACKEND", "numba")  # on the CPU; shim tests run the CUDA kernels
    chosen = list(gpu_report.cases(torch.device("cpu")))
    small = Card("a card", 4e12, 3.3e13, cache_bytes=1)
    with installed(Machine()):
        rows = gpu_report.measure(chosen, [3], 1, Clock(), small)
    assert len(rows) == 16 + 2 * (len(gpu_case.names()) - 2)
    for row in rows:
        assert row["error"] < (1e-5 if row["dtype"] == "float32" else 1e-12)
        assert row["rows/s"] == 3 / 10e-6
        assert 0 < row["GB/s"] < 1.0
        assert ("*" in row["mapping"]) == (row["compiled"] == 2.0) == (row["eager"] == 1.0)
    head, *lines = timing.table(rows).splitlines()
    assert head.split()[:4] == ["kernel", "mapping", "dtype", "B"]
    assert len(lines) == len(rows)
    json.dumps(rows)
