"""The command line, end to end on tiny systems: what a run leaves, resume, and one-line errors."""

import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_anneal import DimerLabelling
from bgfast.experiments.progress import Reporter
from bgfast.experiments.runner import analyze_run, run_experiment, sample_run
from bgfast.training.checkpoint import load_checkpoint

DIMER = """
experiment = "dimer"
reference = "none"
[system]
n_solvent = 3
[data]
tau = [1.0, 2.0]
n_walkers = 4
burn_in = 60
n_frames = 30
stride = 2
held_out = 0.5
flat_walkers = 4
[flow]
architecture = "R2"
hidden = [16]
split = "particle"
whitening = "standardise"
[training]
rc_bounds = [0.5, 2.5]
log_every = 2
checkpoint_every = 2
[[training.stages]]
steps = 4
batch_ml = 32
w_ml = 1.0
[[training.stages]]
steps = 4
batch_ml = 32
batch_kl = 32
w_ml = 1.0
w_kl = 0.1
w_rc = 1.0
[sampling]
n = 600
tau = [1.0, 2.0]
chunk = 256
[anneal]
n_samples = 64
islands = 2
cess = 0.5
sweeps = 2
sweeps_from = 0.0
final_sweeps = 4
final_frames = 1
"""

DOUBLE_WELL = """
experiment = "double-well"
networks = ["N1S", "R1"]
[data]
n_steps = 200
[flow]
hidden = [8]
[[training.first]]
steps = 3
w_ml = 1.0
[[training.modes.ml]]
steps = 2
w_ml = 1.0
[[training.modes."kl+rc"]]
steps = 2
batch_kl = 64
w_kl = 1.0
w_rc = 1.0
[sampling]
n = 500
latent = "sobol"
[anneal]
n_samples = 64
islands = 2
cess = 0.5
bias = "flatten"
"""

MUELLER_BROWN = """
experiment = "mueller-brown"
networks = ["R2"]
[data]
start = [[-0.5, 1.5], [0.5, 0.0]]
n_steps = 200
held_out = 2
burn_in = 20
[flow]
hidden = [8]
[[training.first]]
steps = 3
w_ml = 1.0
[[training.modes.ml]]
steps = 2
w_ml = 1.0
[sampling]
n = 500
[anneal]
n_samples = 64
islands = 2
cess = 0.5
"""

TEXTS = {"dimer": DIMER, "double-well": DOUBLE_WELL, "mueller-brown": MUELLER_BROWN}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run of each experiment."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {}
    for name, text in TEXTS.items():
        (folder / f"{name}.toml").write_text(text)
        source = str(folder / f"{name}.toml")
        runs[name] = run_experiment(source, out=folder / name, reporter=Reporter(quiet=True))
    return runs


