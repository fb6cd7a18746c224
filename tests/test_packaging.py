"""What is installed: exactly two packages, with the data files they need, and light to import."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="needs the package build (extra dev)")
    pytest.importorskip("hatchling", reason="needs the package hatchling")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_wheel_holds_exactly_the_two_packages(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"bgfast", "bgfast_kernels"}


@pytest.mark.parametrize(
    "name",
    [
        "bgfast/py.typed",
        "bgfast_kernels/py.typed",
        "bgfast/analysis/templates/report.html.j2",
        "bgfast/experiments/presets/dimer.toml",
        "bgfast/experiments/presets/double-well.toml",
    ],
)
def test_wheel_holds_the_data_files(wheel, name):
    assert name in wheel


def test_wheel_holds_every_cuda_source(wheel):
    kernels = ROOT / "kernels"
    sources = {path.relative_to(kernels).as_posix() for path in kernels.rglob("*.cuh")}
    assert sources
    assert {name for name in wheel if name.endswith(".cuh")} == sources


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bgfast", ["torch", "numba"]),
        ("bgfast_kernels", ["torch", "cupy"]),
        ("bgfast.ops", ["cupy", "matplotlib"]),
        ("bgfast_kernels.cuda_programs", ["torch", "cupy"]),
        ("bgfast.cli", ["torch", "matplotlib"]),
    ],
)
def test_import_brings_only_what_is_needed(module, absent):
    code = f"import {module}, sys; print([m for m in {absent} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_import_changes_no_global_state():
    code = """
import torch, warnings, os
import numba, scipy.optimize, scipy.spatial, scipy.special, matplotlib.figure, h5py, pydantic
import rich.progress, typer, torch.library  # these have filters of their own
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(),
            warnings.filters[:], dict(os.environ))
before = state()
import bgfast.cli, bgfast.ops, bgfast.energies, bgfast.flows, bgfast.training.trainer
import bgfast.analysis, bgfast.sampling, bgfast.experiments.runner
after = state()
print([b for b, a in zip(before, after) if b != a])
"""
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
