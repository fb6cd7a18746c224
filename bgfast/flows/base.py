"""The contract every flow keeps: value and log-determinant together, in both directions."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bgfast.flows.coupling_block import Block
from bgfast.flows.coupling_chain import Link, run
from bgfast.flows.execution import packed_networks, recomputed_rows
from bgfast.ops.backend import kernels_serve

# Without autograd, rows are worked through in pieces whose activations stay in a core's cache.
_ROWS_PER_THREAD = 2048


class Flow(nn.Module, ABC):
    """An invertible map between latent z and configuration x.

    A subclass implements :meth:`_forward` and :meth:`_inverse` on ``[n, dim]``; this class checks
    the input and takes care of leading batch dimensions.

    Parameters
    ----------
    dim
        Number of coordinates of z and of x.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a positive integer, got {dim!r}")
        self.dim = dim

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map latent ``z[..., dim]`` to ``x[..., dim]`` and ``log|det dx/dz|[...]``.

        Raises
        ------
        TypeError
            If ``z`` is not a tensor of the flow's own floating dtype.
        ValueError
            If the last dimension is not ``dim``.
        """
        rows = self._rows(z, "z")
        x, logdet = self._in_pieces(rows, inverse=False)
        return x.reshape(z.shape), logdet.reshape(z.shape[:-1])

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``x[..., dim]`` to latent ``z[..., dim]`` and ``log|det dz/dx|[...]``.

        Raises
        ------
        TypeError
            If ``x`` is not a tensor of the flow's own floating dtype.
        ValueError
            If the last dimension is not ``dim``.
        """
        rows = self._rows(x, "x")
        z, logdet = self._in_pieces(rows, inverse=True)
        return z.reshape(x.shape), logdet.reshape(x.shape[:-1])

    @abstractmethod
    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``z[n, dim]`` to ``x[n, dim]`` and ``log|det dx/dz|[n]``."""

    @abstractmethod
    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``x[n, dim]`` to ``z[n, dim]`` and ``log|det dz/dx|[n]``."""

    def _link(self, value: Tensor) -> Link | None:
        """Return what kernels may run in place of the flow, with others, for rows like ``value``.

        ``None`` if there is no such thing. What is returned has to leave number, dtype and device
        of rows as they are, and is only asked for where kernels serve ``value``.
        """
        return None

    def _is_just(self, kind: type[Flow]) -> bool:
        """Return whether its maps are those of a class, replaced by no subclass or instance."""
        return type(self) is kind and not {"_forward", "_inverse"} & vars(self).keys()

    @property
    def dtype(self) -> torch.dtype | None:
        """Floating dtype of parameters and buffers; ``None`` if the flow has none."""
        for tensor in self._tensors():
            if tensor.is_floating_point():
                return tensor.dtype
        return None

    def extra_repr(self) -> str:
        """Show the dimension in ``repr``."""
        return f"dim={self.dim}"

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()

    def _rows(self, value: Tensor, name: str) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {value.dtype}")
        if value.ndim < 1 or value.shape[-1] != self.dim:
            raise ValueError(
                f"{name} must have shape [..., {self.dim}] for this flow, got {list(value.shape)}"
            )
        dtype = self.dtype
        if dtype is not None and value.dtype != dtype:
            raise TypeError(
                f"{name} is {value.dtype}, but the flow's parameters are {dtype}: "
                f"convert one of them (nothing is cast silently)"
            )
        return value.reshape(-1, self.dim) if value.ndim != 2 else value

    def _in_pieces(self, rows: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        transform = self._inverse if inverse else self._forward
        piece = _rows_at_once(rows)
        if piece is None or rows.shape[0] <= piece:
            return transform(rows)
        if torch.is_grad_enabled():
            transform = functools.partial(
                checkpoint, transform, use_reentrant=False, preserve_rng_state=False
            )
        with packed_networks():
            values, logdets = zip(*map(transform, torch.split(rows, piece)), strict=True)
        return torch.cat(values), torch.cat(logdets)


def _rows_at_once(rows: Tensor) -> int | None:
    """Return the number of rows to work on at a time; all if None."""
    if torch.compiler.is_compiling():  # the compiler decides itself what to keep
        return None
    if torch.is_grad_enabled():
        return recomputed_rows()
    return _ROWS_PER_THREAD * torch.get_num_threads() if rows.device.type == "cpu" else None


class Sequential(Flow):
    """Flows applied one after another, from latent to configuration.

    Parameters
    ----------
    *flows
        At least one flow; ``forward`` applies them in this order. All have the same ``dim``.
    config
        Arguments of :func:`bgfast.flows.architecture` that rebuild this flow, kept for checkpoints.
    """

    def __init__(self, *flows: Flow, config: dict[str, Any] | None = None) -> None:
        if not flows:
            raise ValueError("Sequential needs at least one flow")
        for flow in flows:
            if not isinstance(flow, Flow):
                raise TypeError(f"Sequential takes flows, got {type(flow).__name__}")
        dims = [flow.dim for flow in flows]
        if len(set(dims)) > 1:
            raise ValueError(f"flows in a Sequential must have the same dim, got {dims}")
        super().__init__(dims[0])
        self.flows = nn.ModuleList(flows)
        self._config = config

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which :func:`bgfast.flows.from_config` builds the same architecture.

        Raises
        ------
        ValueError
            If this flow was not made by :func:`bgfast.flows.architecture`.
        """
        if self._config is None:
            raise ValueError("only a flow made by bgfast.flows.architecture has a config")
        return {**self._config, "dtype": str(self.dtype).removeprefix("torch.")}

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._through(z, inverse=False)

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._through(x, inverse=True)

    def _through(self, value: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        flows = self._flows()[::-1] if inverse else self._flows()
        logdet = value.new_zeros(value.shape[0])
        while flows:
            links = _links(flows, value)
            if any(isinstance(link, Block) for link in links):
                value, step = run(value, links, inverse=inverse)
                flows = flows[len(links) :]
            else:
                value, step = flows[0]._inverse(value) if inverse else flows[0]._forward(value)
                flows = flows[1:]
            logdet = logdet + step
        return value, logdet

    def _flows(self) -> list[Flow]:
        return [cast(Flow, flow) for flow in self.flows]


def _links(flows: Sequence[Flow], value: Tensor) -> list[Link]:
    """Return what kernels run in place of the first flows, as many as they can."""
    found: list[Link] = []
    if kernels_serve(value):
        for flow in flows:
            link = flow._link(value)
            if link is None:
                break
            found.append(link)
    return found


class Inverse(Flow):
    """The flow with its two directions exchanged."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.dim)
        self.flow = flow

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow._inverse(z)

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow._forward(x)
