"""The only place where torch meets a kernel."""

from bgfast.ops.backend import BACKENDS, BackendError, select_backend, use_backend
from bgfast.ops.registry import TORCH_OPS, TorchOp

__all__ = ["BACKENDS", "TORCH_OPS", "BackendError", "TorchOp", "select_backend", "use_backend"]
