"""The GPU report without a GPU: its command line, its arithmetic, and a whole table by the shim."""

import ast
import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch
from bgfast_kernels import get
from bgfast_kernels import spec as spec_module

from benchmarks import gpu_case, gpu_end_to_end, gpu_report, gpu_timing, timing
from benchmarks.gpu_record import Record
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
    assert CARD.bound(4e12, 1.0) == (1.0, "memory")
    assert CARD.bound(1.0, 3.3e13) == (1.0, "issue")
    no_clock = dataclasses.replace(CARD, issue_rate=None)
    assert no_clock.bound(4e12, 1e30) == (1.0, "memory")


class Properties:
    name, multi_processor_count, L2_cache_size = "a card", 132, 50 << 20


@pytest.mark.parametrize(
    ("kilohertz", "smi", "rate"),
    [(1980000, "1500", 1.98e9), (None, "1500", 1.5e9), (None, "", None), (0, "[N/A]", None)],
)
def test_the_clock_is_what_torch_or_nvidia_smi_says_or_unknown(monkeypatch, kilohertz, smi, rate):
    properties = Properties()
    if kilohertz is not None:
        properties.clock_rate = kilohertz
    monkeypatch.setattr(gpu_timing, "nvidia_smi", lambda field: smi)
    assert gpu_timing.clock_rate(properties) == rate


@pytest.mark.parametrize("driver", [13000, -1])
def test_versions_are_found_or_left_out_but_never_an_error(monkeypatch, tmp_path, driver):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 580.159.03\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    with installed(Machine(driver=driver)) as machine:
        if driver < 0:
            machine.__dict__.pop("driver")  # whatever goes wrong in there
            monkeypatch.delattr(Machine, "driver")
        else:
            monkeypatch.setenv("PATH", str(tmp_path))
        found = gpu_timing.versions()
    assert found["cupy"] == "14.2.0"
    assert found["driver"] == ("580.159.03" if driver > 0 else "unknown")
    assert found.get("CUDA of the driver") == ("13.0" if driver > 0 else None)


@pytest.mark.parametrize("name", ["gpu_report", "gpu_timing", "gpu_case", "gpu_end_to_end"])
def test_every_attribute_of_torch_that_is_named_exists(name):
    path = Path(gpu_report.__file__).with_name(f"{name}.py")
    for node in ast.walk(ast.parse(path.read_text())):
        parts = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
        if parts[:1] == ["torch"] and all(part.isidentifier() for part in parts):
            assert functools.reduce(getattr, parts[1:], torch) is not None or parts[-1] == "cuda"


def test_the_whole_report_prints_and_keeps_its_tables(monkeypatch, tmp_path, capsys):
    class CardClock(Clock):
        def card(self):
            return dataclasses.replace(CARD, issue_rate=None)

    def whole(device, scale, record):
        assert (tmp_path / "report.json").exists()  # what came before is kept
        record.row("end-to-end", {"what": "a step", "scale": scale is gpu_end_to_end.QUICK})
        return 1

    def some_cases(device):
        for case in gpu_case.of_ops(["affine_coupling"], torch.device("cpu")):
            yield dataclasses.replace(case, call=case.reference)

    monkeypatch.setattr(gpu_report, "why_no_cuda", lambda: "")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(gpu_report, "CudaClock", CardClock)
    monkeypatch.setattr(gpu_report, "cases", some_cases)
    monkeypatch.setattr(gpu_report, "overheads", lambda *_: {"a call": 9.0})
    monkeypatch.setattr(gpu_end_to_end, "measure", whole)
    path = tmp_path / "report.json"
    assert gpu_report.main(["--sizes", "3", "--quick", "--json", str(path)]) == 1
    out = capsys.readouterr().out
    assert "bounds are of memory alone" in out
    assert "a call 9.0 us" in out
    found = json.loads(path.read_text())
    assert list(found) == ["card", "versions", "kernels", "host us", "end-to-end"]
    assert [row["dtype"] for row in found["kernels"]] == ["float32"]
    assert found["kernels"][0]["compiled"] == "-"
    assert found["end-to-end"] == [{"what": "a step", "scale": True}]
    assert gpu_report.main(["--sizes", "3", "--only", "kernels", "--json", str(path)]) == 0
    assert [r["dtype"] for r in json.loads(path.read_text())["kernels"]] == ["float32", "float64"]


