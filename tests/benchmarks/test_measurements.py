"""Scaling, ratios, peak memory, and the tables in README."""

import copy
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from bgfast_kernels import vector_network

import benchmarks
from benchmarks import limits, memory, ratios, readme, runs, scaling
from benchmarks.peak import peak_growth
from benchmarks.ratios import Times, row
from benchmarks.throughput import OpCall
from bgfast.experiments.config import read_table
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.folder import RunFolder
from bgfast.flows import RealNVP, architecture
from bgfast.ops import dimer_energy_grad
from bgfast.ops.dimer_reference import reference_energy_grad


def test_exponents_are_those_of_power_laws_at_the_largest_sizes() -> None:
    sizes = [1, 10, 100, 1000, 10_000]
    values = [5.0, 5.0, 3e4, 3e6, 3e8]  # a fixed cost first
    assert scaling.exponent(sizes, values) == pytest.approx(2.0)


@pytest.mark.parametrize("n_particles", [8, 37, 512])
def test_the_kernel_that_is_scaled_is_right_for_any_particle_number(n_particles: int) -> None:
    x, parameters = scaling.configurations(3, n_particles)
    assert parameters.n_particles == n_particles
    expected = reference_energy_grad(x.double(), parameters)
    for found, reference in zip(dimer_energy_grad(x.double(), parameters), expected, strict=True):
        scale = reference.abs().max()
        torch.testing.assert_close(found / scale, reference / scale, rtol=0, atol=1e-12)


def test_scaling_runs_and_draws_its_figure(monkeypatch, tmp_path, capsys) -> None:
    few = [
        scaling.Curve("energy + gradient", "B", [1, 10, 100], scaling.energy),
        scaling.Curve("relabelling", "N", [4, 8], lambda n: scaling.relabelling(4, n)),
        scaling.Curve("Metropolis", "N", [4, 8], scaling.sweep),
        scaling.Curve("kernel density", "B", [10, 100], scaling.density),
    ]
    monkeypatch.setattr(scaling, "curves", lambda quick: few)
    out, png = tmp_path / "scaling.json", tmp_path / "scaling.png"
    scaling.main(["--quick", "--json", str(out), "--figure", str(png)])
    found = json.loads(out.read_text())
    assert [f["what"] for f in found["fits"]] == [c.what for c in few]
    assert len(found["points"]) == 9
    assert all(p["seconds"] > 0 for p in found["points"])
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "time ~ N^" in capsys.readouterr().out


def test_drawing_reports_peak_memory() -> None:
    found = scaling.draw(2000)
    assert found["n"] == 2000
    assert 1 <= found["ess"] <= 2000
    assert found["peak_mib"] > found["rise_mib"] >= 0


def test_peak_growth_sees_what_is_returned_before_the_end() -> None:
    def allocate_and_drop() -> None:
        np.ones(8_000_000).sum()

    assert 60e6 < peak_growth(allocate_and_drop) < 80e6
    assert peak_growth(lambda: None) < 5e6


def test_a_ratio_is_taken_within_each_repetition() -> None:
    rounds = [([2.0, 10.0], [1.0, 2.0]), ([60.0], [20.0])]
    found = row([Times("a / b", above, below, ">= 1") for above, below in rounds])
    assert found["seconds"] == [10.0, 2.0]
    assert found["ratio"] == 3.0  # of 2, 5 and 3; that of the medians is 5


@pytest.mark.parametrize("counts", [(0, 9), (5, 0), (1, 1)])
def test_ratios_refuse_too_few_turns_for_quartiles_before_they_measure(
    counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ratios, "measure", lambda *_: pytest.fail("has measured"))
    with pytest.raises(SystemExit):
        ratios.main([f"--rounds={counts[0]}", f"--repeats={counts[1]}"])
    assert f"got {counts[0]} and {counts[1]}" in capsys.readouterr().err


def test_an_op_without_the_backend_is_skipped_by_asv() -> None:
    with pytest.raises(NotImplementedError):
        OpCall("dimer", "abacus", "float32", 1)


