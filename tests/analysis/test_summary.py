import json
import math
from pathlib import Path

import numpy as np
import pytest

from bgfast._files import atomic_write
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.summary import load_summary, write_summary


def test_summary_is_strict_json_and_reads_back(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(
        path,
        {
            "n": np.int64(5),
            "ess": np.float32(0.5),
            "pareto_k": math.nan,
            "delta_f": Estimate(-1.5, math.inf),
            "profile": {"f": np.array([0.0, np.nan, np.inf])},
            "flags": (True, None, np.bool_(False)),
            "folder": Path("runs/a"),
            "energies": [-math.inf],
        },
    )

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    strict = json.loads(path.read_text(), parse_constant=refuse)
    assert strict == load_summary(path)
    assert strict == {
        "n": 5,
        "ess": 0.5,
        "pareto_k": None,
        "delta_f": {"value": -1.5, "stderr": None},
        "profile": {"f": [0.0, None, None]},
        "flags": [True, None, False],
        "folder": "runs/a",
        "energies": [None],
    }


def test_what_json_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, {"a": 1})
    with pytest.raises(TypeError, match=r"summary\.a\[1\] is a object"):
        write_summary(path, {"a": [1, object()]})
    with pytest.raises(TypeError, match="keys must be strings"):
        write_summary(path, {"a": {1: 2}})
    assert load_summary(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_broken_summary_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"summary\.json"):
        load_summary(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError, match="does not exist"), atomic_write(tmp_path / "x/y"):
        pass
