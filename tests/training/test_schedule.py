import tomllib

import pytest
from pydantic import ValidationError

from bgfast.training import Stage, TrainingConfig

TABLE = """
rc_bounds = [-2.5, 2.5]
[[stages]]
steps = 30
w_ml = 1.0
[[stages]]
steps = 20
lr = 1e-2
lr_end = 1e-3
w_kl = 1.0
w_rc = 5.0
tau = [0.5, 1.0]
"""


def table(**changes):
    return {**tomllib.loads(TABLE), **changes}


def test_reads_a_toml_table():
    config = TrainingConfig.model_validate(table())
    assert config.total_steps == 50
    assert config.stages[1].tau == (0.5, 1.0)
    assert [config.locate(s) for s in (0, 29, 30, 49)] == [(0, 0), (0, 29), (1, 0), (1, 19)]
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeed": 1}, "seeed"),
        ({"stages": []}, "stages"),
        ({"stages": [{"steps": 1, "w_mll": 1.0}]}, r"stages.0.w_mll"),
        ({"stages": [{"steps": 0, "w_ml": 1.0}]}, r"stages.0.steps"),
        ({"stages": [{"steps": 1}]}, "w_ml, w_kl, w_rc"),
        ({"stages": [{"steps": 1, "w_kl": -1.0}]}, "w_kl"),
        ({"stages": [{"steps": 1, "w_kl": 1.0, "tau": [1.0, 0.0]}]}, r"tau.1"),
        ({"stages": [{"steps": 1, "w_kl": 1.0, "e_high": 1e11}]}, "e_high"),
        ({"stages": [{"steps": 1, "w_kl": 1.0, "lr": 1e-3, "lr_end": 1e-2}]}, "lr_end"),
        ({"stages": [{"steps": 1, "w_kl": 1.0, "batch_kl": 3, "tau": [1, 2]}]}, "batch_kl"),
        ({"rc_bounds": [1.0, -1.0]}, "rc_bounds"),
        ({"rc_bounds": None}, "rc_bounds is needed"),
        ({"rc_estimator": "histogram", "rc_bandwidth": 0.1}, "rc_bandwidth"),
        ({"max_nonfinite": 1.5}, "max_nonfinite"),
    ],
)
def test_errors_name_the_key(changes, named):
    with pytest.raises(ValidationError, match=named):
        TrainingConfig.model_validate(table(**changes))


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_learning_rate_decays_within_its_stage(decay):
    stage = Stage(steps=100, w_ml=1, lr=1e-2, lr_end=1e-4, decay=decay)
    rates = [stage.lr_at(s) for s in range(101)]
    assert rates[0] == 1e-2
    assert rates[50] == pytest.approx(0.00505)
    assert rates[100] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)


def test_learning_rate_is_constant_by_default():
    assert Stage(steps=10, w_ml=1, lr=3e-4).lr_at(9) == 3e-4
