"""Annealing on a device never waits for it but once a stage, and finds what the CPU finds.

Proven on the CPU: operations that would wait raise, and CUDA kernels run in the shim.
"""

from functools import partial

import numpy as np
import pytest
import torch

from bgfast.energies import DoubleWell, MuellerBrown, ParticleDimer
from bgfast.flows import architecture
from bgfast.sampling.anneal import AnnealSettings, anneal, device_plan, island, run
from bgfast.sampling.anneal import device_weights as weights
from bgfast.sampling.anneal import hmc as moves
from bgfast.sampling.anneal import weights as numpy_weights
from bgfast.sampling.anneal.device_island import run_device_island
from bgfast.sampling.anneal.device_local import DeviceLocalMoves, _median
from bgfast.sampling.anneal.island import Stage, plan, run_island
from bgfast.sampling.anneal.local import LocalMoves
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.random_numbers import generator_of
from tests.cuda_shim import COMPILER
from tests.montecarlo_shim import tensors_of_the_cpu
from tests.waiting import NoWaiting, Waited

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")

STAGES = [Stage(beta, 0.4, 0.5) for beta in (0.1, 0.3, 0.6, 1.0)]
SETTINGS = AnnealSettings(n_samples=500, islands=1, draws=2, resample_below=0.9, chunk=600)


def changed(**options):
    return AnnealSettings(**(vars(SETTINGS) | options))


def target(energy=None, letters="N", dtype=torch.float64):
    energy = energy or DoubleWell(2)
    return Target(architecture(letters, energy.dim, (8,), dtype=dtype), energy)


def numbers(n, dim, step, rng, device):
    """As on a device: torch draws."""
    like = {"generator": generator_of(rng, device), "dtype": torch.float64}
    return torch.randn(n, dim, **like), step * torch.ones(n), torch.log(torch.rand(n, **like))


@pytest.fixture
def machine():
    with tensors_of_the_cpu() as made:
        yield made


def local_moves(energy=None, **options):
    there = LocalMoves(energy or DoubleWell(2), 1.0, None, **options)
    return there, DeviceLocalMoves(there, torch.device("cpu"))


def nothing():
    pass


def test_a_population_never_waits(monkeypatch):
    monkeypatch.setattr(moves, "_random_numbers", numbers)
    expected = run_device_island(target(), SETTINGS, STAGES, None, 3, nothing).finished()
    made = target()
    with NoWaiting():
        pending = run_device_island(made, SETTINGS, STAGES, None, 3, nothing)
    found = pending.finished()
    assert np.array_equal(found.log_weights, expected.log_weights)
    assert (found.acceptance > 0.3).all()
    assert np.isnan(found.sweep_acceptance).all()
    assert len(np.unique(found.ancestor)) < 500


@needs_compiler
@pytest.mark.parametrize("kind", ["smc", "ais"])
def test_a_population_with_local_moves_never_waits(monkeypatch, machine, kind):
    monkeypatch.setattr(moves, "_random_numbers", numbers)
    settings = changed(kind=kind, sweeps=2, sweeps_from=0.5, final_sweeps=2, final_frames=4)
    (_, local), made = local_moves(), target()
    with NoWaiting():
        pending = run_device_island(made, settings, STAGES, local, 3, nothing)
    found = pending.finished()
    assert found.log_weights.shape == found.ancestor.shape == (1000,)
    assert np.isnan(found.sweep_acceptance[:2]).all()
    assert (found.sweep_acceptance[2:] > 0.2).all()
    assert len(machine.launches) == 2 + 4
    assert made.evaluations.sweeps == (2 + 4) * 2 * 500


def estimates(run, n=12):
    return np.array([run(seed).log_z for seed in range(n)])


