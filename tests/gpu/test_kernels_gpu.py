"""On a GPU: one small call of every kernel that ships; what compute-sanitizer is run on."""

import pytest

from tests.kernel_calls import calls

CALLS = calls()


@pytest.mark.parametrize("label", CALLS)
def test_it_gives_what_the_cpu_gives(gpu, label):
    CALLS[label].check(gpu)