def test_memory_of_an_op_is_that_of_its_results() -> None:
    suite = memory.OpMemory()
    suite.setup("dimer", "float64", 20_000)
    size = 20_000 * 76 * 8 / 2**20  # the gradient
    assert 0.9 * size < suite.track_peak("dimer", "float64", 20_000) < 4 * size


def test_readme_takes_the_measured_tables(tmp_path) -> None:
    timed = {"q1": 1e-7, "q3": 3e-7, "question": "energy", "case": "B = 1", "status": "timed"}
    peers = [
        {**timed, "code": "bgfast", "median": 2e-7, "relative": 1.0},
        {**timed, "code": "bgfast, high precision", "median": 1e-7, "relative": 0.5},
        {**timed, "code": "torch eager, autograd", "median": 5e-5, "relative": 250.0},
        {**timed, "code": "bgflow, autograd", "median": None, "relative": None}
        | {"status": "disagrees: error 1"},
        {**timed, "code": "OpenMM", "median": None, "relative": None} | {"status": "absent: x"},
    ]
    content = {"machine": {"cpu": "Some CPU", "avx512": True, "threads": 2}, "rows": peers}
    (tmp_path / "peers.json").write_text(json.dumps(content))
    inside = readme.section("measured", tmp_path)
    row = (
        "| Energy + gradient: B = 1 | 200 ns [100, 300] | 0.5x |  | 250x |  |  | bgflow disagrees |"
    )
    assert row in inside
    assert "Some CPU (AVX-512), threads 2." in inside
    text = "before\n<!-- measured: start -->\nold\n<!-- measured: end -->\nafter\n"
    once = readme.replaced(text, "measured", inside)
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert readme.replaced(once, "measured", inside) == once


def test_limits_count_the_products_that_gradients_take() -> None:
    flow = architecture("R1", 6, (4, 5))
    (block,) = (m for m in flow.modules() if isinstance(m, RealNVP))
    groups = [(block.scale_1, block.shift_1), (block.scale_2, block.shift_2)]
    one = 3 * 4 + 4 * 5 + 5 * 3
    assert limits.n_products(groups) == 4 * 3 * one - 2 * 3 * 4  # but by what the first two see


with_kernels = pytest.mark.skipif(
    not vector_network.is_supported(), reason="needs kernels of whole networks"
)


@with_kernels
def test_networks_alone_take_all_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = architecture("R1", 6, (24, 40))
    with torch.no_grad():
        for parameter in flow.parameters():  # the last layers are 0
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    (block,) = (m for m in flow.modules() if isinstance(m, RealNVP))
    groups = [(block.scale_1, block.shift_1), (block.scale_2, block.shift_2)]
    inputs = [torch.randn(100, 3, generator=generator) for _ in groups]
    grads = [torch.randn(2, 100, 3, generator=generator) for _ in groups]
    found = limits.networks_alone(groups, inputs, grads)()
    for group, x, grad, gradients in zip(groups, inputs, grads, found, strict=True):
        for i, net in enumerate(copy.deepcopy(net).double() for net in group):
            weights, biases = net.parameter_lists()
            net(x.double()).backward(grad[i].double())
            own = slice(i * len(weights), (i + 1) * len(weights))
            for parameters, arrays in ((weights, gradients.weights), (biases, gradients.biases)):
                for parameter, array in zip(parameters, arrays[own], strict=True):
                    got = torch.from_numpy(array).double().reshape(parameter.shape)
                    torch.testing.assert_close(got, parameter.grad, rtol=1e-4, atol=1e-4)


@with_kernels
def test_limits_stand_beside_what_is_timed(tmp_path) -> None:
    done: list[int] = []
    rows = limits.measure_with(lambda n: done.append(n) or 0.0, [512], repeats=2)
    codes = ["bgfast", "torch eager", "multiply-adds", "networks alone"]
    assert [row["contender"] for row in rows[:4]] == codes
    r8, block = 38 * 200 + 200 * 200 * 2 + 200 * 38, 38 * 200 + 200 * 200 * 2 + 200 * 38 * 23
    products = 3 * 32 * r8 - 2 * 38 * 200, 3 * 2 * block - 38 * 200
    assert set(done) == {512 * n for n in products}
    assert all(row["us_per_sample"] > 0 for row in rows if row["contender"] != "multiply-adds")
    assert {row["ratio"] for row in rows if row["contender"] == "bgfast"} == {1.0}