@needs_compiler
@pytest.mark.parametrize("sweeps", [0, 4])
def test_a_population_on_a_device_estimates_what_one_on_the_cpu_does(machine, sweeps):
    settings = changed(sweeps=sweeps, sweeps_from=0.0)
    on_cpu, on_device = local_moves() if sweeps else (None, None)

    def there(seed):
        return run_device_island(target(), settings, STAGES, on_device, seed, nothing).finished()

    found = estimates(there)
    expected = estimates(lambda s: run_island(target(), settings, STAGES, on_cpu, s, nothing))
    error = np.hypot(found.std(ddof=1), expected.std(ddof=1)) / 12**0.5
    assert error < 0.1
    assert abs(found.mean() - expected.mean()) < 4 * error
    if not sweeps:  # both draw the same numbers but where they resample: nearly the same
        np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_plan_waits_once_a_stage(monkeypatch):
    monkeypatch.setattr(moves, "_random_numbers", numbers)
    made = target(letters="R2", dtype=torch.float32)
    with pytest.raises(Waited), NoWaiting():
        device_plan.device_plan(made, SETTINGS, None, 3)
    reads = []

    def read(tensor):
        reads.append(tensor.numel())
        return [float(number) for number in tensor.numpy()]

    monkeypatch.setattr(device_plan, "_read", read)
    with NoWaiting():
        stages = device_plan.device_plan(made, SETTINGS, None, 3)
    assert reads == [2] * len(stages) + [2 * len(stages)]


@needs_compiler
@pytest.mark.parametrize("sweeps", [0, 4])
def test_a_plan_on_a_device_is_that_on_the_cpu(machine, sweeps):
    # Their random numbers differ in resampling and local moves: the schedules agree closely.
    settings = changed(sweeps=sweeps, sweeps_from=0.3, pilot=1000, draws=8, cess=0.95)
    on_cpu, on_device = local_moves() if sweeps else (None, None)
    expected = plan(target(letters="R2"), settings, on_cpu, 3)
    found = device_plan.device_plan(target(letters="R2"), settings, on_device, 3)
    assert abs(len(found) - len(expected)) <= 1
    assert found[0].beta == pytest.approx(expected[0].beta, rel=1e-9)
    assert found[0].step == pytest.approx(expected[0].step, rel=0.02)
    assert found[-1].beta == expected[-1].beta == 1.0
    assert found[-1].step == pytest.approx(expected[-1].step, rel=0.2)
    if sweeps:
        assert found[-1].sweep_step == pytest.approx(expected[-1].sweep_step, rel=0.15)
    else:
        assert found[-1].sweep_step == 0.0


def test_weights_of_a_plan_add_up_as_on_the_cpu(monkeypatch):
    def unmoved(made, particles, *_):
        return particles, torch.full((len(particles),), 0.8, dtype=torch.float64)

    for module in (island, device_plan):
        monkeypatch.setattr(module, "hmc", unmoved)
    settings = changed(pilot=1000, draws=4, cess=0.9)
    expected = plan(target(letters="R2"), settings, None, 3)
    found = device_plan.device_plan(target(letters="R2"), settings, None, 3)
    for k in range(4):  # the ESS is above 0.5 so far: the same particles
        assert found[k].beta == pytest.approx(expected[k].beta, rel=1e-9)


def test_nothing_to_anneal_is_said():
    class Nowhere(DoubleWell):
        def _energy(self, x):
            return super()._energy(x) + torch.inf

    with pytest.raises(ValueError, match="none of the flow's draws has a finite weight"):
        device_plan.device_plan(target(Nowhere(2)), SETTINGS, None, 3)


