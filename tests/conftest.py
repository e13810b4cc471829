"""Tests compute in float32 whatever the machine is faster in, unless they ask for bf16 by name: bits and
tolerances are those of one arithmetic. WORLDLENS_PRECISION=bf16 runs the suite in bf16; modules that compare
bits use the fixture `float32` and stay in float32 even then.
"""

import logging
import os

import pytest

from common.precision import VARIABLE

os.environ.setdefault(VARIABLE, "fp32")
SLOW_SECONDS = 7200
"""Limit of a test that is marked slow or runs on a cluster."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="module")
def float32():
    """The precision `auto` is float32: in bf16 a result depends on how many rows are computed together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "fp32")
        yield


@pytest.fixture
def restored_logging():
    """Scripts point the root logger at the terminal of the moment; afterwards it is as before."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    level = root.level
    yield
    root.handlers[:], root.level = handlers, level
