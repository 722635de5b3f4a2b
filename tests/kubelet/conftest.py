"""A real kubelet with a container runtime, joined to the session's control plane: one node a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.binaries import BinaryUnavailable, ensure
from deploy.local.control_plane import ControlPlane
from deploy.local.node_support import PROGRAMS, why_not
from deploy.local.real_node import RealNode


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known where its tests are."""
    config.addinivalue_line("markers", "kubelet: runs on a real kubelet with containerd, as root")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the node, so that `-m "not kubelet"` leaves it out."""
    for item in items:
        if isinstance(item, pytest.Function) and "real_node" in item.fixturenames:
            item.add_marker("kubelet")


@pytest.fixture(scope="session")
def node_programs(build_progress: Callable[[str], None]) -> None:
    """The programs of a real node are there; skips, with the reason, where none can run."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no real node on this machine: {reason}")
    try:
        ensure(PROGRAMS, progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no real node on this machine: {problem}")


@pytest.fixture(scope="module")
def real_node(
    control_plane: ControlPlane, node_programs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealNode]:
    """A node that the tests of one module share; its logs stay with pytest's temporary folders."""
    logs: Path = tmp_path_factory.mktemp("real-node")
    with RealNode(control_plane, keep_logs=logs) as node:
        yield node