def test_readme_takes_limits_and_says_their_shares(tmp_path) -> None:
    times = {"bgfast": 30.0, "zuko 1": 80.0, "multiply-adds": 16.0, "networks alone": 20.0}
    rows = [
        {"task": "a block", "batch": 1024, "contender": code, "us_per_sample": t, "q1": t, "q3": t}
        for code, t in times.items()
    ]
    rows.append(rows[0] | {"task": "a step", "us_per_sample": 9.0})
    (tmp_path / "limits.json").write_text(json.dumps({"rows": rows}))
    table, words = readme.section("measured", tmp_path).split("\n\n")
    assert table.splitlines()[0].endswith("| a block, B = 1,024 | a step, B = 1,024 |")
    assert "| bgfast | 30 [30, 30] | 9 [30, 30] |" in table
    assert "| zuko 1 | 80 [80, 80] |  |" in table
    assert "in the time of the networks: 80% (a block, B = 1,024)." in words
    assert words.endswith("zuko 1 in the time of the multiply-adds: 1.25 (a block, B = 1,024).")
    (tmp_path / "limits.json").write_text(json.dumps({"rows": rows[:2]}))  # without gcc and kernels
    assert "| zuko 1 | 80 [80, 80] |" in readme.section("measured", tmp_path)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_multiply_adds_are_as_many_as_asked_for(tmp_path) -> None:
    do = limits.multiply_adds(tmp_path)
    # Sixteen sums start at 0, 1, ... and 16 x 16 numbers grow by one with as many multiply-adds.
    assert do(16 * 16 * 1000) == sum(range(16)) + 16 * 1000


def test_readme_takes_spline_blocks_of_every_code(tmp_path) -> None:
    block = {"subject": "block", "mode": "forward+backward", "q1": 1.0, "q3": 3.0}
    rows = [
        {**block, "implementation": code, "batch": n, "us_per_sample": median}
        for code, median in (("bgfast", 2.0), ("zuko 1", 20.0))
        for n in (64, 1024)
    ]
    rows.append({**rows[0], "subject": "transform", "implementation": "left out"})
    content = {"machine": {"cpu": "Some CPU", "torch": "2"}, "rows": rows}
    (tmp_path / "spline.json").write_text(json.dumps(content))
    inside = readme.section("measured", tmp_path)
    assert "| forward + backward, B = 64 | forward + backward, B = 1,024 |" in inside
    assert "| zuko 1 | 20 [1, 3] | 20 [1, 3] |" in inside
    assert "Some CPU, torch 2." in inside
    assert "left out" not in inside


@pytest.mark.parametrize("name", readme.SECTIONS)
def test_readme_says_what_the_results_say(name: str) -> None:
    text = (readme.ROOT / "README.md").read_text()
    assert text.count(f"<!-- {name}: start -->") == text.count(f"<!-- {name}: end -->") == 1
    assert readme.replaced(text, name, readme.section(name, readme.RESULTS)) == text


def run_folder(path, preset="dimer", **changes):
    config = DimerConfig.model_validate(read_table(preset) | changes)
    return RunFolder.open(path, config, resume=False)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be bound here")
