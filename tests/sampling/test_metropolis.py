from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, montecarlo
from bgfast_kernels.dimer.parameters import DimerParameters

from bgfast.energies import DoubleWell, MuellerBrown, ParticleDimer
from bgfast.sampling import MetropolisSampler

SOFT = {"a": 64.0, "b": 20.0}  # a barrier of 1.6 k_B T, crossed often


def dimer_energy(x, p):
    """The formula of the dimer for one configuration in its physical region."""
    x = x.reshape(-1, 2)
    s = np.linalg.norm(x[0] - x[1]) - p.d0
    u = p.k_d * ((x[0, 0] + x[1, 0]) ** 2 + x[0, 1] ** 2 + x[1, 1] ** 2)
    u += p.a / 4 * s**4 - p.b / 2 * s**2 + p.c * s
    u += p.k_box * (np.maximum(np.abs(x) - p.l, 0) ** 2).sum()
    i, j = np.triu_indices(len(x), 1)
    r = np.linalg.norm(x[i[1:]] - x[j[1:]], axis=1)
    return u + p.eps * ((p.sigma / r) ** 12).sum()


def distances(x):
    return np.linalg.norm(x[..., 0:2] - x[..., 2:4], axis=-1)


def assert_mean(per_walker, exact):
    """Independent walkers: their means scatter around the exact one with the error they show."""
    error = per_walker.std(ddof=1) / np.sqrt(len(per_walker))
    assert abs(per_walker.mean() - exact) < 4 * error
    return error


def dimer_sampler(n_walkers=4, d=1.0, **options):
    system = ParticleDimer(n_solvent=36)
    start = np.tile(system.lattice_configuration(d).numpy(), (n_walkers, 1))
    return MetropolisSampler(system, start, **options)


