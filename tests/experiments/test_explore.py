"""Exploration: from one configuration to both states, resumed exactly, judged by quadrature."""

import json

import h5py
import numpy as np
import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.errors import UserError
from bgfast.experiments import explore_loop
from bgfast.experiments.explore_dimer_config import DimerLabelling
from bgfast.experiments.explore_loop import load_exploration
from bgfast.experiments.progress import Reporter
from bgfast.experiments.runner import analyze_run, run_experiment, sample_run

DIMER = """
experiment = "explore-dimer"
reference = "none"
settle = 60
[system]
n_solvent = 3
[exploration]
n_population = 100
max_iterations = 2
n_steps = 4
fresh = 0.5
spread = 0.3
[flow]
architecture = "R2"
hidden = [16]
split = "particle"
whitening = "standardise"
[training]
rc_bounds = [0.5, 2.5]
[[training.first]]
steps = 4
batch_ml = 32
w_ml = 1.0
[[training.iteration]]
steps = 3
batch_ml = 32
batch_kl = 32
w_ml = 1.0
w_kl = 0.1
w_rc = 1.0
[[training.final]]
steps = 4
batch_ml = 32
w_ml = 1.0
[sampling]
n = 600
chunk = 256
[windows]
n_windows = 4
walkers = 2
burn_in = 60
n_frames = 10
stride = 2
"""


@pytest.fixture(scope="module")
def dimer(tmp_path_factory):
    """One finished exploration of a tiny dimer."""
    folder = tmp_path_factory.mktemp("explore")
    (folder / "dimer.toml").write_text(DIMER)
    return run_experiment(
        str(folder / "dimer.toml"), out=folder / "run", reporter=Reporter(quiet=True)
    )


@pytest.mark.parametrize("name", ["explore-double-well", "explore-mueller"])
def test_one_configuration_leads_to_both_states_and_the_exact_profile(name, tmp_path):
    run = run_experiment(name, out=tmp_path / "run", quick=True, reporter=Reporter(quiet=True))
    summary = json.loads(run.summary.read_text())
    first, last = load_exploration(run.path).frames[0], load_exploration(run.path).frames[-1]
    assert min(first.below, first.above) == 0
    assert summary["exploration"]["found"]
    assert min(last.below, last.above) >= 0.01
    estimate, exact = summary["delta_f"], summary["exact"]["delta_f"]
    assert abs(estimate["value"] - exact) < 0.3
    assert summary["log_z"]["value"] == pytest.approx(summary["exact"]["log_z"], abs=0.2)
    assert "The other state was found in iteration" in run.report.read_text()
    assert (run.figures / "exploration.png").exists()


def test_a_dimer_run_leaves_summary_report_samples_and_figures(dimer):
    summary = json.loads(dimer.summary.read_text())
    assert {"exploration", "energy_evaluations", "delta_f", "profile", "estimators"} <= set(summary)
    assert set(summary["seconds"]) >= {"exploration", "training", "sampling", "windows"}
    counted = summary["energy_evaluations"]
    # 3 frames of 100 configurations and 5000 that are shown; 2 iterations of 4 steps; 80 sweeps of
    # 8 walkers in windows, 60 of the one that settled
    moves, sweeps = 3 * 5100 + 2 * 4 * 100, 8 * 80 + 60
    assert counted == {"data": moves + sweeps, "training": 2 * 3 * 32, "sampling": 600}
    assert "was not found in 2 iterations" in dimer.report.read_text()
    assert {path.stem for path in dimer.figures.glob("*.png")} >= {"exploration", "profile"}
    with h5py.File(dimer.samples_at(1.0)) as file:
        assert file["x"].shape == (600, 10)
    assert not list(dimer.path.rglob("*.part")) + list(dimer.path.rglob(".*"))


def test_a_killed_exploration_goes_on_as_if_it_had_not_been(dimer, tmp_path, monkeypatch):
    saved, save = [], explore_loop._save

    def killed(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    source = str(dimer.path.parent / "dimer.toml")
    with monkeypatch.context() as patch:
        patch.setattr(explore_loop, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(source, out=tmp_path / "run", reporter=Reporter(quiet=True))
    assert len(load_exploration(tmp_path / "run").frames) == 2
    again = run_experiment(source, out=tmp_path / "run", resume=True, reporter=Reporter(quiet=True))
    one, other = load_exploration(dimer.path), load_exploration(again.path)
    assert all(torch.equal(a.x, b.x) for a, b in zip(one.frames, other.frames, strict=True))
    with h5py.File(dimer.samples_at(1.0)) as a, h5py.File(again.samples_at(1.0)) as b:
        assert np.array_equal(a["log_w"], b["log_w"])


def test_analysis_and_sampling_can_be_repeated(dimer, tmp_path):
    before = json.loads(dimer.summary.read_text())
    analyze_run(dimer.path, reporter=Reporter(quiet=True))
    after = json.loads(dimer.summary.read_text())
    assert after["delta_f"] == before["delta_f"]
    assert after["exploration"] == before["exploration"]
    out = tmp_path / "more.h5"
    sentences = sample_run(
        dimer.path, out, n_samples=300, tau=1.0, seed=3, reporter=Reporter(quiet=True)
    )
    assert "300 draws" in sentences[1]
    with h5py.File(out) as file:
        assert len(file["x"]) == 300


def test_a_damaged_exploration_is_named(dimer, tmp_path):
    (tmp_path / "exploration.pt").write_bytes(b"not a file of torch")
    with pytest.raises(UserError, match=r"exploration\.pt is damaged"):
        load_exploration(tmp_path)


def test_relabelling_a_population_keeps_energies_and_puts_it_into_its_region():
    energy = ParticleDimer(n_solvent=6)
    generator = torch.Generator().manual_seed(0)
    start = energy.lattice_configuration(1.0).float()
    x = start + 0.05 * torch.randn(40, len(start), generator=generator)
    x[::4] = x[::4][:, [0, 1, 2, 3, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]]  # two exchanged
    x[:5] = x[:5][:, [2, 3, 0, 1, *range(4, 16)]]  # the dimer turned around
    labelling = DimerLabelling()
    ordered, reference = labelling.relabelled(x)
    allowed = labelling.region(reference)
    assert allowed(ordered).all()
    assert not allowed(x)[:5].any()
    assert torch.allclose(energy.energy(ordered), energy.energy(x), rtol=1e-5)
    assert torch.equal(ordered.sort(-1).values, x.sort(-1).values)
    exchanged = ordered[:, [0, 1, 2, 3, 6, 7, 4, 5, *range(8, 16)]]
    assert (allowed(exchanged) != allowed(ordered)).all()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("start=[0.0]", "start must hold 2 coordinates"),
        ("sampling.tau=[2.0]", r"sampling.tau must be \[1.0\]"),
        ("exploration.step=[1.0, 0.1]", "step must be"),
        ("exploration.found=0.7", "found"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(override, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_experiment("explore-double-well", out=tmp_path / "run", overrides=(override,))


def test_the_dimer_must_start_closed(tmp_path):
    with pytest.raises(UserError, match="start must be a closed dimer"):
        run_experiment("explore-dimer", out=tmp_path / "run", overrides=("start=1.6",))