def test_formulas_that_share_their_code_are_each_compiled(monkeypatch, capsys):
    eager = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", eager)
    (case,) = list(gpu_case.of_ops(["affine_coupling"], torch.device("cpu")))[:1]
    for k in range(12):  # more than torch.compile would compile of one function

        def reference(x, k=k):
            return (x * k,)

        formula = dataclasses.replace(case, reference=reference)
        assert gpu_report._compiled_seconds(formula, (torch.ones(3),), Clock(), 1) == 20e-6
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert gpu_report._compiled_seconds(formula, (torch.ones(3),), Clock(), 1) is None
    assert "nothing was compiled" in capsys.readouterr().err


def test_rows_beyond_those_sampled_are_copies(monkeypatch):
    monkeypatch.setattr(gpu_case, "_SAMPLED", 4)
    (case,) = list(gpu_case.of_ops(["assignment"], torch.device("cpu")))[:1]
    (x,) = case.inputs(10)
    assert len(x) == 10
    assert torch.equal(x[4:8], x[:4])
    assert torch.equal(x[8:], x[:2])
    assert case.bytes == case.dtype.itemsize * (x[0].numel() + x.shape[1])


def test_arguments_that_all_rows_share_are_on_the_device():
    meta = torch.device("meta")  # stands for a device that is not the CPU
    (case,) = list(gpu_case.of_ops(["assignment"], meta))[:1]
    (x,) = case.inputs(10)
    assert x.device == meta
    seen = []
    op = dataclasses.replace(TORCH_OPS["assignment"], function=lambda **a: seen.append(a))
    gpu_case._case(op, torch.float32, meta).call(x)
    assert seen[0]["x"].device == seen[0]["reference"].device == meta


def test_a_record_is_whole_after_every_row_and_prints_it(tmp_path, capsys):
    path = tmp_path / "found.json"
    record = Record(path)
    record.note("card", {"name": "a card"})
    for n in (1, 2):
        record.row("numbers", {"what": "some", "n": n, "x": n / 3})
        assert len(json.loads(path.read_text())["numbers"]) == n
        assert capsys.readouterr().out.splitlines()[-1].split() == ["some", str(n), f"{n / 3:.4g}"]
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]


def test_goals_are_those_of_the_usual_mapping():
    row = {"kernel": "dimer energy+gradient", "dtype": "float32", "B": 100_000, "us": 44.0}
    rows = [
        row | {"mapping": "symmetric-8 *", "eager": 90.0},
        row | {"mapping": "symmetric-4", "eager": "-"},
        row | {"mapping": "symmetric-8 *", "B": 10, "eager": 1.0},
    ]
    assert [(r["goal"], r["reached"]) for r in gpu_case.goals(rows)] == [
        ("us <= 45", True),
        ("eager >= 100", False),
    ]


def test_a_case_that_fails_leaves_the_others_their_turn(capsys):
    good, other = list(gpu_case.of_ops(["affine_coupling"], torch.device("cpu")))

    def fails(*arrays):
        raise RuntimeError("out of memory")

    record = Record()
    bad = dataclasses.replace(good, call=fails)
    works = dataclasses.replace(other, call=other.reference)
    assert gpu_report.measure([bad, works], [3], 1, Clock(), CARD, record) == 1
    assert [row["dtype"] for row in record.found["kernels"]] == ["float64"]
    assert "B = 3: out of memory" in capsys.readouterr().err


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
    record = Record()
    small = Card("a card", 4e12, 3.3e13, cache_bytes=1)
    with installed(Machine()):
        assert gpu_report.measure(chosen, [3], 1, Clock(), small, record, compiled=True) == 0
    rows = record.found["kernels"]
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
