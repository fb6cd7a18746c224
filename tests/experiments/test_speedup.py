import json

import numpy as np
import pytest
import torch

from bgfast.analysis import write_summary
from bgfast.energies import ParticleDimer
from bgfast.errors import UserError
from bgfast.experiments import speedup
from bgfast.experiments.config import read_table, to_toml, validated
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_evaluations import at_one_temperature, dimer_evaluations
from bgfast.experiments.evaluations import SWEEP
from bgfast.experiments.progress import Reporter
from bgfast.experiments.runner import speed_up_of

D = np.linspace(0.5, 2.5, 81)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished run of a dimer without solvent, whose F(d) is V(d) but for a small term."""
    monkeypatch.setattr(speedup, "_ENOUGH", 20)
    config = dimer("system.n_solvent=0", "system.k_d=4.0")
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    energy = ParticleDimer(n_solvent=0, k_d=4.0)
    v = energy.double_well(torch.from_numpy(D)).numpy()
    write_summary(
        tmp_path / "summary.json",
        {
            "delta_f": {"value": 0.0, "stderr": 0.1},
            "profile": {"r": D, "f": np.where(D < 0.55, np.nan, v - v.min())},
        },
    )
    return tmp_path


def dimer(*overrides):
    return validated(DimerConfig, read_table("dimer", overrides=overrides), "dimer")


def quiet(path):
    return speed_up_of(path, Reporter(quiet=True))


def test_factors_are_steps_over_the_evaluations_of_the_run(folder):
    found = quiet(folder)
    total = found.evaluations.total
    trip = found.extrapolated.by_diffusion.value
    assert found.measured is None
    assert min(found.flat.crossings) >= 20
    assert trip > 1e4 * found.flat.steps.value  # the barrier is 15 k_B T higher, 1.5 when flattened
    assert found.factors["one return trip of local Monte Carlo"] == trip / total
    assert found.factors["local Monte Carlo to the same error"] == pytest.approx(200 * trip / total)
    assert np.isnan(found.factors["umbrella sampling to the same error"])
    kept = json.loads((folder / speedup.FILE).read_text())
    assert kept["flat"]["steps"]["value"] == found.flat.steps.value
    assert kept["umbrella"] is None


def test_evaluations_count_every_walker_and_one_temperature_only():
    config = dimer("sampling.tau=[1.0, 2.0]")
    whole, one = dimer_evaluations(config), at_one_temperature(config)
    data, windows = config.data, config.windows
    per_walker = data.burn_in + data.n_frames * data.stride
    assert one.data == SWEEP * 2 * (data.n_walkers + data.flat_walkers) * per_walker
    assert whole.data == SWEEP * 2 * (data.n_walkers + 2 * data.flat_walkers) * per_walker
    assert whole.sampling == 2 * one.sampling
    per_walker = windows.burn_in + windows.n_frames * windows.stride
    local = SWEEP * windows.n_windows * windows.walkers * per_walker
    assert one.sampling == config.sampling.n + local


def test_a_run_that_cannot_be_compared_is_refused(folder, tmp_path):
    summary = folder / "summary.json"
    write_summary(summary, {"delta_f": {"value": 0.0, "stderr": float("nan")}})
    with pytest.raises(UserError, match="error of the free-energy difference is unknown"):
        quiet(folder)
    summary.unlink()
    with pytest.raises(UserError, match="no finished run"):
        quiet(folder)


def test_a_single_well_has_no_return_trips(folder):
    (folder / "config.toml").write_text(to_toml(dimer("system.b=0.0")), encoding="utf-8")
    with pytest.raises(UserError, match="two wells only if a and b > 0"):
        quiet(folder)
