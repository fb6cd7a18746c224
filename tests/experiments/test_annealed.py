"""Annealed samples of an experiment: the file, the estimate from it, flattening, the verdict."""

import h5py
import numpy as np
import pytest
import torch

from bgfast.analysis.profiles import Profile
from bgfast.energies import Biased, DoubleWell
from bgfast.experiments import annealed
from bgfast.experiments.annealed import (
    AnnealConfig,
    AnnealedTarget,
    draw_annealed,
    flattening,
)
from bgfast.experiments.annealed_estimate import annealed_estimate
from bgfast.experiments.annealed_report import anneal_entry, annealed_sentences
from bgfast.experiments.config import AnalysisConfig
from bgfast.experiments.exact import double_well_exact
from bgfast.experiments.progress import Reporter
from bgfast.flows import architecture

ANALYSIS = AnalysisConfig(bounds=(-2.5, 2.5), n_bins=20, split=0.0)
EXACT = double_well_exact(DoubleWell(), 1.0, (-2.5, 2.5), 20, 0.0)


def first(x):
    return x[..., 0]


def target(**options):
    return AnnealedTarget(DoubleWell(), first, **options)


def draw(path, wanted, seed=0, **options):
    config = AnnealConfig(**{"n_samples": 2000, "draws": 1, "cess": 0.9} | options)
    flow = architecture("S", dim=2)  # the identity
    draw_annealed(flow, wanted, path, config, 1.0, seed, "anneal", Reporter(quiet=True))


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    path = tmp_path_factory.mktemp("annealed") / "flat.h5"
    known = EXACT.profile.f < 9
    profile = Profile(
        **vars(EXACT.profile) | {"f": np.where(known, EXACT.profile.f, np.nan), "ess": 99.0 * known}
    )
    bias = flattening(profile)
    draw(path, target(biased=Biased(DoubleWell(), first, bias)))
    return path


def test_a_flat_target_leads_back_to_the_system(flat):
    found = annealed_estimate(flat, ANALYSIS, "above-below")
    assert 0 < found.delta_f.stderr < 0.3
    assert abs(found.delta_f.value - EXACT.delta_f) < 3 * found.delta_f.stderr
    assert abs(found.log_z.value - EXACT.log_z) < 3 * found.log_z.stderr
    barrier = np.abs(found.profile.r) < 0.6
    apart = (found.profile.f - EXACT.profile.f)[barrier]
    assert (np.abs(apart) < 4 * found.profile.stderr[barrier] + 0.1).all()
    assert found.verdict.level != "poor"


def test_orientation_is_a_sign(flat):
    one, other = (annealed_estimate(flat, ANALYSIS, o) for o in ("below-above", "above-below"))
    assert one.delta_f.value == -other.delta_f.value
    assert one.delta_f.stderr == other.delta_f.stderr


def test_the_file_holds_rows_of_the_system_without_the_bias(flat):
    with h5py.File(flat) as file:
        rows = {name: file[name][()] for name in file}
        assert file.attrs["n"] == 2000
    energy = DoubleWell().energy(torch.from_numpy(rows["x"]).double()).numpy()
    np.testing.assert_allclose(rows["energy"], energy)
    np.testing.assert_allclose(rows["r"], rows["x"][:, 0])
    assert np.log(np.exp(rows["log_w"]).mean()) == pytest.approx(
        annealed_estimate(flat, ANALYSIS).log_z.value, abs=1e-9
    )


def test_numbers_and_sentences_say_how_it_went(flat):
    found = annealed_estimate(flat, ANALYSIS)
    entry = anneal_entry(found)
    assert entry["stages"] == len(entry["betas"]) > 1
    assert 0 < entry["min_ess"] <= 1
    assert 0 < entry["acceptance"] < 1
    assert entry["log_z"] == found.log_z.value
    assert f"2,000 annealed samples in {entry['stages']} stages" in annealed_sentences(found)[0]


def test_a_file_is_whole_or_not_there_and_not_made_twice(tmp_path, flat, monkeypatch):
    before = flat.stat().st_mtime_ns
    draw(flat, target())
    assert flat.stat().st_mtime_ns == before

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(annealed, "anneal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "new.h5", target())
    assert not list(tmp_path.iterdir())


def test_islands_that_miss_a_state_are_not_trusted(tmp_path):
    deep = AnnealedTarget(DoubleWell(a4=4.0, a2=40.0), first)  # a barrier of 100
    draw(tmp_path / "deep.h5", deep, n_samples=16, draws=1, islands=8, cess=0.5)
    found = annealed_estimate(tmp_path / "deep.h5", ANALYSIS)
    assert found.verdict.level == "poor"
    assert "do not quote" in found.verdict.headline


def test_too_little_knowledge_gives_no_bias():
    nothing = Profile(**vars(EXACT.profile) | {"ess": np.zeros(20)})
    assert flattening(nothing) is None
