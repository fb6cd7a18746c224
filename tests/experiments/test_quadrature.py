"""Systems known by quadrature: small runs of the presets reach the exact values."""

import json

import h5py
import numpy as np
import pytest

from bgfast.errors import UserError
from bgfast.experiments.config import read_table, validated
from bgfast.experiments.progress import Reporter
from bgfast.experiments.quadrature_config import CONFIGS
from bgfast.experiments.runner import run_experiment

PRESETS = ("double-well-1d", "mueller-brown")


@pytest.fixture(scope="module", params=PRESETS)
def quick(request, tmp_path_factory):
    """What ``bgfast run NAME --quick`` leaves."""
    out = tmp_path_factory.mktemp("quick") / "run"
    return run_experiment(request.param, out=out, quick=True, reporter=Reporter(quiet=True))


def test_a_quick_run_reaches_the_exact_values(quick):
    summary = json.loads(quick.summary.read_text())
    exact = summary["exact"]
    log_z = summary["log_z"]
    assert abs(log_z["value"] - exact["log_z"]) < min(0.03, 3 * log_z["stderr"])
    assert set(summary["estimators"]) == {"plain", "bidirectional"}
    for estimate in summary["estimators"].values():
        delta_f = estimate["delta_f"]
        assert abs(delta_f["value"] - exact["delta_f"]) < 3 * delta_f["stderr"] < 0.12
    low = np.array(exact["profile"]["f"]) < 10
    deviation = np.array(summary["profile"]["f"])[low] - np.array(exact["profile"]["f"])[low]
    assert np.ptp(deviation) < 0.4
    assert summary["trust"]["level"] != "poor"


def test_the_top_of_the_summary_is_the_recommended_estimator(quick):
    summary = json.loads(quick.summary.read_text())
    assert summary["estimator"] == "bidirectional"
    for key in ("delta_f", "profile"):
        assert summary[key] == summary["estimators"]["bidirectional"][key]
    assert summary["models"][summary["model"]]["delta_f"] == summary["delta_f"]


def test_every_evaluation_of_the_energy_is_counted(quick):
    counts = json.loads(quick.summary.read_text())["energy_evaluations"]
    training = quick.table()["training"]
    (generating,) = list(training["modes"].values())[-1]
    assert counts == {
        "data": 2 * 10_000 + 16 * 11_000,
        "training": training["steps"] * generating["batch_kl"],
        "sampling": 20_000,
    }


def test_held_out_walkers_stay_in_their_state_and_are_not_trained_on(quick):
    with h5py.File(quick.data) as file:
        x, state, held_out = (file[name][()] for name in ("x", "state", "held_out"))
    config = quick.table()
    r = x[..., 1 if config["experiment"] == "mueller-brown" else 0]
    side = (r >= config["analysis"]["split"]).astype(int)
    assert held_out.tolist() == [False] * 2 + [True] * 16
    assert (side[held_out] == state[held_out, None]).all()
    assert np.unique(x[held_out, 0, 0]).size == 16


def test_the_picture_of_a_run_suits_its_dimension(quick):
    shown = "densities" if "1d" in quick.table()["experiment"] else "surface"
    names = {path.stem for path in quick.figures.glob("*.png")}
    assert names == {"comparison", "profile", "weights", "training", shown}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.start=[0.0, [1.0, 2.0, 3.0]]", "data.start must hold at most"),
        ("data.start=[[0.5, 1.5], [0.5, 1.5]]", "data.start must"),
        ("sampling.tau=[2.0]", "tau must be .1.0."),
        ("training.modes.first=[]", "must not be called 'first'"),
    ],
)
def test_what_does_not_fit_the_system_is_refused(preset, override, message):
    with pytest.raises(UserError, match=message):
        validated(CONFIGS[preset], read_table(preset, overrides=(override,)), preset)


def test_a_single_number_is_the_first_coordinate_of_a_start():
    config = validated(CONFIGS["double-well"], read_table("double-well"), "here")
    assert config.data.start == ((-1.8,), (1.8,))