def test_processors_are_counted_where_each_thread_is_bound_to_one() -> None:
    code = "import os; from benchmarks import machine; print(machine.cores(), end=' ')"
    code += "; print(len(os.sched_getaffinity(0)))"
    found = []
    for binding in ({}, {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | binding, capture_output=True, check=True
        )
        found.append([int(count) for count in done.stdout.split()])
    (free, all_of_them), (bound, _) = found
    assert bound == free == all_of_them


def test_what_a_run_said_is_kept(tmp_path) -> None:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "stderr": 0.1}

    at_2 = {"delta_f": estimate(-1.0), "reference": {"delta_f": estimate(-3.0)}}
    at_2 |= {"agreement": {"profile_largest": 0.25}}
    without_reference = {"delta_f": estimate(-4.0), "reference": None}
    summary = {"tau": 2.0, "temperatures": {"2.0": at_2, "0.5": without_reference}}
    summary |= {"estimators": {"plain": {"delta_f": estimate(2.0)}}}
    summary |= {"seconds": {"training": 7.0}, "versions": {"bgfast": "1"}}
    folder = run_folder(tmp_path / "run", "dimer-temperatures", seed=3)
    (folder.path / "summary.json").write_text(json.dumps(summary))
    kept = tmp_path / "runs.json"
    older = {"command": "bgfast run other", "tau": 1.0, "seconds": {}}
    kept.write_text(json.dumps({"rows": [older]}))
    for _ in range(2):  # the second time what is there is replaced
        runs.main([str(folder.path), "--json", str(kept)])
    first, *rows = json.loads(kept.read_text())["rows"]
    assert first == older
    assert [row["seconds"] for row in rows] == [{"training": 7.0}] * 2
    kept.write_text(json.dumps({"rows": rows}))
    command = "`bgfast run dimer-temperatures --seed 3`"
    assert readme.section("runs", tmp_path).splitlines()[2:] == [
        f"| {command}, tau = 2 | -1.00 ± 0.10 |  | 2.00 ± 0.10 | -3.00 ± 0.10 | 0.25 |",
        f"| {command}, tau = 0.5 | -4.00 ± 0.10 |  |  |  |  |",
    ]


@pytest.mark.parametrize(
    ("preset", "changes", "expected"),
    [
        ("dimer", {}, "dimer --seed 0"),
        ("dimer-paper", {"seed": 5}, "dimer-paper --seed 5"),
        ("dimer", {"system": {"preset": "figure"}}, "dimer --seed 0 --set system.preset=figure"),
        (
            "dimer",
            {"system": {"preset": "figure", "a": 20.0}},
            "dimer --seed 0 --set system.preset=figure --set system.a=20.0",
        ),
    ],
)
def test_the_command_leads_to_the_run(tmp_path, preset, changes, expected) -> None:
    folder = run_folder(tmp_path / "run", preset, **changes)
    line = runs.command(folder.table())
    assert line == f"bgfast run {expected}"
    words = line.split()
    table = read_table(words[2], overrides=tuple(words[6::2])) | {"seed": int(words[4])}
    again = RunFolder.open(tmp_path / "again", DimerConfig.model_validate(table), resume=False)
    assert again.table() | {"description": ""} == folder.table() | {"description": ""}


def test_what_is_no_run_is_said(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        runs.main([str(tmp_path), "--json", str(tmp_path / "runs.json")])
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "runs.json").exists()


def test_asv_can_import_every_benchmark_without_the_tests() -> None:
    """In the environments asv builds there are the benchmarks and the package, no more."""
    names = [m.name for m in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
    code = "import sys, importlib; sys.modules['tests'] = None\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in names if not name.endswith("__main__")
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=readme.ROOT, timeout=60)


def test_the_scatter_of_seeds_stands_beside_stated_errors() -> None:
    def row(command: str, value: float, stderr: float) -> dict[str, Any]:
        return {"command": command, "delta_f": {"value": value, "stderr": stderr}}

    rows = [row("bgfast run dimer --seed 0", -1.0, 0.3), row("bgfast run other --seed 0", 9.0, 9.0)]
    assert readme.spread_of_seeds(rows) == []
    rows.append(row("bgfast run dimer --seed 12", -1.2, 0.1))
    rows.append(row("bgfast run dimer --seed 1 --set flow.precision=high", 5.0, 5.0))
    _, first, second = readme.spread_of_seeds(rows)
    assert first.startswith("2 seeds")
    assert first.endswith("scatter by 0.141 about -1.100;")
    assert "errors are 0.224 (root" in second
