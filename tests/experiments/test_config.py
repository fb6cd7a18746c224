"""Configuration files: what is wrong is said in one line that names the key."""

import tomllib

import pytest

from bgfast.errors import UserError
from bgfast.experiments.config import (
    AnalysisConfig,
    RunTraining,
    SamplingConfig,
    Section,
    preset_names,
    read_table,
    to_toml,
    validated,
)


class Example(Section):
    sampling: SamplingConfig = SamplingConfig()
    analysis: AnalysisConfig


TABLE = {"analysis": {"bounds": [0.5, 2.5], "split": 1.5}}


def test_written_configuration_reads_back(tmp_path):
    config = validated(Example, TABLE, "here")
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert validated(Example, read_table(str(path)), "there") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smapling": {}}, "unknown key 'smapling', did you mean 'sampling'?"),
        ({"sampling": {"nn": 3}}, "unknown key 'sampling.nn', did you mean 'n'?"),
        ({"sampling": {"n": 0}}, "sampling.n: .*greater than or equal to 100 .got 0"),
        ({"sampling": {"tau": [1.0, -2.0]}}, "tau must hold positive numbers, got .1.0, -2.0."),
        (
            {"analysis": {"bounds": [2.5, 0.5], "split": 1.5}},
            "bounds must be .low, high. with low < split < high, got .2.5, 0.5.",
        ),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(UserError, match=message) as error:
        validated(Example, TABLE | change, "file.toml")
    assert "\n" not in str(error.value)


def test_overrides_reach_nested_tables_and_lists(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("a = 1\n[[b.stages]]\nsteps = 3\n[quick]\na = 2\n")
    table = read_table(
        str(path), quick=True, overrides=("b.stages.0.steps=7", "c.d=word", "e=[1, 2]")
    )
    assert table == {"a": 2, "b": {"stages": [{"steps": 7}]}, "c": {"d": "word"}, "e": [1, 2]}


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("dimmer", (), "no preset 'dimmer' .did you mean 'dimer'."),
        ("missing.toml", (), "cannot read missing.toml: No such file"),
        ("dimer", ("training",), "write it as section.key=value"),
        ("dimer", ("experiment.name=1",), "experiment is a value, not a table"),
    ],
)
def test_sources_and_overrides_that_cannot_be_used(source, overrides, message):
    with pytest.raises(UserError, match=message):
        read_table(source, overrides=overrides)


def test_broken_toml_is_said_to_be(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("a = ")
    with pytest.raises(UserError, match="is not valid TOML"):
        read_table(str(path))


def test_total_steps_scale_the_stages_once():
    stage = {"w_ml": 1.0}
    table = {"steps": 30, "stages": [stage | {"steps": 100}, stage | {"steps": 200}]}
    training = validated(RunTraining, table, "here")
    assert [s.steps for s in training.stages] == [10, 20]


def test_a_saved_schedule_is_not_scaled_again():
    stages = [{"w_ml": 1.0, "steps": steps} for steps in (100, 1, 1, 1)]
    training = validated(RunTraining, {"steps": 3, "stages": stages}, "here")
    assert [s.steps for s in training.stages] == [3, 1, 1, 1]  # no stage is left out
    again = validated(RunTraining, tomllib.loads(to_toml(training)), "saved")
    assert again == training


def test_presets_exist():
    assert {"dimer", "dimer-temperatures", "double-well"} <= set(preset_names())


def test_rows_at_once_are_left_to_the_device_unless_given():
    default = validated(SamplingConfig, {}, "defaults")
    assert "chunk" not in to_toml(default)
    assert "chunk = 256" in to_toml(validated(SamplingConfig, {"chunk": 256}, "given"))
