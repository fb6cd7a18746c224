"""Counted energy evaluations are those that take place."""

import torch

from bgfast.energies import DoubleWell
from bgfast.experiments.evaluations import of_training
from bgfast.flows import architecture
from bgfast.training.schedule import TrainingConfig
from bgfast.training.trainer import Trainer


class Counting(DoubleWell):
    rows = 0

    def _energy(self, x):
        self.rows += len(x)
        return super()._energy(x)


def test_training_evaluates_as_often_as_counted():
    stages = [
        {"steps": 3, "w_ml": 1.0},
        {"steps": 4, "w_ml": 1.0, "w_kl": 1.0, "batch_kl": 10, "tau": [1.0, 2.0, 3.0]},
        {"steps": 2, "w_rc": 1.0, "batch_kl": 16},
    ]
    config = TrainingConfig(stages=stages, rc_bounds=(-2, 2), log_every=2)
    energy = Counting()
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    trainer = Trainer(
        architecture("R1", 2, hidden=(4,)),
        energy,
        config,
        data=data,
        validation=data,
        reaction_coordinate=lambda x: x[..., 0],
    )
    trainer.run()
    assert of_training(config) == energy.rows == 4 * 9 + 2 * 16
    assert of_training(config, config) == 2 * energy.rows
