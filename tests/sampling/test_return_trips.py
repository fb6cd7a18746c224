import math

import numpy as np
import pytest

from bgfast.energies import DoubleWell
from bgfast.sampling.return_trips import extrapolate, measure_return_trips

CORES = (-0.8, 0.8)
GRID = np.linspace(-4, 4, 8001)


def well(depth, tilt=0.3):
    return DoubleWell(2, a4=depth / 4, a2=depth / 2, a1=tilt)


def f_of(system):
    return system.a4 * GRID**4 - system.a2 * GRID**2 + system.a1 * GRID


def trips(system, step=0.08, **kwargs):
    settings = {"stride": 1, "max_steps": 200_000, "enough": 600, "seed": 1} | kwargs
    x0 = np.tile([[-1.0, 0.0]], (32, 1))
    return measure_return_trips(system, x0, lambda x: x[..., 0], CORES, step=step, **settings)


@pytest.mark.parametrize("depth", [2.0, 6.0])
def test_return_trips_of_small_steps_are_those_of_diffusion(depth):
    """T = integral_low^high exp(F) integral exp(-F) / D with D = step^2 / 2."""
    system, step = well(depth), 0.05
    f = f_of(system)
    low, high = CORES
    q = GRID
    between = (q >= low) & (q <= high)
    exact = np.exp(f[between]).sum() * np.exp(-f).sum() * (GRID[1] - GRID[0]) ** 2 / (step**2 / 2)
    found = trips(system, step)
    assert min(found.crossings) > 200
    assert abs(found.steps.value - exact) < 3.5 * found.steps.stderr + 0.08 * exact  # finite steps
    assert found.steps.stderr < 0.1 * exact


def test_a_flattened_well_foretells_the_return_trip_of_a_deeper_one():
    deep, flat = well(14.0), well(4.0)
    measured = trips(deep, enough=150)
    scaled = extrapolate(trips(flat), GRID, f_of(deep), f_of(flat), CORES).by_diffusion
    error = math.hypot(measured.steps.stderr, scaled.stderr)
    assert abs(scaled.value - measured.steps.value) < 3.5 * error + 0.1 * measured.steps.value
    assert measured.steps.value > 4 * trips(flat).steps.value


def test_a_trip_that_was_not_seen_has_no_time():
    found = trips(well(100.0), max_steps=200)
    assert found.crossings == (0, 0)
    assert math.isnan(found.steps.value)
    assert found.total_steps == 32 * 200


def test_cores_must_be_apart():
    with pytest.raises(ValueError, match="cores must be"):
        measure_return_trips(
            well(1.0), np.zeros((1, 2)), lambda x: x[..., 0], (1.0, 0.0), step=0.1, stride=1,
            max_steps=1,
        )  # fmt: skip
