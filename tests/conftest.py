"""The real control plane as fixtures: one cluster a test session, one namespace a test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS

_namespace_numbers = itertools.count(1)

# Continuous integration judges a change by the same examples each time; new ones are searched for on desks.
# No example has a deadline: how long one takes says how busy the machine is.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on the real control plane, so that `-m "not cluster"` leaves it out."""
    for item in items:
        if isinstance(item, pytest.Function) and "control_plane" in item.fixturenames:
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def build_progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes to the terminal past pytest's capture, so that a build of minutes is seen to move."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def write(line: str) -> None:
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"[local cluster] {line}")

    return write


@pytest.fixture(scope="session")
def control_plane(
    tmp_path_factory: pytest.TempPathFactory, build_progress: Callable[[str], None]
) -> Iterator[ControlPlane]:
    """A running cluster that the whole session shares: leave no nodes and no second scheduler behind."""
    try:
        ensure(CONTROL_PLANE, progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no control plane on this machine: {problem}")
    # pytest keeps the folder of the last runs, so the logs can be read after a failure.
    with ControlPlane(directory=tmp_path_factory.mktemp("control-plane")) as cluster:
        yield cluster


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """The name of a fresh namespace; it and its pods are deleted after the test (without waiting)."""
    name = f"test-{next(_namespace_numbers)}"
    control_plane.request(
        "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    yield name
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}", accepted=SUCCESS | {404, 409})
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}/pods", now)
