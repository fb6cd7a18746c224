"""The CUDA programs that ship, as typical uses compile them.

The tests compile each for every architecture and hold its registers against a committed table; a
new op adds its programs here.
"""

from __future__ import annotations

from bgfast_kernels import cuda
from bgfast_kernels.assignment import cuda_kernels as assignment
from bgfast_kernels.cap import cuda_kernels as cap
from bgfast_kernels.coupling import cuda_kernels as coupling
from bgfast_kernels.dimer import cuda_kernels as dimer
from bgfast_kernels.kde import cuda_kernels as kde
from bgfast_kernels.montecarlo import cuda_kernels as montecarlo
from bgfast_kernels.pair import cuda_kernels as pair

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def programs() -> dict[str, cuda.Program]:
    """Return every program by a label for tables."""
    return {
        **assignment.programs(),
        **dimer.programs(),
        **cap.programs(),
        **coupling.programs(),
        **kde.programs(),
        **montecarlo.programs(),
        **pair.programs(),
    }
