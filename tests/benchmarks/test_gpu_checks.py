"""The checks for a machine with a GPU, without one: what they run, and what they refuse."""

import copy
import sys

import pytest

from benchmarks import gpu_checks
from bgfast.ops.backend import why_no_cuda

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


def test_a_failed_step_is_reported_and_stops_no_other(tmp_path, capsys, a_gpu, monkeypatch):
    def fails(out):
        gpu_checks.command(out / "fails.log", sys.executable, "-c", "print('why'); exit(3)")

    steps = {"fails": fails, "works": lambda out: None}
    monkeypatch.setattr(gpu_checks, "STEPS", steps)
    assert gpu_checks.main([str(tmp_path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "FAILED: exit status 3" in first
    assert "passed" in second
    assert (tmp_path / "fails.log").read_text().endswith("why\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"seconds": {"data": 2}}, None),
        ({"delta_f": 1.1}, "different delta_f"),
    ],
)
def test_two_runs_of_one_seed_must_say_the_same(change, message):
    second = copy.deepcopy(SUMMARY) | change
    if message is None:
        gpu_checks.compare(SUMMARY, second)
    else:
        with pytest.raises(gpu_checks.CheckError, match=message):
            gpu_checks.compare(SUMMARY, second)


@pytest.mark.parametrize(("off", "stderr"), [(0.11, 0.2), (-0.06, 0.02)])
def test_a_run_that_misses_the_reference_fails(off, stderr):
    wrong = SUMMARY | {"agreement": {"delta_f": off, "stderr": stderr}}
    with pytest.raises(gpu_checks.CheckError, match="off by"):
        gpu_checks.compare(wrong, wrong)