@needs_compiler
@pytest.mark.parametrize(
    ("energy", "interval", "step"),
    [
        (DoubleWell(2), (-1.0, np.inf), 0.5),
        (MuellerBrown(), (-0.5, 1.0), 0.2),
        (ParticleDimer(n_solvent=2), (1.0, 2.0), 0.3),
    ],
)
def test_local_moves_never_wait_and_are_those_of_the_cpu(machine, energy, interval, step):
    made = target(energy, "S")
    on_cpu, on_device = local_moves(energy, interval=interval)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400 if energy.dim == 2 else 200, energy.dim)))
    if energy.dim > 2:
        x = energy.lattice_configuration(1.5) + 0.2 * x
    x[5], x[6, 0] = torch.nan, 1e200
    particles = made.particles(made.inverse(x))
    with NoWaiting():
        found, probability = on_device.move(
            made, particles, 0.7, 8, step, np.random.default_rng(1), 999
        )
    expected, of_cpu = on_cpu.move(made, particles, 0.7, 8, step, np.random.default_rng(1), 999)
    stayed = ((found.x == particles.x) | found.x.isnan()).all(1)
    assert stayed[~on_cpu.movable(x)].all()
    assert 0.1 < stayed.double().mean() < 0.95
    torch.testing.assert_close(probability == 0, of_cpu == 0)
    moved = of_cpu > 0
    for values in (lambda p: p.u, lambda p: p.x[:, -1]):
        a, b = values(found)[moved].numpy(), values(expected)[moved].numpy()
        error = np.hypot(a.std(), b.std()) / len(a) ** 0.5
        assert abs(a.mean() - b.mean()) < 4 * error
    torch.testing.assert_close(found.u[moved], energy.energy(found.x[moved]))
    wanted = torch.arange(len(x)) % 3 > 0
    start = torch.tensor(0.1, dtype=torch.float64)
    with NoWaiting():
        size = on_device.step_size(made, x, wanted, start, np.random.default_rng(2))
    assert size.item() == pytest.approx(on_cpu.step_size(made, x[wanted], 0.1, 3), rel=0.15)
    none = on_device.step_size(made, x, wanted & False, start, np.random.default_rng(2))
    assert none == start


def test_medians_are_those_of_numpy():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=41))
    for n in (41, 40, 2, 1):
        chosen = torch.arange(41) < n
        found = _median(values, chosen, torch.tensor(7.0))
        assert found.item() == np.median(values[:n].numpy())
    assert _median(values, torch.zeros(41, dtype=torch.bool), torch.tensor(7.0)) == 7.0


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("n", [100, 1000])
def test_resampling_on_a_device_is_that_on_the_cpu(n, spread):
    rng = np.random.default_rng(0)
    log_weights = spread * rng.normal(size=1000) - 500.0
    log_weights[[0, 17, 999]] = -np.inf
    there = torch.from_numpy(log_weights)
    found = weights.systematic(there, n, 0.37).numpy()
    assert np.array_equal(found, numpy_weights.systematic(log_weights, n, 0.37))
    assert not np.isin(found, [0, 17, 999]).any()
    share = weights.ess_share(there).item()
    assert share == pytest.approx(numpy_weights.ess_share(log_weights))


def test_a_population_without_weight_stays_one():
    nowhere = torch.full((5,), -torch.inf, dtype=torch.float64)
    assert weights.ess_share(nowhere) == 0
    index = weights.systematic(nowhere, 3, 0.5)
    assert ((index >= 0) & (index < 5)).all()
    assert weights.conditional_ess(nowhere, nowhere[None]) == 0


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1e7])
@pytest.mark.parametrize("beta", [0.0, 1e-5, 0.3, 0.997])
@pytest.mark.parametrize("share", [0.1, 0.99])
def test_the_next_beta_on_a_device_is_that_on_the_cpu(spread, beta, share):
    rng = np.random.default_rng(0)
    log_w, log_weights = spread * rng.normal(size=300), rng.normal(size=300)
    log_w[3] = log_weights[3] = log_w[5] = -np.inf
    there = (torch.from_numpy(log_weights), torch.from_numpy(log_w))
    with NoWaiting():
        found = weights.next_beta(*there, beta, share)
    expected = numpy_weights.next_beta(log_weights, log_w, beta, share)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    increment = numpy_weights.scaled(log_w, 0.1)
    assert weights.conditional_ess(there[0], torch.from_numpy(increment)[None]).item() == (
        pytest.approx(numpy_weights.conditional_ess(log_weights, increment))
    )


@needs_compiler
def test_a_whole_run_is_that_of_the_cpu(monkeypatch, machine):
    options = {"sweeps": 2, "final_sweeps": 4, "final_frames": 4, "cess": 0.9, "draws": 4}
    anneal_some = partial(
        anneal, target().flow, DoubleWell(2), changed(islands=6, n_samples=1200, **options)
    )
    expected = anneal_some(seed=1)
    monkeypatch.setattr(run, "_run", run._run_on_device)
    steps = []
    found = anneal_some(seed=1, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert machine.launches
    assert found.x.shape == expected.x.shape
    error = np.hypot(found.log_z.stderr, expected.log_z.stderr)
    assert abs(found.log_z.value - expected.log_z.value) < 4 * error
    assert error < 0.1
