import json
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image

from bgfast.analysis import figures
from bgfast.analysis.comparison import exact_profile
from bgfast.analysis.profiles import free_energy_profile
from bgfast.analysis.weights import WeightAccumulator

BOUNDS = (-2.5, 2.5)
RNG = np.random.default_rng(0)
EXACT = exact_profile(lambda r: 0.5 * r**2, BOUNDS, 20)
FULL = free_energy_profile(RNG.normal(size=2000), bounds=BOUNDS, n_bins=20)
GAPS = free_energy_profile(RNG.normal(size=8), bounds=BOUNDS, n_bins=20)
SINGLE = free_energy_profile([0.1], bounds=BOUNDS, n_bins=20)
EMPTY = free_energy_profile([], bounds=BOUNDS, n_bins=20)
NOTHING = np.full(5, np.nan)


def metrics(n):
    return [{"step": i, "stage": i * 4 // n, "ml": -float(i), "kl": None} for i in range(n)]


def summary_of(log_w):
    accumulator = WeightAccumulator()
    accumulator.update(log_w)
    return accumulator.result()


def generated(profile, n=200):
    return figures.Generated(RNG.normal(size=n), profile)


SURFACE = figures.Surface(lambda x: x[:, 0] ** 4 + x[:, 1] ** 2, ((-2, 2), (-3, 3)))


def film_frame(n):
    x = RNG.normal(size=(n, 2))
    log_w = np.append(np.full(n, -np.inf), NOTHING)
    return figures.FilmFrame("title", x[:, 0], np.append(x[:, 0], NOTHING), log_w, x)


CASES = {
    "profile": lambda: figures.free_energy(FULL, {"exact": EXACT}, barrier=(-0.5, 0.5), f_max=5),
    "profile with gaps": lambda: figures.free_energy(GAPS, {"full": FULL}),
    "profile of one sample": lambda: figures.free_energy(SINGLE),
    "profile of no sample": lambda: figures.free_energy(EMPTY),
    "reference to no sample": lambda: figures.free_energy(EMPTY, {"exact": EXACT}),
    "temperatures": lambda: figures.temperature_profiles(
        {2.0: (FULL, EXACT), 0.5: (GAPS, None), 1.0: (EMPTY, EXACT)}, f_max=4.0
    ),
    "temperatures, none": lambda: figures.temperature_profiles({1.0: (EMPTY, None)}),
    "energies": lambda: figures.energy_histograms(
        RNG.gamma(3, size=500), RNG.normal(size=500), RNG.gamma(2, size=100)
    ),
    "energies, heavy tail": lambda: figures.energy_histograms(np.r_[1.0, 2.0, 1e30, np.inf]),
    "energies, one": lambda: figures.energy_histograms([3.0], [0.0]),
    "energies, no weight": lambda: figures.energy_histograms([1.0, 2.0], [np.nan, -np.inf]),
    "energies, none": lambda: figures.energy_histograms(NOTHING, NOTHING),
    "latent": lambda: figures.latent_picture(
        {"a": RNG.normal(size=(300, 6)), "b": np.ones((1, 6))}
    ),
    "latent, none": lambda: figures.latent_picture({"a": np.empty((0, 6))}),
    "latent, far": lambda: figures.latent_picture({"a": np.full((4, 2), 1e6)}, sigma=0.5),
    "configurations": lambda: figures.dimer_configurations(
        {"closed": RNG.normal(size=76), "transition": [], "open": RNG.normal(size=(38, 2))},
        energies={"closed": 3.0},
    ),
    "configuration, not finite": lambda: figures.dimer_configurations({"x": np.full(8, np.nan)}),
    "losses": lambda: figures.loss_curves(metrics(1000), {"ml": "example", "kl": "energy"}),
    "losses, one": lambda: figures.loss_curves(metrics(1), {"ml": "example"}),
    "losses, none": lambda: figures.loss_curves([], {"ml": "example"}),
    "weights": lambda: figures.weight_diagnostics(w := RNG.normal(size=3000), summary_of(w)),
    "weights, one": lambda: figures.weight_diagnostics([1.0]),
    "weights, one of many": lambda: figures.weight_diagnostics(np.r_[0.0, np.full(999, -1e4)]),
    "weights, equal": lambda: figures.weight_diagnostics(np.zeros(100)),
    "weights, none": lambda: figures.weight_diagnostics(NOTHING, summary_of(NOTHING)),
    "surface": lambda: figures.energy_surface(
        lambda x: x[:, 0] ** 4 + x[:, 1] ** 2,
        {"a": RNG.normal(size=(10, 2)), "b": np.empty((0, 2))},
    ),
    "comparison": lambda: figures.comparison(
        {
            "N10S": {"ML": generated(FULL), "KL": generated(GAPS)},
            "R10": {"ML": generated(EMPTY, 0)},
        },
        EXACT,
    ),
    "film strip": lambda: figures.film_strip(
        [film_frame(0), film_frame(500)], BOUNDS, reference=EXACT, surface=SURFACE
    ),
    "film strip, one": lambda: figures.film_strip([film_frame(500)], BOUNDS),
    "film strip, no weights": lambda: figures.film_strip(
        [figures.FilmFrame("title", RNG.normal(size=50), RNG.normal(size=90))], BOUNDS
    ),
    "densities": lambda: figures.densities(
        {"ML": generated(FULL), "KL": generated(GAPS), "none": generated(EMPTY, 0)},
        EXACT,
        lambda x: 0.5 * x**2,
    ),
    "comparison, one": lambda: figures.comparison({"R10": {"ML": generated(SINGLE)}}, EXACT),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_figure_is_drawn_and_not_empty(case, tmp_path):
    path = tmp_path / "figure.png"
    figures.save(CASES[case](), path)
    pixels = image.imread(path)[..., :3]
    assert pixels.shape[1] >= 300
    assert (pixels < 0.9).any(axis=2).mean() > 0.001


def test_drawing_leaves_no_global_trace(tmp_path):
    before = dict(mpl.rcParams)
    pyplot = "matplotlib.pyplot" in sys.modules
    figures.save(CASES["profile"](), tmp_path / "figure.png")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_metrics_are_read_up_to_a_line_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2}) + '\n{"st')
    assert figures.read_metrics(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 1: not a JSON object"):
        figures.read_metrics(path)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.energy_histograms([1.0], [1.0, 2.0]), "log_w must have the shape"),
        (lambda: figures.latent_picture({}), "same dim"),
        (lambda: figures.latent_picture({"a": np.ones(3)}), r"must be \[n, dim\]"),
        (lambda: figures.latent_picture({"a": np.ones((3, 1))}), "axes_shown must be below"),
        (lambda: figures.dimer_configurations({}), "at least one"),
        (lambda: figures.dimer_configurations({"a": np.ones(7)}), "must have shape"),
        (lambda: figures.energy_surface(len, {}), "at least one set"),
        (lambda: figures.energy_surface(len, {"a": np.ones(3)}), r"shape \[n, 2\]"),
        (lambda: figures.comparison({}, EXACT), "at least one network"),
        (lambda: figures.film_strip([], BOUNDS), "at least one"),
        (
            lambda: figures.film_strip(
                [figures.FilmFrame("a", NOTHING, NOTHING, NOTHING)], BOUNDS, surface=SURFACE
            ),
            "needs points",
        ),
        (lambda: figures.densities({}, EXACT, np.square), "at least one training"),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    ("n", "at_most", "chosen"), [(3, 6, [0, 1, 2]), (21, 6, [0, 4, 8, 12, 16, 20]), (7, 2, [0, 6])]
)
def test_pictures_of_a_strip_are_chosen_evenly(n, at_most, chosen):
    assert figures.evenly_chosen(n, at_most) == chosen
