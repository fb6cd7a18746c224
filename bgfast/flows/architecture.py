"""Flows from the strings of the slides: ``architecture("N10S", dim=2)``."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bgfast.flows.base import Flow, Sequential
from bgfast.flows.execution import Precision, check_precision
from bgfast.flows.parser import parse
from bgfast.flows.registry import LAYERS, LayerSettings
from bgfast.flows.splits import make_split, reorder
from bgfast.flows.whitening import Whitening

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def architecture(
    spec: str,
    dim: int,
    hidden: Sequence[int] = (200, 200, 200),
    activation: str = "tanh",
    *,
    activation_scale: str | None = None,
    split: str = "even-odd",
    n_dim: int = 2,
    whitening: Whitening | None = None,
    spline_bins: int = 8,
    spline_bound: float = 5.0,
    precision: Precision = "full",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Sequential:
    """Build the flow a string like ``"R8"``, ``"N10S"`` or ``"(RN)2"`` describes.

    A letter is a layer (see :data:`bgfast.flows.LAYERS`; N: NICE, R: RealNVP, Q: spline coupling,
    S: Scaling), a number repeats the letter or group before it. As in the published code the string
    reads from x to z: in "N10S" the scaling acts on z first, then come ten NICE blocks. N, R and Q
    are blocks of two coupling steps, so that each transforms every coordinate.

    Parameters
    ----------
    spec
        Architecture string.
    dim
        Number of coordinates.
    hidden
        Widths of the hidden layers of every conditioner network. (``nl_layers`` of the published
        code counts the output layer too: its 3 are two hidden layers.)
    activation
        ``"tanh"``, ``"relu"`` or ``"silu"``.
    activation_scale
        Activation of the log-scale networks, if it differs.
    split
        ``"even-odd"``: every block splits by coordinate number, as published.
        ``"particle"``: random halves of the particles, different from block to block.
    n_dim
        Coordinates per particle, for ``split="particle"``.
    whitening
        A :class:`Whitening` to put next to x; a copy of it, in ``dtype``, becomes part of the flow.
    spline_bins, spline_bound
        Bins of every spline of Q, and half the width of the interval it acts on.
    precision
        Of the conditioner networks, in training and in drawing: ``"full"``, that of ``dtype``
        (numbers beyond 3.39e38 may give NaN where a matrix unit serves);
        ``"high"``, float32 to about 1e-5, faster for large batches on processors with a bfloat16
        matrix unit (AMX) and the same as full elsewhere; or ``"bfloat16"``, products of
        rounded numbers in the hidden layers, faster still there and on CUDA devices. It is part of
        what the flow is: the same weights make another map in another precision. Densities are
        exact in each, see :func:`bgfast.flows.bfloat16_conditioners`.
    seed
        Seed of the splits and initial weights. The global random state is left alone.
    dtype
        ``torch.float32`` or ``torch.float64``.

    Raises
    ------
    ValueError
        If an argument is not as described; a spec error names the offending character.
    """
    if dtype not in DTYPES.values():
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    check_precision(precision, dtype)
    if whitening is not None and whitening.dim != dim:
        raise ValueError(f"whitening has dim={whitening.dim}, the flow has dim={dim}")
    generator = torch.Generator().manual_seed(seed)
    natural = torch.arange(dim)
    current = natural
    flows: list[Flow] = []

    def change_order(wanted: Tensor) -> None:
        nonlocal current
        if (permutation := reorder(current, wanted)) is not None:
            flows.append(permutation)
        current = wanted

    for letter in reversed(parse(spec, LAYERS)):
        layer = LAYERS[letter]
        order, n_first = natural, dim
        if layer.coupling:
            halves = make_split(split, dim, n_dim, generator)
            order, n_first = halves.order, halves.n_first
        change_order(order)
        settings = LayerSettings(
            dim,
            tuple(hidden),
            activation,
            activation_scale,
            n_first,
            generator,
            dtype,
            spline_bins,
            spline_bound,
            precision,
        )
        flows.append(layer.build(settings))
    change_order(natural)
    if whitening is not None:
        flows.append(copy.deepcopy(whitening).to(dtype))
    config = {
        "spec": spec,
        "dim": dim,
        "hidden": list(hidden),
        "activation": activation,
        "activation_scale": activation_scale,
        "split": split,
        "n_dim": n_dim,
        "whitening": None if whitening is None else whitening.kind,
        "spline_bins": spline_bins,
        "spline_bound": spline_bound,
        "precision": precision,
        "seed": seed,
    }
    return Sequential(*flows, config=config)


def from_config(config: Mapping[str, Any]) -> Sequential:
    """Build the architecture described by :attr:`Sequential.config`, ready for ``load_state_dict``.

    Weights are the initial ones and a whitening is the identity until a state is loaded.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or the dtype is unknown.
    """
    # Flows saved before there were these do not name them.
    config = {"spline_bins": 8, "spline_bound": 5.0, "precision": "full", **config}
    expected = set(inspect.signature(architecture).parameters)
    if set(config) != expected:
        wrong = sorted(expected.symmetric_difference(config))
        raise ValueError(f"flow config has missing or unknown keys: {', '.join(wrong)}")
    if config["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {config['dtype']!r}")
    dtype = DTYPES[config["dtype"]]
    kind = config["whitening"]
    whitening = None if kind is None else Whitening(config["dim"], kind, dtype=dtype)
    return architecture(**{**config, "whitening": whitening, "dtype": dtype})


def describe(flow: Sequential) -> str:
    """Return one line about a flow made by :func:`architecture`, with its number of parameters."""
    config = flow.config
    activation = config["activation"]
    if config["activation_scale"] not in (None, activation):
        activation += f" (scale: {config['activation_scale']})"
    parts = [
        f"{config['spec']}, dim {flow.dim}",
        f"hidden {'x'.join(map(str, config['hidden'])) or 'none'} {activation}",
        f"{config['split']} split",
        f"{config['whitening'] or 'no'} whitening",
        config["dtype"],
        f"{n_parameters(flow):,} parameters",
    ]
    if config["precision"] != "full":
        parts.insert(-1, f"conditioners in {config['precision']}")
    return ", ".join(parts)


def n_parameters(flow: Flow) -> int:
    """Return the number of trainable numbers in ``flow``."""
    return sum(p.numel() for p in flow.parameters() if p.requires_grad)
