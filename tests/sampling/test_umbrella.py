import contextlib
import io
import logging

import numpy as np
import pytest

from bgfast.analysis import profile_deviation
from bgfast.analysis.comparison import exact_profile
from bgfast.energies import ParticleDimer
from bgfast.sampling.replica_exchange import UmbrellaLadders
from bgfast.sampling.umbrella import UmbrellaSettings, umbrella_profile
from bgfast.sampling.umbrella_estimate import without_double_well
from bgfast.sampling.wham import unbias

SHORT = UmbrellaSettings(n_windows=8, spring=20.0, n_ladders=8, sweeps=4096, burn_in=200)
# F(d < 1.5) - F(d >= 1.5) without solvent, by quadrature (tau, c).
EXACT = {(0.5, -1): 2.210, (1, -1): 1.077, (2, -1): 0.479, (0.5, 4): -8.900, (1, 4): -4.441}


@pytest.fixture(scope="module")
def without_solvent():
    return {
        (tau, c): umbrella_profile(ParticleDimer(n_solvent=0, c=c), tau, settings=SHORT)
        for tau, c in EXACT
    }


def exact_without_solvent(tau, c):
    """F(d) by quadrature: the restraint leaves d times a function of the angle, Bessel's I0."""
    from scipy.special import ive

    def f(d):
        s = d - 1.5
        v = 160 * s**4 - 100 * s**2 + c * s
        # k_d (x1y^2 + x2y^2) = k_d (d^2 / 2) sin^2(angle), apart from the centre of mass.
        z = 20 * d**2 / (4 * tau)
        return v / tau - np.log(d * ive(0, z))

    return exact_profile(f, (0.5, 2.5), 80)


def harmonic_samples(n=2000, seed=1):
    """Samples of N(0, 1) in five harmonic windows of strength 4, exactly drawn."""
    centres, k = np.linspace(-2, 2, 5), 4.0
    noise = np.random.default_rng(seed).normal(size=(5, n))
    x = k * centres[:, None] / (1 + k) + noise / np.sqrt(1 + k)
    exact = 0.5 * k / (1 + k) * (centres**2 - centres[0] ** 2)
    return x, (lambda at: 0.5 * k * (at - centres[:, None]) ** 2), exact


def binned(x, bias, n_bins=4000):
    edges = np.linspace(-6, 6, n_bins + 1)
    counts = np.array([np.histogram(row, edges)[0] for row in x], dtype=float)
    return counts, bias(0.5 * (edges[1:] + edges[:-1]))


def test_unbias_finds_known_free_energies():
    x, bias, exact = harmonic_samples(20_000)
    result = unbias(*binned(x, bias))
    np.testing.assert_allclose(result.f, exact, atol=0.08)
    middle = np.linspace(-6, 6, 4001)[:-1] + 0.0015
    p = np.exp(result.log_p)
    assert p @ middle == pytest.approx(0, abs=0.03)
    assert p @ middle**2 == pytest.approx(1, abs=0.05)


def test_unbias_agrees_with_pymbar_on_unbinned_samples():
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pymbar = pytest.importorskip("pymbar")
    x, bias, _ = harmonic_samples()
    mbar = pymbar.MBAR(bias(x.ravel()), np.full(5, x.shape[1]))
    result = unbias(*binned(x, bias))
    np.testing.assert_allclose(result.f, mbar.f_k, atol=5e-4)
    matrix = mbar.compute_overlap()["matrix"]
    np.testing.assert_allclose(result.overlap, np.diag(matrix, 1), rtol=1e-3)


def test_windows_that_do_not_overlap_are_told():
    counts = np.array([[5.0, 5, 0, 0], [0, 0, 5, 5]])
    bias = np.array([[0.0, 0, 900, 900], [900, 900, 0, 0]])
    assert unbias(counts, bias).overlap.max() < 1e-12


def test_unbias_refuses_an_empty_window():
    with pytest.raises(ValueError, match="ensemble 1 has none"):
        unbias(np.array([[1.0, 1], [0, 0]]), np.zeros((2, 2)))


def ladders(system, seed=0, n_ladders=64):
    start = np.tile(system.lattice_configuration(1.5).numpy(), (n_ladders, 1))
    return UmbrellaLadders(system, start, 1.0, np.linspace(1, 2, 5), 30.0, (0.5, 2.5), seed)


def test_exchange_keeps_every_window_occupied_once_per_ladder():
    system = ParticleDimer(n_solvent=0)
    walkers = ladders(system)
    for _ in range(20):
        walkers.exchange(walkers.advance(2))
    occupied = np.zeros((64, 5), int)
    np.add.at(occupied, (walkers.ladder, walkers.window), 1)
    assert (occupied == 1).all()
    assert (walkers.swapped > 0).all()
    assert (walkers.swapped < walkers.tried).all()


