"""The steps of :mod:`benchmarks.peers.same_weights` in the flow packages, each in its own terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bgfast_kernels.coupling import S_MAX
from torch import Tensor, nn

from benchmarks.peers.energies import bgflow_module
from benchmarks.peers.same_weights import DIM, Bounded, Mapped, Step, parameters_of, widened
from bgfast.ops.coupling_reference import bounded


def normflows(taken: list[Step]) -> Mapped:
    """``MaskedAffineFlow``, whose networks see and return all coordinates, half of them masked."""
    from normflows.flows import MaskedAffineFlow

    flows = nn.ModuleList()
    for step in taken:
        mask = torch.ones(DIM)
        mask[step.transformed :: 2] = 0
        scale, shift = (widened(n, step.transformed) for n in (step.scale, step.shift))
        flows.append(MaskedAffineFlow(mask, shift, Bounded(scale)))

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(len(x))
        for flow in flows:
            x, s = flow(x)
            logdet = logdet + s
        return x, logdet

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        logdet = z.new_zeros(len(z))
        for flow in reversed(flows):
            z, s = flow.inverse(z)
            logdet = logdet + s
        return z, logdet

    return Mapped(encode, decode, list(flows.parameters()))


def nflows(taken: list[Step]) -> Mapped:
    """``AffineCouplingTransform`` with our bound in place of its sigmoid."""
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    class Coupling(AffineCouplingTransform):
        def _scale_and_shift(self, transform_params: Tensor) -> tuple[Tensor, Tensor]:
            shift, raw = transform_params.chunk(2, -1)
            return torch.exp(bounded(raw)), shift

    class Both(nn.Module):
        def __init__(self, step: Step) -> None:
            super().__init__()
            self.scale, self.shift = step.scale, step.shift

        def forward(self, x: Tensor, context: Any = None) -> Tensor:
            return torch.cat((self.shift(x), self.scale(x)), -1)

    transforms = []
    for step in taken:
        mask = torch.zeros(DIM)
        mask[step.transformed :: 2] = 1
        transforms.append(Coupling(mask, lambda n_in, n_out, step=step: Both(step)))
    flow = CompositeTransform(transforms)
    return Mapped(flow.forward, flow.inverse, parameters_of(taken))


def zuko(taken: list[Step]) -> Mapped:
    """``CouplingTransform`` of affine transforms."""
    validates = torch.distributions.Distribution._validate_args
    try:
        from zuko.transforms import ComposedTransform, CouplingTransform, DependentTransform
    finally:  # importing zuko switches this off for everybody
        torch.distributions.Distribution.set_default_validate_args(validates)
    from torch.distributions import AffineTransform

    def coupling(step: Step) -> Any:
        def meta(given: Tensor) -> Any:
            scale = torch.exp(bounded(step.scale(given)))
            return DependentTransform(AffineTransform(step.shift(given), scale), 1)

        given = torch.zeros(DIM, dtype=torch.bool)
        given[1 - step.transformed :: 2] = True
        return CouplingTransform(meta, given)

    flow = ComposedTransform(*(coupling(step) for step in taken))
    return Mapped(flow.call_and_ladj, flow.inv.call_and_ladj, parameters_of(taken))


def bgflow(taken: list[Step]) -> Mapped:
    """``CouplingFlow`` of ``AffineTransformer``; its bound is ours with the scales divided."""
    bg = bgflow_module()

    class Divided(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x) / S_MAX

    blocks = [bg.SplitFlow(np.arange(0, DIM, 2), np.arange(1, DIM, 2))]
    for step in taken:
        transformer = bg.AffineTransformer(step.shift, Divided(step.scale))
        transformer._log_alpha = nn.Parameter(torch.tensor([S_MAX]).log(), requires_grad=False)
        blocks.append(bg.CouplingFlow(transformer, (step.transformed,), (1 - step.transformed,)))
    blocks.append(bg.InverseFlow(blocks[0]))
    flow = bg.SequentialFlow(blocks)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        z, logdet = flow(x)
        return z, logdet[:, 0]

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        x, logdet = flow(z, inverse=True)
        return x, logdet[:, 0]

    return Mapped(encode, decode, parameters_of(taken))