def bgfast(*arguments, cwd):
    command = [sys.executable, "-c", "from bgfast.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_run_leaves_summary_report_samples_and_figures(finished, name):
    folder = finished[name]
    summary = json.loads(folder.summary.read_text())
    keys = (
        "system n seconds ess max_weight pareto_k delta_f profile nonfinite discarded seed "
        "versions estimator estimators trust"
    )
    assert set(keys.split()) <= set(summary)
    assert set(summary["seconds"]) >= {"data", "training", "sampling"}
    assert {"value", "stderr"} <= set(summary["delta_f"])
    assert {"r", "f", "stderr"} <= set(summary["profile"])
    for key in ("delta_f", "profile"):
        assert summary[key] == summary["estimators"][summary["estimator"]][key]
    assert "<html" in folder.report.read_text()
    assert list(folder.figures.glob("*.png"))
    assert not list(folder.path.rglob("*.part")) + list(folder.path.rglob(".*"))


def test_dimer_samples_mark_what_is_outside_the_labelling(finished):
    with h5py.File(finished["dimer"].samples_at(1.0)) as file:
        assert file["x"].shape == (600, 10)
        assert file["log_w"].dtype == np.float64
        assert set(file) == {"x", "energy", "log_w", "r", "discard"}
        discarded = int(file["discard"][()].sum())
    assert json.loads(finished["dimer"].summary.read_text())["discarded"] == discarded


def test_the_estimate_rests_on_the_walkers_without_the_double_well(finished):
    with h5py.File(finished["dimer"].estimation) as file:
        assert file["x"].shape == (8, 30, 10)
    report = finished["dimer"].report.read_text()
    assert "with a constant force in place of the dimer" in report


def test_without_flat_walkers_the_held_out_ones_serve_the_estimate(finished, tmp_path):
    run = run_experiment(
        str(finished["dimer"].path.parent / "dimer.toml"),
        out=tmp_path / "run",
        overrides=("data.flat_walkers=0",),
        reporter=Reporter(quiet=True),
    )
    assert not run.estimation.exists()
    assert "held out of the training data" in run.report.read_text()
    assert json.loads(run.summary.read_text())["estimator"] == "bidirectional"


def test_an_interrupted_run_resumes_to_the_same_result(finished, tmp_path, monkeypatch):
    whole = finished["dimer"]
    source = str(whole.path.parent / "dimer.toml")
    from bgfast.experiments import dimer

    with monkeypatch.context() as patch:
        patch.setattr(dimer, "draw", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_experiment(source, out=tmp_path / "again", reporter=Reporter(quiet=True))
    again = run_experiment(
        source, out=tmp_path / "again", resume=True, reporter=Reporter(quiet=True)
    )
    for tau in (1.0, 2.0):
        with h5py.File(whole.samples_at(tau)) as one, h5py.File(again.samples_at(tau)) as other:
            assert np.array_equal(one["x"], other["x"])
            assert np.array_equal(one["log_w"], other["log_w"])


def test_analysis_can_be_repeated_with_the_same_numbers(finished):
    before = json.loads(finished["dimer"].summary.read_text())
    analyze_run(finished["dimer"].path, reporter=Reporter(quiet=True))
    after = json.loads(finished["dimer"].summary.read_text())
    for key in ("ess", "delta_f", "profile", "estimators", "discarded"):
        assert after[key] == before[key]


def test_more_samples_can_be_drawn_from_a_finished_run(finished, tmp_path):
    out = tmp_path / "more.h5"
    sample_run(
        finished["dimer"].path, out, n_samples=300, tau=1.5, seed=3, reporter=Reporter(quiet=True)
    )
    with h5py.File(out) as file:
        assert len(file["x"]) == 300
        assert file.attrs["tau"] == 1.5


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_annealed_samples_join_summary_report_and_figures(finished, name):
    folder = finished[name]
    summary = json.loads(folder.summary.read_text())
    assert set(summary["anneal"]) >= {"stages", "min_ess", "log_z", "log_z_stderr", "acceptance"}
    assert summary["anneal"]["n"] == 64
    assert "Annealed samples" in folder.report.read_text()
    assert (folder.figures / "anneal.png").exists()
    if name == "dimer":
        assert set(summary["estimators"]["annealed"]) >= {"delta_f", "profile"}


def test_annealed_rows_weigh_as_generated_ones_do(finished):
    with h5py.File(finished["dimer"].annealed) as file:
        rows = {column: file[column][()] for column in file}
    assert set(rows) == {"z", "x", "energy", "log_q", "log_w", "r", "island", "discard"}
    assert rows["z"].shape == rows["x"].shape == (64, 10)
    energy = ParticleDimer(n_solvent=3)
    x = torch.from_numpy(rows["x"]).double()
    np.testing.assert_allclose(rows["energy"], energy.energy(x))
    np.testing.assert_allclose(rows["r"], energy.dimer_distance(x))
    data = StateData.load(finished["dimer"].data, 10)
    kept = ~rows["discard"]
    assert DimerLabelling(data).inside(x).numpy()[kept].all()
    assert np.isfinite(rows["log_w"][kept]).all()


def test_a_labelling_finds_back_every_order_of_the_particles(finished):
    data = StateData.load(finished["dimer"].data, 10)
    labelling = DimerLabelling(data)
    x = data.frames(held_out=False)
    shuffled = labelling.shuffled(x, np.random.default_rng(0))
    energy = ParticleDimer(n_solvent=3)
    torch.testing.assert_close(energy.energy(shuffled), energy.energy(x))
    share = float(labelling.inside(shuffled).double().mean())
    assert share == pytest.approx(1 / 12, abs=0.06)  # 2 orders of the dimer's, 3! of the solvent's
    torch.testing.assert_close(labelling.canonical(shuffled), x)


def test_annealed_samples_can_be_drawn_from_a_finished_run(finished, tmp_path):
    out = tmp_path / "annealed.h5"
    run = finished["dimer"].path
    arguments = ["sample", run, "--out", out, "--anneal", "--n-samples", "32", "--seed", "4"]
    result = bgfast(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "32 annealed samples in" in result.stdout
    assert "islands" in result.stdout
    with h5py.File(out) as file:
        assert len(file["log_w"]) == 32
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "dimmer"], "no preset 'dimmer' (did you mean 'dimer"),
        (["run", "dimer", "--set", "training.setps=5"], "unknown key 'training.setps'"),
        (["run", "dimer", "--set", "system.preset=defualt"], "system.preset"),
        (["run", "dimer", "--set", "analysis.bounds=[2.5, 0.5]"], "bounds must be [low, high]"),
        (["run", "dimer", "--set", "sampling.tau=[-1.0]"], "tau must hold positive numbers"),
        (["run", "dimer", "--set", "flow.architecture=R8X"], "'X'"),
        (["run", "dimer", "--set", "system.sigma=-1"], "sigma"),
        (["run", "dimer", "--device", "cuda:9"], "device cuda:9 is not there"),
        (["run", "dimer", "--resume"], "holds no run"),
        (["analyze", "nowhere"], "holds no run"),
        (["sample", "RUN", "--out", "x.h5", "--tau", "0"], "--tau must be positive"),
        (["run", "dimer", "--set", "sampling.tau=[1.0, 1.0]"], "tau must not repeat"),
        (["run", "dimer", "--set", "analysis.bounds=[-1.0, 2.5]"], "at least 0"),
        (["run", "dimer", "--set", "data.start=[0.4, 2.0]"], "within analysis.bounds"),
        (["run", "dimer", "--set", "flow.hidden=[0]"], "flow.hidden.0"),
        (["run", "dimer", "--set", "anneal.sweeps=3"], "anneal.sweeps"),
        (["run", "dimer", "--set", "anneal.cess=1.0"], "anneal.cess"),
        (["run", "double-well", "--set", "sampling.tau=[2.0]"], "tau must be [1.0]"),
        (["run", "double-well", "--set", "training.modes.first=[]"], "must not be called 'first'"),
        (["sample", "RUN", "--out", "/dev/null/x.h5"], "/dev/null"),
        (["run", "RUN.toml", "--out", "RUN"], "already holds a run"),
        (["run", "RUN.toml", "--out", "RUN", "--resume", "--seed", "5"], "it differs in seed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(finished, tmp_path, arguments, message):
    run = str(finished["dimer"].path)
    before = {p: p.stat().st_mtime_ns for p in finished["dimer"].path.rglob("*")}
    result = bgfast(*[a.replace("RUN", run) for a in arguments], cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert before == {p: p.stat().st_mtime_ns for p in finished["dimer"].path.rglob("*")}
    assert not list(tmp_path.rglob("samples*"))


def test_a_corrupt_checkpoint_is_named_and_left_alone(finished, tmp_path):
    run = finished["dimer"].path
    checkpoint = run / "checkpoint.pt"
    good = checkpoint.read_bytes()
    try:
        checkpoint.write_bytes(good[: len(good) // 2])
        result = bgfast("sample", run, "--out", tmp_path / "x.h5", cwd=tmp_path)
        assert result.returncode == 2
        assert "checkpoint.pt is damaged" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not list(tmp_path.iterdir())
    finally:
        checkpoint.write_bytes(good)


@pytest.mark.parametrize(
    "name", ["samples.h5", "data.h5", "estimation.h5", "timings.json", "config.toml"]
)
def test_damaged_files_of_a_run_are_named(finished, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(finished["dimer"].path, copy)
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2] + b"\xff")
    result = bgfast("analyze", copy, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_half_trained_flow_is_not_sampled(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished["dimer"].path, copy)
    text = (copy / "config.toml").read_text().replace("steps = 4", "steps = 5")
    (copy / "config.toml").write_text(text)
    result = bgfast("sample", copy, "--out", tmp_path / "x.h5", cwd=tmp_path)
    assert result.returncode == 2
    assert "stands at step 8 of 10" in result.stderr


def test_the_seed_reaches_every_stage(finished, tmp_path):
    source = str(finished["dimer"].path.parent / "dimer.toml")
    runs = [finished["dimer"]] + [
        run_experiment(
            source,
            out=tmp_path / f"{seed}",
            overrides=(f"seed={seed}",),
            reporter=Reporter(quiet=True),
        )
        for seed in (0, 1)
    ]

    def fingerprint(run):
        with h5py.File(run.data) as data, h5py.File(run.samples_at(1.0)) as samples:
            lines = (run.path / "metrics.jsonl").read_text().splitlines()
            losses = [json.loads(line)["loss"] for line in lines]
            order = load_checkpoint(run.path / "checkpoint.pt")["config"]["seed"]
            return data["x"][0, 0, 0], order, losses, samples["x"][0, 0], samples["log_w"][0]

    first, same, other = (fingerprint(run) for run in runs)
    assert first == same
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_more_samples_never_mix_two_flows(finished, tmp_path):
    """The rest of an interrupted draw is continued for the same flow only."""
    from bgfast.experiments.pipeline import flow_digest
    from bgfast.flows import architecture

    flows = [architecture("R1", dim=2, hidden=(4,), seed=seed) for seed in (0, 0, 1)]
    digests = [flow_digest(flow) for flow in flows]
    assert digests[0] == digests[1] != digests[2]


def test_doctor_and_systems_answer(tmp_path):
    found = bgfast("doctor", cwd=tmp_path).stdout
    assert "agree with the torch reference" in found
    assert "agrees with float64" in found
    assert "double-well-paper" in bgfast("systems", cwd=tmp_path).stdout
