import numpy as np
import pytest
import torch
from scipy.special import i0e

from bgfast.analysis import Rows, pool_biased
from bgfast.energies import ParticleDimer
from bgfast.experiments.dimer_config import DimerWindows
from bgfast.experiments.dimer_windows import WindowData, choose_starts, simulate_windows
from bgfast.experiments.progress import Reporter

BOUNDS = (0.5, 2.5)


def windows_of(energy, tau, config):
    start = np.stack([energy.lattice_configuration(d).numpy() for d in np.linspace(*BOUNDS, 24)])
    starts = np.repeat(start[:, None], config.walkers, axis=1)
    with Reporter(quiet=True) as reporter:
        return simulate_windows(
            energy, config, BOUNDS, tau, starts, np.empty((0, 2)), seed=3, reporter=reporter
        )


def rows_of(data, energy):
    x = data.frames(held_out=True)
    state = np.repeat(data.state, data.x.shape[1])
    block = np.repeat(np.arange(len(data.x)), data.x.shape[1])
    d = energy.dimer_distance(x).numpy()
    return x, Rows(data.energy.ravel(), np.zeros(d.size), state, d, block)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_windows_of_a_dimer_alone_give_its_exact_profile(tau):
    """Without solvent p(d) = d exp(-V(d)/tau - k_d d^2 / 4 tau) I_0(k_d d^2 / 4 tau)."""
    energy = ParticleDimer(n_solvent=0, k_d=4.0)
    data = windows_of(energy, tau, DimerWindows(n_frames=400, walkers=8, stride=10, burn_in=200))
    _, rows = rows_of(data, energy)
    found = pool_biased(None, rows, data.biases(energy), bounds=BOUNDS, split=1.5, n_bins=40)
    d = np.linspace(*BOUNDS, 40 * 50 + 1)
    d = (d[1:] + d[:-1]) / 2
    v = energy.double_well(torch.from_numpy(d)).numpy()
    p = d * i0e(energy.params.k_d * d**2 / (4 * tau)) * np.exp(-v / tau)
    exact = -np.log(p.reshape(40, 50).sum(axis=1))
    delta_f = np.log(p[d >= 1.5].sum() / p[d < 1.5].sum())
    assert abs(found.delta_f.value - delta_f) < 3.5 * found.delta_f.stderr
    assert found.delta_f.stderr < 0.2
    apart = (found.profile.f - (exact - exact.min())) / found.profile.stderr
    assert np.abs(apart - np.median(apart)).max() < 5
    assert found.verdict.level == "good"


def test_energies_of_the_frames_are_those_of_the_system(tmp_path):
    energy = ParticleDimer()
    data = windows_of(energy, 2.0, DimerWindows(n_frames=2, walkers=2, stride=5, burn_in=50))
    data.save(tmp_path / "windows.h5")
    loaded = WindowData.load(tmp_path / "windows.h5", energy.dim)
    x, rows = rows_of(loaded, energy)
    np.testing.assert_allclose(rows.u, energy.energy(x) / 2.0, rtol=1e-4)
    assert loaded.tau == 2.0
    assert (rows.r >= BOUNDS[0] - 1e-6).all()
    assert (rows.r <= BOUNDS[1] + 1e-6).all()


def test_starts_lie_near_their_windows_and_no_few_weights_decide():
    rng = np.random.default_rng(0)
    d = rng.uniform(0.4, 2.6, 50_000)
    log_w = 8.0 * rng.normal(size=d.size)
    config = DimerWindows(n_windows=11, walkers=16)
    chosen = choose_starts(config, BOUNDS, d, log_w, seed=1)
    centres = np.linspace(*BOUNDS, 11)
    assert (np.abs(d[chosen] - centres[:, None]) <= 0.2).all()
    assert all(np.unique(row).size == 16 for row in chosen)
    assert np.median(log_w[chosen]) > 12  # of the heaviest rows, not of the many light ones
    np.testing.assert_array_equal(chosen, choose_starts(config, BOUNDS, d, log_w, seed=1))


def test_too_few_rows_are_used_more_than_once():
    chosen = choose_starts(DimerWindows(n_windows=3), BOUNDS, np.ones(2), np.zeros(2), seed=0)
    assert chosen.shape == (3, 16)
    assert set(chosen.ravel()) == {0, 1}
