"""What the kubelet's tests read and make through the API server: pods by phase, what a container saw."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from deploy.local.control_plane import ControlPlane
from deploy.local.node_configuration import WORKLOAD_IMAGE
from deploy.local.rest import SUCCESS
from tests.polling import patient

DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.03
T = TypeVar("T")


def until(what: str, probe: Callable[[], T | None], seconds: float = DEADLINE_SECONDS) -> T:
    """The probe's first answer that is neither None nor False, within `seconds` on an idle machine; fails
    with `what` when none comes in patient time.
    """
    deadline = time.monotonic() + patient(seconds)
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"not within {patient(seconds):.0f} s: {what}"
        time.sleep(_POLL_SECONDS)


def container(**more: Any) -> dict[str, Any]:
    """A container of our own program that shows what it was given."""
    return {
        "name": "main",
        "image": WORKLOAD_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["serve"],
        **more,
    }


def pod(name: str, node: str, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod that only this node may run and that goes at once when it is deleted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": pod_spec(node, *containers, **spec),
    }


def pod_spec(node: str, *containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """The specification of such a pod."""
    return {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 1,
        "containers": [dict(one) for one in containers] or [container()],
        **spec,
    }


def read_pod(cluster: ControlPlane, namespace: str, name: str) -> dict[str, Any] | None:
    """The pod, or None when there is none."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    answer: dict[str, Any] = cluster.request("GET", path, accepted=SUCCESS | {404})
    return None if answer.get("kind") == "Status" else answer


def pods(cluster: ControlPlane, namespace: str) -> Sequence[dict[str, Any]]:
    """All pods of the namespace."""
    items: list[dict[str, Any]] = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return items


def running(
    cluster: ControlPlane, namespace: str, name: str, seconds: float = DEADLINE_SECONDS
) -> dict[str, Any]:
    """The pod as soon as its container runs and it has an address."""
    seen: list[Any] = [None]

    def probe() -> dict[str, Any] | None:
        seen[0] = read_pod(cluster, namespace, name)
        status = (seen[0] or {}).get("status", {})
        return seen[0] if status.get("phase") == "Running" and status.get("podIP") else None

    try:
        return until(f"pod {name} runs", probe, seconds)
    except AssertionError as late:
        events = cluster.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        words = [f"{event['reason']}: {event.get('message')}" for event in events]
        raise AssertionError(f"{late}; status {(seen[0] or {}).get('status')}; events {words}") from None


def delete(cluster: ControlPlane, namespace: str, name: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Delete a pod and wait until its object is gone: its containers are then stopped."""
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", accepted=SUCCESS | {404})
    until(f"pod {name} is gone", lambda: read_pod(cluster, namespace, name) is None, seconds)


def seen_inside(running_pod: Mapping[str, Any]) -> dict[str, Any]:
    """What the pod's program finds around it now: `environment` and `devices`."""
    address = running_pod["status"]["podIP"]

    def ask() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/", timeout=20) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:  # it listens a moment after its container runs
            return None

    return until(f"the program at {address} answers", ask, 10)
