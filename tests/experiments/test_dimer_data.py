"""Simulated data of the dimer: confined, relabelled, split by walkers."""

import math

import numpy as np
import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.experiments.dimer_config import DimerData
from bgfast.experiments.dimer_data import (
    frames_of,
    left_to_right,
    outside_labelling,
    simulate,
    simulate_flat,
)
from bgfast.experiments.progress import Reporter

ENERGY = ParticleDimer(n_solvent=6)


@pytest.fixture(scope="module")
def data():
    settings = DimerData(n_walkers=4, burn_in=100, n_frames=50, stride=5, held_out=0.5)
    return simulate(ENERGY, settings, 1.5, seed=1, reporter=Reporter(quiet=True))


def test_walkers_stay_in_their_state_and_half_are_held_out(data):
    d = ENERGY.dimer_distance(torch.from_numpy(data.x)).numpy()
    assert (d[data.state == 0] < 1.5).all()
    assert (d[data.state == 1] >= 1.5).all()
    assert data.held_out.tolist() == [False, False, True, True] * 2
    assert len(data.frames(held_out=True)) + len(data.frames(held_out=False)) == 8 * 50


def test_relabelling_changes_no_energy_and_leaves_nothing_outside(data):
    x = torch.from_numpy(data.x)
    torch.testing.assert_close(ENERGY.energy(x), torch.from_numpy(data.energy))
    assert not outside_labelling(x.reshape(-1, ENERGY.dim), data).any()


def test_any_other_labelling_is_outside(data):
    x = torch.from_numpy(data.x[:, 0])
    solvent = x.clone()
    solvent[:, 4:8] = x[:, [6, 7, 4, 5]]
    dimer = x.clone()
    dimer[:, :4] = x[:, [2, 3, 0, 1]]
    assert outside_labelling(solvent, data).all()
    assert outside_labelling(dimer, data).all()


def test_a_turned_dimer_is_the_same_configuration():
    x = ENERGY.lattice_configuration(1.0)
    angle = torch.linspace(0, 2 * math.pi, 9, dtype=x.dtype)[:, None]
    turned = x.repeat(9, 1)
    turned[:, 0:2] = 0.5 * torch.cat([angle.cos(), angle.sin()], 1)
    turned[:, 2:4] = -turned[:, 0:2]
    ordered = left_to_right(turned)
    assert (ordered[:, 0] <= ordered[:, 2]).all()
    torch.testing.assert_close(ENERGY.energy(ordered), ENERGY.energy(turned))


@pytest.fixture(scope="module")
def flat(data):
    settings = DimerData(burn_in=400, n_frames=300, stride=10, flat_walkers=3)
    return simulate_flat(ENERGY, settings, (0.5, 2.5), 1.5, data, 1, Reporter(quiet=True))


def test_flat_walkers_cover_their_side_of_the_barrier_and_never_leave_it(flat):
    d = ENERGY.dimer_distance(torch.from_numpy(flat.x)).numpy()
    assert flat.state.tolist() == [0, 0, 0, 1, 1, 1]
    assert flat.held_out.all()
    for state, low in ((0, 0.5), (1, 1.5)):
        counts, _ = np.histogram(d[flat.state == state], bins=5, range=(low, low + 1))
        assert counts.sum() == 900
        assert counts.min() > 20


def test_the_slope_puts_the_mean_distance_in_the_middle_of_each_side(flat):
    d = ENERGY.dimer_distance(torch.from_numpy(flat.x)).numpy()
    assert abs(d[flat.state == 0].mean() - 1.0) < 0.15
    assert abs(d[flat.state == 1].mean() - 2.0) < 0.15


def test_walkers_lack_the_double_well_but_for_the_slope(flat):
    d = np.array([0.7, 1.5, 2.2])
    state = np.array([0, 1, 1])
    rest = [ParticleDimer(n_solvent=6, a=0.0, b=0.0, c=flat.slope[k]) for k in state]
    x = [ENERGY.lattice_configuration(distance) for distance in d]
    expected = [float(ENERGY.energy(y) - e.energy(y)) for y, e in zip(x, rest, strict=True)]
    np.testing.assert_allclose(flat.removed(ENERGY, d, state), expected, atol=1e-10)


def test_flat_walkers_follow_the_labelling_of_the_training_data(data, flat):
    assert np.array_equal(flat.reference, data.reference)
    assert not outside_labelling(torch.from_numpy(flat.x).reshape(-1, ENERGY.dim), data).any()


def test_flat_energies_are_those_of_the_system(flat):
    torch.testing.assert_close(
        ENERGY.energy(torch.from_numpy(flat.x)), torch.from_numpy(flat.energy)
    )


def test_flat_walkers_keep_their_labelling_if_the_data_do():
    settings = DimerData(
        n_walkers=2, burn_in=60, n_frames=5, stride=2, flat_walkers=2, relabel=False
    )
    data = simulate(ENERGY, settings, 1.5, 1, Reporter(quiet=True))
    flat = simulate_flat(ENERGY, settings, (0.5, 2.5), 1.5, data, 1, Reporter(quiet=True))
    assert flat.reference.size == 0
    assert not np.array_equal(flat.x, data.x)


def test_one_seed_gives_the_same_data():
    settings = DimerData(n_walkers=2, burn_in=60, n_frames=5, stride=2)
    runs = [simulate(ENERGY, settings, 1.5, seed, Reporter(quiet=True)) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0].x, runs[1].x)
    assert not np.array_equal(runs[0].x, runs[2].x)


def test_every_temperature_follows_one_labelling(data):
    settings = DimerData(n_walkers=4, burn_in=100, n_frames=50, stride=5, held_out=0.5)
    hot = simulate(ENERGY, settings, 1.5, 1, Reporter(quiet=True), tau=3.0, like=data)
    assert np.array_equal(hot.reference, data.reference)
    x = torch.from_numpy(hot.x)
    assert not outside_labelling(x.reshape(-1, ENERGY.dim), data).any()
    torch.testing.assert_close(ENERGY.energy(x), torch.from_numpy(hot.energy))
    assert hot.energy.mean() > data.energy.mean() + 5


def test_frames_come_with_their_temperature(data):
    hot = simulate(
        ENERGY,
        DimerData(n_walkers=2, burn_in=60, n_frames=5, stride=2),
        1.5,
        1,
        Reporter(quiet=True),
        tau=2.0,
    )
    for held_out in (False, True):
        x, tau = frames_of({1.0: data, 2.0: hot}, held_out=held_out)
        assert torch.equal(x[tau == 1.0], data.frames(held_out=held_out))
        assert torch.equal(x[tau == 2.0], hot.frames(held_out=held_out))
        assert len(x) == len(tau) > 0


@pytest.mark.parametrize("tau", [[], [0.0], [1.0, 1.0]])
def test_temperatures_that_make_no_sense_are_refused(tau):
    with pytest.raises(ValueError, match="tau must"):
        DimerData(tau=tau)
