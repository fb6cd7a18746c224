import io
import json
import os

import numpy as np
import pytest
from rich.console import Console

from bgfast.energies import ParticleDimer
from bgfast.experiments import reference
from bgfast.experiments.progress import Reporter
from bgfast.sampling.umbrella import UmbrellaSettings

TINY = UmbrellaSettings(n_windows=4, spring=20.0, n_ladders=4, sweeps=128, burn_in=0)


class Notes(Reporter):
    def __init__(self):
        super().__init__(Console(file=io.StringIO(), width=500))

    @property
    def text(self):
        return self.console.file.getvalue()


def tiny(cache, reporter=None, **changes):
    options = {"n_bins": 20, "settings": TINY, "cache": cache, "reporter": reporter} | changes
    energy = options.pop("energy", ParticleDimer(n_solvent=1))
    return reference.dimer_reference(energy, **options)


@pytest.fixture
def counted(monkeypatch):
    calls = []
    compute = reference.umbrella_profile

    def counting(*args, **kwargs):
        calls.append(kwargs)
        return compute(*args, **kwargs)

    monkeypatch.setattr(reference, "umbrella_profile", counting)
    return calls


def assert_same(one, other):
    a, b = (json.dumps(reference.result_to_dict(result)) for result in (one, other))
    assert a == b


def test_second_call_reads_what_the_first_computed(tmp_path, counted):
    first, second = tiny(tmp_path / "new" / "cache"), tiny(tmp_path / "new" / "cache")
    assert len(counted) == 1
    assert_same(first, second)
    assert second.profile.counts.dtype == np.int64
    assert np.isnan(second.profile.ess).all()
    np.testing.assert_array_equal(first.profile.f, second.profile.f)
    np.testing.assert_array_equal(
        first.halves["started open"].overlap, second.halves["started open"].overlap
    )


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 2.0},
        {"seed": 1},
        {"n_bins": 10},
        {"split": 1.4},
        {"bounds": (0.6, 2.5)},
        {"energy": ParticleDimer(n_solvent=1, c=4.0)},
        {
            "settings": UmbrellaSettings(
                n_windows=5, spring=20.0, n_ladders=4, sweeps=128, burn_in=0
            )
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_defines_the_result_is_part_of_the_key(tmp_path, counted, change):
    tiny(tmp_path)
    tiny(tmp_path, **change)
    assert len(counted) == 2


def test_another_format_version_is_computed_anew(tmp_path, counted, monkeypatch):
    tiny(tmp_path)
    monkeypatch.setattr(reference, "VERSION", reference.VERSION + 1)
    tiny(tmp_path)
    assert len(counted) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", '{"key": 1, "result": 2}', "cut"])
def test_damaged_cache_is_noted_and_replaced(tmp_path, counted, damage):
    first = tiny(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    if damage == "cut":
        content = json.loads(whole)
        content["result"]["halves"]["first half"] = None
        damage = json.dumps(content)
    path.write_text(damage)
    notes = Notes()
    second = tiny(tmp_path, notes)
    assert len(counted) == 2
    assert "cannot use the cached reference" in notes.text
    np.testing.assert_array_equal(first.profile.f, second.profile.f)
    assert_same(second, tiny(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_folder_that_cannot_be_written_is_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    notes = Notes()
    result = tiny(blocked, notes)
    assert "cannot keep the reference" in notes.text
    assert np.isfinite(result.delta_f.value)


@pytest.mark.parametrize(("xdg", "expected"), [("x", "x/bgfast"), ("", "home/.cache/bgfast")])
def test_default_cache_follows_xdg(tmp_path, monkeypatch, xdg, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / xdg) if xdg else "")
    assert os.fspath(reference.default_cache()) == str(tmp_path / expected)
