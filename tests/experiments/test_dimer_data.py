"""Simulated data of the dimer: confined, relabelled, split by walkers."""

import math

import numpy as np
import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.experiments.dimer_config import DimerData
from bgfast.experiments.dimer_data import left_to_right, outside_labelling, simulate
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


def test_one_seed_gives_the_same_data():
    settings = DimerData(n_walkers=2, burn_in=60, n_frames=5, stride=2)
    runs = [simulate(ENERGY, settings, 1.5, seed, Reporter(quiet=True)) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0].x, runs[1].x)
    assert not np.array_equal(runs[0].x, runs[2].x)
