"""The compiled library as a pytest fixture: import ``library`` into the test module that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the fake libnvidia-ml.so.1, compiled once a test run."""
    if compiler() is None:
        pytest.skip(NO_COMPILER)
    return build_fake(tmp_path_factory.getbasetemp() / "fake-nvml")
