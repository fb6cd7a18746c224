"""Training of flows: by example, by energy, along a reaction coordinate."""

from bgfast.errors import TrainingError
from bgfast.training.cap import LinLogCap
from bgfast.training.checkpoint import CheckpointError, load_checkpoint
from bgfast.training.losses import Loss, RCLoss, kl_loss, ml_loss, rc_loss
from bgfast.training.schedule import Stage, TrainingConfig
from bgfast.training.trainer import Trainer

__all__ = [
    "CheckpointError",
    "LinLogCap",
    "Loss",
    "RCLoss",
    "Stage",
    "Trainer",
    "TrainingConfig",
    "TrainingError",
    "kl_loss",
    "load_checkpoint",
    "ml_loss",
    "rc_loss",
]
