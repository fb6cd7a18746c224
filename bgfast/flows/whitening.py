"""Whitening fitted to data: a fixed linear flow from standardised to physical coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from bgfast.flows.base import Flow

KINDS = ("standardise", "pca", "zca")
# A direction whose variance is below this share of the largest one counts as absent from the data:
# the rounding error of a float64 covariance is about dim * 2e-16 of its largest eigenvalue.
VARIANCE_FLOOR = 1e-12


class Whitening(Flow):
    """Linear flow ``x = mean + z @ matrix`` with buffers only.

    A new instance is the identity; :meth:`fit` makes a fitted one, and ``load_state_dict`` turns a
    new one into any other, so that a checkpoint needs no data.

    Parameters
    ----------
    dim
        Number of coordinates.
    kind
        ``"standardise"`` (each coordinate by itself), ``"pca"`` (principal axes, by descending
        variance) or ``"zca"`` (the symmetric root: coordinates keep their meaning).
    dtype
        Dtype of the buffers.
    """

    mean: Tensor
    matrix: Tensor
    inverse_matrix: Tensor
    logdet: Tensor

    def __init__(self, dim: int, kind: str = "pca", *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(dim)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kind = kind
        self.register_buffer("mean", torch.zeros(dim, dtype=dtype))
        self.register_buffer("matrix", torch.eye(dim, dtype=dtype))
        self.register_buffer("inverse_matrix", torch.eye(dim, dtype=dtype))
        self.register_buffer("logdet", torch.zeros((), dtype=dtype))

    @classmethod
    def fit(cls, data: Tensor, kind: str = "standardise") -> Whitening:
        """Fit to ``data[n, dim]``, so that ``inverse(data)`` has mean 0 and unit variances.

        The fit is done in float64 whatever the dtype of the data; buffers have that of the data.
        ``"pca"`` and ``"zca"`` give uncorrelated coordinates; axes are signed so that the largest
        component is positive, and the same data gives the same whitening.

        Raises
        ------
        TypeError
            If ``data`` is not a floating-point tensor.
        ValueError
            If ``data`` is not ``[n, dim]`` with n >= 2, is not finite, or does not vary in every
            direction (variance below ``VARIANCE_FLOOR`` times the largest).
        """
        if not isinstance(data, Tensor) or not data.is_floating_point():
            got = data.dtype if isinstance(data, Tensor) else type(data).__name__
            raise TypeError(f"data must be a floating-point tensor, got {got}")
        if data.ndim != 2 or data.shape[0] < 2:
            raise ValueError(f"data must have shape [n >= 2, dim], got {list(data.shape)}")
        if not bool(torch.isfinite(data).all()):
            raise ValueError("data must be finite, it holds NaN or infinity")
        whitening = cls(data.shape[1], kind, dtype=data.dtype).to(data.device)
        samples = data.detach().to(torch.float64)
        mean = samples.mean(0)
        centred = samples - mean
        if kind == "standardise":
            variance = centred.square().mean(0)
            axes = torch.eye(whitening.dim, dtype=torch.float64, device=data.device)
        else:
            variance, axes = torch.linalg.eigh(centred.T @ centred / len(samples))
            variance, axes = variance.flip(0), axes.flip(1)
        _require_full_rank(variance, len(samples), kind)
        if kind == "pca":
            axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        scale = variance.sqrt()
        # Rows: x = mean + z @ matrix. PCA leaves z in the principal frame, the others turn back.
        left = torch.eye(len(axes), dtype=axes.dtype, device=axes.device) if kind == "pca" else axes
        whitening.mean.copy_(mean)
        whitening.matrix.copy_(left @ (scale[:, None] * axes.T))
        whitening.inverse_matrix.copy_((axes / scale) @ left.T)
        whitening.logdet.copy_(scale.log().sum())
        return whitening

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.addmm(self.mean, z, self.matrix), self.logdet.expand(z.shape[0])

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) @ self.inverse_matrix, -self.logdet.expand(x.shape[0])

    def extra_repr(self) -> str:
        """Show dimension and kind in ``repr``."""
        return f"dim={self.dim}, kind={self.kind!r}"


def _require_full_rank(variance: Tensor, n: int, kind: str) -> None:
    dim = len(variance)
    flat = int((variance <= VARIANCE_FLOOR * variance.max()).sum())
    if flat:
        what = "coordinates" if kind == "standardise" else "directions"
        raise ValueError(
            f"data of {n} samples varies in only {dim - flat} of {dim} {what}; "
            f"a whitening needs all of them: use more, or less dependent, samples"
        )