def small_dimer(n_walkers, n_solvent, d=1.5, **parameters):
    system = ParticleDimer(n_solvent=n_solvent, **parameters)
    solvent = [[0.0, 0.9 * (-1) ** k * (1 + k // 2)] for k in range(n_solvent)]
    start = np.array([[-d / 2, 0.0], [d / 2, 0.0], *solvent]).ravel()
    return system, np.tile(start, (n_walkers, 1))


@pytest.mark.parametrize("n_solvent", [0, 1, 2, 3, 6, 7, 14, 36])
def test_dimer_energy_is_the_formula_for_any_particle_number(n_solvent):
    p = DimerParameters(n_solvent=n_solvent)
    x = np.random.default_rng(n_solvent).uniform(-3.3, 3.3, (20, p.dim))
    u, d = montecarlo.evaluate(montecarlo.dimer(p), x)
    np.testing.assert_allclose(u, [dimer_energy(row, p) for row in x], rtol=1e-12)
    np.testing.assert_allclose(d, distances(x), rtol=1e-14)


def test_dimer_energy_is_continued_at_contact_and_far_out():
    p = DimerParameters(n_solvent=3)
    x = np.random.default_rng(0).uniform(-3, 3, (3, p.dim))
    x[0, 4:6] = x[0, 6:8] + [0.001, 0.0]
    x[1, 4:6] = x[1, 6:8]
    x[2, 7] = -1e30
    u, _ = montecarlo.evaluate(montecarlo.dimer(p), x)
    core = (0.01) ** 2
    for row, r2 in ((0, 1e-6), (1, 0.0)):
        pair = core**-6 - 6 * core**-7 * (r2 / p.sigma**2 - core)
        np.testing.assert_allclose(u[row], pair, rtol=1e-12)
    far = x[2].copy()
    far[7] = -1000 * (1 + np.log(1e27))
    np.testing.assert_allclose(u[2], dimer_energy(far, p), rtol=1e-12)


@pytest.mark.parametrize("moves", ["particle", "all"])
def test_stored_energies_are_those_of_the_stored_configurations(moves):
    sampler = dimer_sampler(moves=moves, step=0.05 if moves == "particle" else 0.02)
    run = sampler.run(400, 100)
    exact = [[dimer_energy(x, ParticleDimer().params) for x in walker] for walker in run.x]
    np.testing.assert_allclose(run.energy, exact, rtol=1e-12)


@pytest.mark.parametrize("system", [DoubleWell(3, a1=0.3), MuellerBrown(), ParticleDimer()])
def test_energies_are_those_of_the_modules(system):
    x = np.random.default_rng(0).normal(0, 1.5, (50, system.dim))
    x[0, :2] = [3e5, -2000.0]
    sampler = MetropolisSampler(system, x)
    expected = system.energy(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(sampler.walkers.u, expected, rtol=1e-12)


def test_incremental_energies_do_not_drift():
    sampler = dimer_sampler()
    sampler.run(1000, 1000)  # 38,000 moves between two full computations
    assert 0 < sampler.drift < 1e-9


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_double_well_is_sampled_as_quadrature_says(tau):
    # tau = 1: one state, kept by the interval; tau = 4: both, the barrier is crossed often.
    interval = (-np.inf, 0.0) if tau == 1.0 else (-np.inf, np.inf)
    start = np.tile([-1.7, 0.0], (128, 1))
    system = DoubleWell(2)
    sampler = MetropolisSampler(system, start, tau=tau, step=0.8, interval=interval, seed=3)
    sampler.run(2000, 2000)
    x = sampler.run(20_000, 10).x
    grid = np.linspace(max(interval[0], -4), min(interval[1], 4), 20_001)
    density = np.exp(-(grid**4 - 6 * grid**2 + grid) / tau)
    density /= density.sum()
    assert x[..., 0].max() < interval[1]
    for power in (1, 2):
        error = assert_mean((x[..., 0] ** power).mean(1), (density * grid**power).sum())
        assert error < 0.02
    for low in np.arange(-2.5, min(interval[1], 2.5), 0.5):
        inside = (x[..., 0] >= low) & (x[..., 0] < low + 0.5)
        assert_mean(inside.mean(1), density[(grid >= low) & (grid < low + 0.5)].sum())
    assert_mean((x[..., 1] ** 2).mean(1), tau)


def test_each_walker_has_its_own_temperature():
    system = DoubleWell(dim=3, k=2.0)
    tau = np.repeat([0.25, 1.0, 4.0], 64)
    sampler = MetropolisSampler(
        system, np.tile([-1.8, 0, 0], (192, 1)), tau=tau, step=0.5 * np.sqrt(tau)
    )
    sampler.run(1000, 1000)
    variance = (sampler.run(8000, 10).x[..., 1:] ** 2).mean((1, 2))
    for value in (0.25, 1.0, 4.0):
        assert assert_mean(variance[tau == value], value / 2.0) < 0.02 * value


@pytest.mark.parametrize("moves", ["particle", "all"])
@pytest.mark.parametrize(
    ("bias", "interval", "tau"),
    [
        (None, None, 1.0),
        ((60.0, 1.4), None, 1.0),
        (None, (1.2, 1.7), 1.0),
        ((20.0, 1.6), None, 2.0),
    ],
)
def test_both_kinds_of_moves_sample_the_dimer_as_quadrature_says(moves, bias, interval, tau):
    system, start = small_dimer(128, n_solvent=0, **SOFT)
    step = 0.25 if moves == "particle" else 0.15
    sampler = MetropolisSampler(
        system, start, tau=tau, step=step, moves=moves, bias=bias, interval=interval, seed=1
    )
    sampler.run(1000, 1000)
    d = distances(sampler.run(8000, 10).x)

    # y1 - y2 is normal with variance tau / k_d; x1 + x2 integrates out.
    along, across = np.meshgrid(np.linspace(-2.6, 0, 1201), np.linspace(-2, 2, 1201))
    grid = np.hypot(along, across)
    s = grid - 1.5
    u = 16 * s**4 - 10 * s**2 - s + 10 * across**2
    if bias is not None:
        u = u + bias[0] / 2 * (grid - bias[1]) ** 2
    weight = np.exp(-u / tau)
    if interval is not None:
        weight = weight * ((grid >= interval[0]) & (grid <= interval[1]))
        assert interval[0] <= d.min()
        assert d.max() <= interval[1]
    weight /= weight.sum()
    for power in (1, 2):
        assert assert_mean((d**power).mean(1), (weight * grid**power).sum()) < 0.02


def test_both_kinds_of_moves_agree_in_a_fluid():
    means, errors = [], []
    for moves, step in (("particle", 0.3), ("all", 0.12)):
        system, start = small_dimer(128, n_solvent=3, l=1.5, **SOFT)
        sampler = MetropolisSampler(system, start, step=step, moves=moves)
        sampler.run(4000, 4000)
        energy = sampler.run(20_000, 20).energy.mean(1)
        means.append(energy.mean())
        errors.append(energy.std() / np.sqrt(128))
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)
    assert max(errors) < 0.05


@pytest.mark.parametrize("moves", ["particle", "particle-palindrome", "all"])
def test_same_bits_for_any_threads_chunks_and_split_of_walkers(moves):
    def sampler(n=5, first=0):
        return dimer_sampler(n, moves=moves, step=0.03, seed=9, first_walker=first)

    try:
        cpu.set_threads(1)
        whole = sampler().run(60, 5)
        cpu.set_threads(2)
        threaded = sampler().run(60, 5)
    finally:
        cpu.set_threads(None)
    np.testing.assert_array_equal(threaded.x, whole.x)
    np.testing.assert_array_equal(threaded.energy, whole.energy)
    chunked = sampler()
    parts = [chunked.run(n, 5).x for n in (10, 5, 45)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole.x)
    np.testing.assert_array_equal(sampler(2, first=3).run(60, 5).x, whole.x[3:])


def test_a_run_resumes_exactly_from_its_state():
    sampler = dimer_sampler(3, step=0.05)
    sampler.adapt(50)
    state = sampler.state_dict()
    expected = sampler.run(40, 4)
    other = dimer_sampler(3, d=2.0, seed=5)
    other.load_state_dict(state)
    again = other.run(40, 4)
    np.testing.assert_array_equal(again.x, expected.x)
    np.testing.assert_array_equal(again.energy, expected.energy)


def test_a_state_of_something_else_is_refused():
    state = dimer_sampler(3).state_dict()
    with pytest.raises(ValueError, match="x in state must have shape"):
        dimer_sampler(2).load_state_dict(state)
    with pytest.raises(ValueError, match="moves 'particle'"):
        dimer_sampler(3, moves="all").load_state_dict(state)
    with pytest.raises(ValueError, match="state lacks tau, u"):
        dimer_sampler(3).load_state_dict({k: v for k, v in state.items() if k not in ("u", "tau")})


def test_adaptation_reaches_the_wanted_acceptance():
    sampler = dimer_sampler(4, step=0.5)
    step = sampler.adapt(600, target=0.4)
    np.testing.assert_array_equal(step, sampler.step)
    np.testing.assert_allclose(sampler.run(200, 200).acceptance, 0.4, atol=0.05)


def test_progress_is_reported_to_the_end():
    seen = []
    dimer_sampler(1).run(300, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (300, 300)
    assert seen == sorted(seen)
    assert len(seen) > 10


def test_start_is_not_changed():
    start = np.zeros((3, 2))
    MetropolisSampler(DoubleWell(2), start).run(50)
    assert (start == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x0": np.zeros((2, 3))}, r"x0 must have shape \[W, 2\]"),
        ({"x0": np.zeros(2)}, r"x0 must have shape \[W, 2\]"),
        ({"x0": np.full((2, 2), np.nan)}, "walker 0"),
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": [1.0, 2.0, 3.0]}, r"tau must be a number or have shape \[2\]"),
        ({"step": -0.1}, "step must be positive"),
        ({"interval": (1.0, -1.0)}, "interval must have low < high"),
        ({"interval": (0.5, 1.0)}, "walker 0 has x1 = 0, allowed is"),
        ({"bias": (-1.0, 0.0)}, "bias must be finite with k >= 0"),
        ({"bias": 3.0}, r"bias must be \(k, centre\)"),
        ({"moves": "particle"}, "moves must be one of 'all'"),
        ({"seed": -1}, "seed must be a non-negative integer"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MetropolisSampler(DoubleWell(2), **{"x0": np.zeros((2, 2)), **options})


def test_bad_runs_and_systems_are_named():
    sampler = MetropolisSampler(DoubleWell(2), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="n_steps must be a multiple of stride = 10"):
        sampler.run(15, 10)
    with pytest.raises(ValueError, match="stride must be at least 1"):
        sampler.run(15, 0)
    with pytest.raises(ValueError, match="target must lie between 0 and 1"):
        sampler.adapt(100, target=1.0)
    with pytest.raises(TypeError, match="no Monte Carlo for SimpleNamespace"):
        MetropolisSampler(SimpleNamespace(dim=2), np.zeros((1, 2)))