def test_exchange_leaves_the_distribution_of_each_window_alone():
    """With swaps, each window still samples d with its own bias, known by quadrature."""
    system = without_double_well(ParticleDimer(n_solvent=0))
    walkers = ladders(system)
    walkers.adapt()
    sums, n = np.zeros((64, 5)), 400
    for _ in range(n):
        d = walkers.advance(4)
        sums[walkers.ladder, walkers.window] += d
        walkers.exchange(d)
    d = np.linspace(0.5, 2.5, 4001)
    free = exact_without_solvent_flat(d)
    p = np.exp(-free - 15 * (d - walkers.centres[:, None]) ** 2)
    exact = (p @ d) / p.sum(axis=1)
    per_ladder = sums / n
    error = per_ladder.std(axis=0, ddof=1) / 8
    assert (np.abs(per_ladder.mean(axis=0) - exact) < 4 * error).all()
    assert error.max() < 0.01


def exact_without_solvent_flat(d):
    from scipy.special import ive

    return -np.log(d * ive(0, 5 * d**2))


@pytest.mark.parametrize(("tau", "c"), EXACT)
def test_free_energy_difference_without_solvent_is_exact(without_solvent, tau, c):
    result = without_solvent[tau, c]
    assert result.delta_f.stderr < 0.06
    assert abs(result.delta_f.value - EXACT[tau, c]) < 3.5 * result.delta_f.stderr


@pytest.mark.parametrize(("tau", "c"), EXACT)
def test_profile_without_solvent_is_exact_up_to_its_errors(without_solvent, tau, c):
    result = without_solvent[tau, c]
    deviation = profile_deviation(result.profile, exact_without_solvent(tau, c))
    assert result.shape_error < 0.2
    assert deviation.largest < 4 * result.shape_error


def test_halves_and_statement_belong_to_the_result(without_solvent):
    result = without_solvent[1, -1]
    assert set(result.halves) == {"started closed", "started open", "first half", "second half"}
    for half in result.halves.values():
        assert half.profile.f.shape == (80,)
        assert abs(half.delta_f.value - EXACT[1, -1]) < 4 * half.delta_f.stderr
    assert not result.converged  # far too short for 0.02
    assert "above the wanted 0.02" in result.statement
    assert f"delta_f is {result.delta_f}" in result.statement
    assert (result.overlap > 0.1).all()
    assert ((result.exchange > 0.2) & (result.exchange < 0.9)).all()


def test_run_ends_when_the_tolerance_is_reached():
    settings = UmbrellaSettings(
        n_windows=6, spring=20.0, n_ladders=4, sweeps=12_800, burn_in=40, tolerance=3.0
    )
    seen = []
    result = umbrella_profile(
        ParticleDimer(n_solvent=2),
        settings=settings,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result.sweeps == 12_800 // 8
    assert 0.02 < result.shape_error <= 3.0
    assert result.burn_in == 40
    assert seen[-1] == (12_840, 12_840)


def test_same_seed_gives_the_same_result_and_another_seed_another():
    settings = UmbrellaSettings(n_windows=4, spring=20.0, n_ladders=4, sweeps=128, burn_in=0)
    first, again, other = (
        umbrella_profile(ParticleDimer(n_solvent=3), settings=settings, seed=seed).delta_f.value
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_tilt_of_the_double_well_adds_to_the_profile_exactly():
    """F of two systems that differ in c differs by their c (d - d0) / tau."""
    settings = UmbrellaSettings(n_windows=6, spring=20.0, n_ladders=4, sweeps=640, burn_in=80)
    one, other = (
        umbrella_profile(ParticleDimer(n_solvent=6, c=c), 2.0, settings=settings).profile
        for c in (-1.0, 4.0)
    )
    gap = other.f - one.f
    tilt = 5 * (one.r - 1.5) / 2
    # Same walkers: only the tilt within a bin is left, at most 5 / tau times half its width.
    np.testing.assert_allclose(gap - gap.mean(), tilt - tilt.mean(), atol=0.035)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 0.0}, "tau must be positive"),
        ({"bounds": (2.5, 0.5)}, "bounds must be"),
        ({"split": 3.0}, "bounds must be"),
        ({"bounds": (-1.0, 2.5)}, "bounds must be"),
        ({"n_bins": 0}, "n_bins must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        umbrella_profile(ParticleDimer(n_solvent=0), **arguments)


@pytest.mark.parametrize(
    "setting",
    [
        {"n_windows": 1},
        {"n_ladders": 5},
        {"n_ladders": 2},
        {"sweeps": 63},
        {"burn_in": -1},
        {"spring": -1.0},
        {"tolerance": 0.0},
    ],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        UmbrellaSettings(**setting)
