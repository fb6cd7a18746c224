"""The only place where torch meets a kernel."""

from bgfast.ops.assignment import assign, is_canonical, relabel
from bgfast.ops.backend import BACKENDS, BackendError, select_backend, use_backend
from bgfast.ops.cap import lin_log_cap
from bgfast.ops.coupling import affine_coupling
from bgfast.ops.dimer import dimer_energy, dimer_energy_grad, dimer_hvp
from bgfast.ops.kde import kde_log_density, silverman_bandwidth
from bgfast.ops.pair import pair_energy, pair_energy_grad, pair_hvp
from bgfast.ops.registry import TORCH_OPS, TorchOp
from bgfast.ops.spline import rational_quadratic_spline

__all__ = [
    "BACKENDS",
    "TORCH_OPS",
    "BackendError",
    "TorchOp",
    "affine_coupling",
    "assign",
    "dimer_energy",
    "dimer_energy_grad",
    "dimer_hvp",
    "is_canonical",
    "kde_log_density",
    "lin_log_cap",
    "pair_energy",
    "pair_energy_grad",
    "pair_hvp",
    "rational_quadratic_spline",
    "relabel",
    "select_backend",
    "silverman_bandwidth",
    "use_backend",
]
