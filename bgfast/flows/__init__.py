"""Flows: invertible maps between latent and configuration, with their log-determinants."""

from bgfast.flows.architecture import architecture, describe, from_config, n_parameters
from bgfast.flows.base import Flow, Inverse, Sequential
from bgfast.flows.coupling import NICE, RealNVP
from bgfast.flows.density import log_prob, log_q, log_weight, prior_log_prob, prior_sample
from bgfast.flows.execution import bfloat16_conditioners, recompute_activations
from bgfast.flows.monotone import Monotone
from bgfast.flows.registry import LAYERS, Layer, LayerSettings, register
from bgfast.flows.scaling import Scaling
from bgfast.flows.spline import SplineCoupling
from bgfast.flows.splits import SPLITS, Permutation
from bgfast.flows.whitening import Whitening

__all__ = [
    "LAYERS",
    "NICE",
    "SPLITS",
    "Flow",
    "Inverse",
    "Layer",
    "LayerSettings",
    "Monotone",
    "Permutation",
    "RealNVP",
    "Scaling",
    "Sequential",
    "SplineCoupling",
    "Whitening",
    "architecture",
    "bfloat16_conditioners",
    "describe",
    "from_config",
    "log_prob",
    "log_q",
    "log_weight",
    "n_parameters",
    "prior_log_prob",
    "prior_sample",
    "recompute_activations",
    "register",
]
