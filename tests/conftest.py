"""What all tests share: the option that forbids GPU tests to be skipped, and one thread for each
worker of pytest-xdist, as several workers with all cores each slow each other down many times over.
"""

import os

import numpy as np
import pytest
import torch

from bgfast.ops.backend import why_no_cuda

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
    torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="fail the tests that need a GPU where there is none, instead of skipping them",
    )


@pytest.fixture(scope="session")
def gpu(request):
    """The CUDA device; the test is skipped, or fails with --require-gpu, where there is none."""
    if missing := why_no_cuda():
        message = f"needs a GPU: {missing}"
        (pytest.fail if request.config.getoption("--require-gpu") else pytest.skip)(message)
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(autouse=True)
def _subnormals_survive():
    """No test may leave the process flushing subnormals to zero: every later test would compute in
    other arithmetic. One shared library linked with -ffast-math is enough to do that.
    """
    yield
    assert np.nextafter(0.0, 1.0) * np.float64(1.0) > 0, "something set flush-to-zero"
