"""Simulated nodes by the thousand: make their manifests, create, wait until they can take pods, delete.

A kwok node is a Node object that kwok's stages (`deploy/local/stages`) bring up; pods bound to it become
Running and Ready. Requests go over several connections at once; on two cores the API server is the limit.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from deploy.local.commands import KWOK_NODE_ANNOTATION, KWOK_NODE_VALUE
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS, Connection

CONNECTIONS = 8
READY_SECONDS = 180.0
NOT_READY_TAINT = "node.kubernetes.io/not-ready"
_POLL_SECONDS = 0.05
_POLL_PAUSE_FACTOR = 10.0
DEFAULT_ALLOCATABLE: Mapping[str, str] = {"cpu": "96", "memory": "1024Gi", "pods": "250"}

Manifest = Mapping[str, Any]
Item = TypeVar("Item")


class NodesNotReady(RuntimeError):
    """Simulated nodes did not come up in time; the message names some of them."""


def node_manifest(
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    allocatable: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The manifest of one simulated node. `allocatable` adds to (and overrides) cpu, memory and pods."""
    resources = {**DEFAULT_ALLOCATABLE, **(allocatable or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "type": "kwok", **(labels or {})},
            "annotations": {KWOK_NODE_ANNOTATION: KWOK_NODE_VALUE, **(annotations or {})},
        },
        "spec": {"taints": [dict(taint) for taint in taints]} if taints else {},
        "status": {"capacity": resources, "allocatable": resources},
    }


def create_nodes(
    cluster: ControlPlane,
    manifests: Iterable[Manifest],
    *,
    ready_within_seconds: float | None = READY_SECONDS,
) -> list[str]:
    """Create the nodes, wait until pods can be placed on them (unless None), return their names.

    Raises RequestRefused (the name is taken, the manifest is wrong) and NodesNotReady.
    """
    wanted = list(manifests)
    in_parallel(cluster, wanted, lambda connection, node: connection.request("POST", "/api/v1/nodes", node))
    names = [node["metadata"]["name"] for node in wanted]
    if ready_within_seconds is not None:
        wait_ready(cluster, names, ready_within_seconds)
    return names


def wait_ready(cluster: ControlPlane, names: Iterable[str], within_seconds: float = READY_SECONDS) -> None:
    """Until every named node is Ready and no longer tainted as not ready. Raises NodesNotReady."""
    missing = set(names)
    deadline = time.monotonic() + within_seconds
    with cluster.connect() as connection:
        while missing:
            asked = time.monotonic()
            nodes = connection.request("GET", "/api/v1/nodes?resourceVersion=0")["items"]
            missing -= {node["metadata"]["name"] for node in nodes if can_take_pods(node)}
            if missing and time.monotonic() > deadline:
                some = ", ".join(sorted(missing)[:5])
                raise NodesNotReady(
                    f"{len(missing)} simulated nodes were not ready within {within_seconds:.0f} s, such as "
                    f"{some}; {cluster.processes.log_tail('kwok')}"
                )
            if missing:
                # A list of thousands of nodes costs the API server more than bringing some of them up.
                time.sleep(max(_POLL_SECONDS, _POLL_PAUSE_FACTOR * (time.monotonic() - asked)))


def can_take_pods(node: Manifest) -> bool:
    """Whether the scheduler may use the node: Ready, and the taint of its start is gone."""
    ready = condition(node, "Ready") == "True"
    return ready and all(taint["key"] != NOT_READY_TAINT for taint in node["spec"].get("taints", ()))


def delete_nodes(cluster: ControlPlane, names: Iterable[str]) -> None:
    """Delete the named nodes; those that are gone already are passed over."""
    accepted = SUCCESS | {404}
    in_parallel(
        cluster,
        list(names),
        lambda connection, name: connection.request("DELETE", f"/api/v1/nodes/{name}", accepted=accepted),
    )


def in_parallel(
    cluster: ControlPlane,
    items: Sequence[Item],
    act: Callable[[Connection, Item], object],
    connections: int = CONNECTIONS,
) -> None:
    """Call `act` for every item, over several connections. The first error ends the rest and is raised."""
    position = itertools.count()
    failed = threading.Event()

    def work() -> None:
        with cluster.connect() as connection:
            while not failed.is_set() and (index := next(position)) < len(items):
                try:
                    act(connection, items[index])
                except BaseException:
                    failed.set()
                    raise

    workers = min(connections, len(items))
    if workers == 0:
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="local-cluster") as pool:
        for result in [pool.submit(work) for _ in range(workers)]:
            result.result()
