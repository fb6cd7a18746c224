"""One network at several temperatures, on a dimer so dilute that F(d) is known by quadrature."""

import json

import numpy as np
import pytest
import torch
from scipy.special import i0e

from bgfast.energies import ParticleDimer
from bgfast.experiments.progress import Reporter
from bgfast.experiments.runner import run_experiment

TAUS = (0.5, 1.0, 2.0)
# One solvent particle that is too small to meet the dimer; and shallow wells (3 k_B T at tau = 1),
# so that the network learns them in seconds.
RUN = """
experiment = "dimer"
reference = "none"
[system]
n_solvent = 1
sigma = 0.01
a = 48.0
b = 24.0
c = -1.5
[data]
tau = [0.5, 1.0, 2.0]
n_walkers = 8
burn_in = 200
n_frames = 200
stride = 20
flat_walkers = 16
[flow]
architecture = "R4"
hidden = [32, 32]
split = "particle"
whitening = "standardise"
[training]
rc_bounds = [0.5, 2.5]
[[training.stages]]
steps = 200
lr = 5e-3
batch_ml = 256
w_ml = 1.0
[[training.stages]]
steps = 50
batch_ml = 96
batch_kl = 96
w_ml = 1.0
w_kl = 0.1
w_rc = 0.1
tau = [0.5, 1.0, 2.0]
[sampling]
n = 6000
tau = [0.5, 1.0, 2.0]
[windows]
n_windows = 0
[analysis]
bounds = [0.5, 2.5]
n_bins = 20
split = 1.5
"""


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temperatures")
    (folder / "run.toml").write_text(RUN)
    run = run_experiment(
        str(folder / "run.toml"), out=folder / "run", reporter=Reporter(quiet=True)
    )
    assert "Several temperatures from one network" in run.report.read_text()
    return json.loads(run.summary.read_text())


def exact(summary, tau):
    """F(closed) - F(open), and F(d) averaged over the bins of the profile.

    With D = x1 - x2 = d (cos a, sin a), the restraint is k_d D_y^2 / 2 beside the centre of mass;
    its integral over a is 2 pi I0(y) exp(-y) with y = k_d d^2 / (4 tau).
    """
    energy = ParticleDimer(n_solvent=1, sigma=0.01, a=48.0, b=24.0, c=-1.5)
    d = np.linspace(0.5, 2.5, 20 * 200 + 1)
    d = 0.5 * (d[1:] + d[:-1])
    v = energy.double_well(torch.from_numpy(d)).numpy()
    p = d * np.exp(-v / tau) * i0e(energy.params.k_d * d**2 / (4 * tau))
    f = -np.log(p.reshape(20, -1).mean(1))
    return -np.log(p[d < 1.5].sum() / p[d >= 1.5].sum()), f - f.min()


@pytest.mark.parametrize("tau", TAUS)
def test_every_temperature_agrees_with_quadrature(summary, tau):
    found = summary["temperatures"][repr(tau)]
    delta_f, f = exact(summary, tau)
    assert found["estimator"] == "bidirectional"
    assert 0 < found["delta_f"]["stderr"] < 0.2
    assert abs(found["delta_f"]["value"] - delta_f) < 4 * found["delta_f"]["stderr"]
    profile = {name: np.array(values, float) for name, values in found["profile"].items()}
    inside = (profile["r"] > 0.8) & (profile["r"] < 2.2)
    deviation = (profile["f"] - f)[inside]
    deviation -= np.average(deviation, weights=profile["stderr"][inside] ** -2)
    assert np.abs(deviation / np.hypot(profile["stderr"][inside], 0.02)).max() < 4.5


def test_the_temperatures_differ(summary):
    """So that the test above would notice if one stood in for another."""
    values = [exact(summary, tau)[0] for tau in TAUS]
    found = [summary["temperatures"][repr(tau)]["delta_f"] for tau in TAUS]
    for i in range(2):
        assert abs(values[i] - values[i + 1]) > 8 * max(f["stderr"] for f in found)


def test_the_headline_is_that_of_tau_1(summary):
    assert summary["tau"] == 1.0
    for key in ("delta_f", "profile", "estimator", "ess"):
        assert summary[key] == summary["temperatures"]["1.0"][key]
