"""Latent-space Metropolis keeps the Boltzmann distribution, whatever the flow."""

import math

import pytest
import torch

from bgfast.energies import DoubleWell
from bgfast.flows import architecture
from bgfast.sampling.exploration import Moves, latent_metropolis

# At this temperature the two wells are one distribution that walkers cross easily.
ENERGY = DoubleWell(2, a4=0.25, a2=1.0, a1=0.3)


def exact_moments(tau):
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    rows = torch.stack([x, torch.zeros_like(x)], -1)
    p = torch.exp(-ENERGY.energy(rows) / tau)
    p /= p.sum()
    return float((p * x).sum()), float((p * x**2).sum())


def curved_flow():
    """A flow whose log-determinant varies strongly from place to place."""
    flow = architecture("R2", 2, hidden=(16,), seed=3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    z = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    assert flow(z)[1].std() > 0.3
    return flow


@pytest.mark.parametrize("fresh", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_the_population_reaches_the_boltzmann_distribution(fresh, tau):
    n = 4000
    start = torch.full((n, 2), 0.3, dtype=torch.float64)
    moves = Moves((0.1, 3.0), fresh)
    population = latent_metropolis(curved_flow(), ENERGY, start, 150, moves, tau=tau, seed=1)
    x1, x2 = population.x.unbind(-1)
    mean, square = exact_moments(tau)
    spread = math.sqrt(square - mean**2)
    assert abs(float(x1.mean()) - mean) < 4 * spread / math.sqrt(n)
    assert abs(float(x1.square().mean()) - square) < 4 * float(x1.square().std()) / math.sqrt(n)
    assert abs(float(x2.square().mean()) - tau) < 4 * math.sqrt(2 / n) * tau
    assert torch.equal(population.energy, ENERGY.energy(population.x))
    assert 0.05 < population.acceptance < 0.95


def test_refused_proposals_leave_the_configuration_as_it_was():
    start = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    population = latent_metropolis(
        curved_flow(), ENERGY, start, 3, allowed=lambda x: torch.zeros(len(x), dtype=torch.bool)
    )
    assert torch.equal(population.x, start)
    assert population.acceptance == 0


def test_the_region_is_never_left():
    start = torch.full((500, 2), 0.3, dtype=torch.float64)
    moved = latent_metropolis(
        curved_flow(), ENERGY, start, 30, Moves((0.1, 2.0), 0.3), allowed=lambda x: x[:, 0] > 0
    ).x
    assert (moved[:, 0] > 0).all()
    assert len(moved[:, 0].unique()) > 350


def test_the_same_seed_gives_the_same_population():
    start = torch.full((20, 2), 0.3, dtype=torch.float64)
    a, b, c = (latent_metropolis(curved_flow(), ENERGY, start, 5, seed=s).x for s in (7, 7, 8))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("moves", "named"),
    [({"step": (0.0, 1.0)}, "step"), ({"step": (2.0, 1.0)}, "step"), ({"fresh": 1.5}, "fresh")],
)
def test_moves_refuse_what_makes_no_sense(moves, named):
    with pytest.raises(ValueError, match=named):
        Moves(**moves)


def test_bad_arguments_are_named():
    start = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="tau"):
        latent_metropolis(curved_flow(), ENERGY, start, 1, tau=0.0)
    with pytest.raises(ValueError, match="n_steps"):
        latent_metropolis(curved_flow(), ENERGY, start, -1)
