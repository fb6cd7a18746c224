"""The checks for a machine with a GPU, without one: what they run, and what they refuse."""

import copy
import importlib
import json
import math
import os
import sys
import time

import pytest

from benchmarks import gpu_checks
from bgfast.ops.backend import why_no_cuda

FAKE = """#!/bin/sh
echo "$0 $* caching off: $PYTORCH_NO_CUDA_MEMORY_CACHING"
for last; do :; done
case "$*" in
  *gpu_report*) echo '{}' > "$last" ;;
  *"run dimer"*) mkdir -p "$last"; touch "$last/big.pt"; cp "$SUMMARY" "$last/summary.json" ;;
esac
"""
SUMMARY = {"delta_f": 1.0, "agreement": {"delta_f": 0.05, "stderr": 0.03}, "seconds": {"data": 1}}


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(gpu_checks, "why_no_cuda", lambda: "")


def test_without_a_gpu_it_says_what_is_missing(tmp_path, capsys):
    if not why_no_cuda():
        pytest.skip("there is a GPU")
    assert gpu_checks.main([str(tmp_path / "out")]) == 1
    assert "need a GPU" in capsys.readouterr().err


def test_an_unknown_step_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_checks.main([str(tmp_path), "tset"])
    assert "no step tset" in capsys.readouterr().err


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Programs that succeed at once stand in for Python and compute-sanitizer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "compute-sanitizer"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    (tmp_path / "a-summary.json").write_text(json.dumps(SUMMARY))
    monkeypatch.setenv("SUMMARY", str(tmp_path / "a-summary.json"))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def test_all_steps_leave_eight_small_files(tmp_path, capsys, a_gpu, programs):
    out = tmp_path / "out"
    assert gpu_checks.main([str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*gpu_checks.STEPS]
    assert list(gpu_checks.STEPS)[:2] == ["gpu", "tests"]
    assert sorted(path.name for path in out.iterdir()) == [
        "dimer-1-summary.json",
        "dimer-2-summary.json",
        "dimer.log",
        "gpu.log",
        "gpu_report.json",
        "report.log",
        "sanitizer.log",
        "tests.log",
    ]
    assert "--require-gpu -p no:xdist -o addopts= " in (out / "gpu.log").read_text()
    followed = [t for t in (out / "sanitizer.log").read_text().splitlines() if t[0] != "+"]
    assert ["--tool memcheck" in t for t in followed] == [True, False]
    assert ["--tool racecheck" in t for t in followed] == [False, True]
    assert all("--report-api-errors no" in t and t.endswith("caching off: 1") for t in followed)
    assert (out / "report.log").read_text().endswith("caching off: \n")


def test_one_step_can_be_done_alone(tmp_path, capsys, a_gpu, programs):
    assert gpu_checks.main([str(tmp_path / "out"), "dimer"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert len(list((tmp_path / "out").iterdir())) == 3
    log = (tmp_path / "out" / "dimer.log").read_text()
    runs = [line for line in log.splitlines() if "run dimer --device cuda --seed 0" in line]
    assert len({line.split("--out ")[1].split()[0] for line in runs}) == 2


def test_what_is_run_under_the_sanitizer_exists():
    for name in gpu_checks.SANITIZED:
        path, _, function = name.partition("::")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert not function or callable(getattr(module, function))


def test_a_failed_step_is_reported_and_stops_no_other(tmp_path, capsys, a_gpu, monkeypatch):
    def fails(out, deadline):
        words = (sys.executable, "-c", "print('why'); exit(3)")
        gpu_checks.run(out / "fails.log", deadline, words)

    steps = {"fails": fails, "works": lambda out, deadline: None}
    monkeypatch.setattr(gpu_checks, "STEPS", steps)
    assert gpu_checks.main([str(tmp_path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "FAILED: exit status 3" in first
    assert "passed" in second
    assert (tmp_path / "fails.log").read_text().endswith("why\n")


def test_a_step_that_takes_too_long_is_ended_with_its_children(tmp_path):
    words = ("sh", "-c", "sleep 60 & echo $!; wait")
    with pytest.raises(gpu_checks.CheckError, match="not done after 1 s"):
        gpu_checks.run(tmp_path / "log", gpu_checks.Deadline(1.0), words, ("sleep", "60"))
    (child,) = [t for t in (tmp_path / "log").read_text().splitlines() if t.isdigit()]
    for _ in range(100):  # until whoever adopts it has waited for it
        if not _runs(int(child)):
            break
        time.sleep(0.05)
    assert not _runs(int(child))


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"seconds": {"data": 2}}, None),
        ({"delta_f": 1.1}, "different delta_f"),
        ({"a_later_key": 1.1}, "different a_later_key"),
    ],
)
def test_two_runs_of_one_seed_must_say_the_same(change, message):
    second = copy.deepcopy(SUMMARY) | change
    if message is None:
        gpu_checks.compare(SUMMARY, second)
    else:
        with pytest.raises(gpu_checks.CheckError, match=message):
            gpu_checks.compare(SUMMARY, second)


@pytest.mark.parametrize(("off", "stderr"), [(0.11, 0.2), (-0.06, 0.02), (math.nan, 0.1)])
def test_a_run_that_misses_the_reference_fails(off, stderr):
    wrong = SUMMARY | {"agreement": {"delta_f": off, "stderr": stderr}}
    with pytest.raises(gpu_checks.CheckError, match="off by"):
        gpu_checks.compare(wrong, wrong)


def test_a_run_without_a_reference_fails():
    alone = SUMMARY | {"agreement": None}
    with pytest.raises(gpu_checks.CheckError, match="nothing of umbrella sampling"):
        gpu_checks.compare(alone, alone)
