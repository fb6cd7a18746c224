"""asv: time of one call with a single row, on one thread."""

from __future__ import annotations

import torch
from bgfast_kernels import names

from benchmarks.throughput import BACKENDS, OneThread, OpCall
from bgfast.flows import LAYERS, architecture

DIM = 76


class OpLatency(OneThread):
    """An op, its gradient included, with one row in float32."""

    params = (list(names()), BACKENDS)
    param_names = ("op", "backend")

    def setup(self, op: str, backend: str) -> None:
        self.one_thread()
        self.call = OpCall(op, backend, "float32", 1)

    def time_call(self, op: str, backend: str) -> None:
        self.call()


class FlowLatency(OneThread):
    """A block of every registered layer with one row, 76 coordinates, networks 3 x 200."""

    params = (sorted(LAYERS), ["forward", "inverse"])
    param_names = ("layer", "direction")

    def setup(self, layer: str, direction: str) -> None:
        self.one_thread()
        self.map = getattr(architecture(layer, DIM), direction)
        self.row = torch.randn(1, DIM, generator=torch.Generator().manual_seed(0))
        self.time_map(layer, direction)

    def time_map(self, layer: str, direction: str) -> None:
        with torch.no_grad():
            self.map(self.row)
