"""A GPU run cannot pass by skipping, and a run without a GPU says why it skipped."""

import subprocess
import sys

import pytest

from bgfast.ops.backend import why_no_cuda

pytestmark = pytest.mark.skipif(not why_no_cuda(), reason="there is a GPU")

ONE = "tests/gpu/test_streams_gpu.py::test_a_cuda_graph_captures_forward_and_backward"


@pytest.mark.parametrize(
    ("option", "code", "word"), [(None, 0, "1 skipped"), ("--require-gpu", 1, "1 error")]
)
def test_without_a_gpu_tests_skip_with_the_reason_or_fail(option, code, word):
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-o", "addopts=", "-rsE", ONE]
    result = subprocess.run(command + [option] * bool(option), capture_output=True, text=True)
    assert result.returncode == code, result.stdout
    assert word in result.stdout
    assert "needs a GPU: torch " in result.stdout
