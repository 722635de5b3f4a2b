"""Which pods are marked to go first, and what is written for it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from autoscaler.deletion_cost import (
    ANNOTATION,
    LOWEST_COST,
    MOST_SECONDS,
    Cost,
    DeletionCosts,
    costs,
    healing_of,
)
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from autoscaler.victims import Candidate
from cluster.api_errors import ApiRefused
from cluster.wire import ObjectReference, Pod
from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import Setting, node
from tests.scheduler.fleet_objects import pod as gpu_pod

BUSY, IDLE = Candidate("busy", True, 9.0), Candidate("idle", True, 1.0)
STARTING = Candidate("starting", False)


def test_the_starting_one_goes_first_then_the_idlest():
    assert costs([BUSY, IDLE, STARTING], {}, 2) == (
        Cost("idle", LOWEST_COST + 1),
        Cost("starting", LOWEST_COST),
    )


def test_what_stands_there_already_is_not_written_again():
    assert costs([BUSY, IDLE], {"idle": LOWEST_COST}, 1) == ()


def test_a_mark_of_ours_on_one_that_stays_is_taken_away():
    assert costs([BUSY, IDLE], {"busy": LOWEST_COST}, 1) == (Cost("busy", None), Cost("idle", LOWEST_COST))


def test_a_cost_that_somebody_else_set_is_left_alone():
    assert costs([BUSY, IDLE], {"idle": 100}, 1) == (Cost("busy", LOWEST_COST),)
    assert costs([IDLE], {"idle": 100}, 1) == ()


TARGET = Target("apps/v1", "Deployment", "n", "llm")
SIGHT = ScaleSight(TARGET, "/", 3, parse_selector("app=llm"), ObjectReference())


@dataclass
class Pods:
    """The pods of one workload at the API server; patches change them."""

    items: dict[str, Pod]
    patched: list[tuple[str, Any]] = field(default_factory=list)
    refuse: bool = False

    def list_objects(self, path: str, kind: type[Pod], params: Any) -> list[Pod]:
        assert (path, params) == ("/api/v1/namespaces/n/pods", {"labelSelector": "app=llm"})
        return list(self.items.values())

    def patch(self, path: str, body: Any) -> bytes:
        if self.refuse:
            raise ApiRefused(403, "Forbidden", "no", where=path)
        self.patched.append((path.rpartition("/")[2], body["metadata"]["annotations"][ANNOTATION]))
        return b"{}"


def pod(name: str, labels: dict[str, str] | None = None) -> Pod:
    ready = {"type": "Ready", "status": "True"}
    labels = {"app": "llm", "pod-template-hash": "5f", **(labels or {})}
    return msgspec.json.decode(
        json.dumps(
            {
                "metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": labels},
                "status": {"conditions": [ready]},
            }
        ),
        type=Pod,
    )


def marker(*items: Pod, clock: Any = lambda: 0.0, **loads: float) -> tuple[DeletionCosts, Pods]:
    index = PodIndex()
    index.replaced(items)
    api = Pods({item.metadata.name: item for item in items})
    made = DeletionCosts(api, index, lambda _: loads, lambda _: 0.0, clock=clock)  # type: ignore[arg-type]
    return made, api


def test_the_idlest_pod_is_marked():
    made, api = marker(pod("a"), pod("b"), pod("c"), a=4.0, b=0.0, c=9.0)
    made.mark(SIGHT, 1)
    assert api.patched == [("b", str(LOWEST_COST))]


def test_a_pod_that_does_not_report_counts_as_busy():
    made, api = marker(pod("a"), pod("b"), a=4.0)
    made.mark(SIGHT, 1)
    assert api.patched == [("a", str(LOWEST_COST))]


def test_pods_of_no_replica_set_are_left_alone():
    stateful = msgspec.structs.replace(
        pod("a"), metadata=msgspec.structs.replace(pod("a").metadata, labels={"app": "llm"})
    )
    made, api = marker(stateful, pod("b"))
    made.mark(SIGHT, 1)
    assert api.patched == []


def test_when_all_go_nobody_is_marked():
    made, api = marker(pod("a"), pod("b"))
    made.mark(SIGHT, 2)
    assert api.patched == []


def test_a_refused_patch_stops_nothing(caplog: pytest.LogCaptureFixture):
    made, api = marker(pod("a"), pod("b"))
    api.refuse = True
    made.mark(SIGHT, 1)
    assert "its ReplicaSet chooses which pods go" in caplog.text


def test_marking_takes_no_more_than_its_share_of_the_time():
    now = iter(range(0, 1000, 1))
    made, api = marker(pod("a"), pod("b"), clock=lambda: float(next(now)))
    for _ in range(3):  # each takes a second by that clock, far more than may be taken at once
        made.mark(SIGHT, 1)
    assert len(api.patched) == 1
    for _ in range(int(10 * MOST_SECONDS) + 10):
        made.mark(SIGHT, 1)
    assert 1 < len(api.patched) < 4


def test_the_pod_whose_going_gives_a_whole_node_back_heals_most():
    fleet = Fleet()
    for name in ("n0", "n1"):
        fleet.apply_node(node(name, allocatable={"nvidia.com/gpu": "2", "cpu": "32", "memory": "256Gi"}))
    fleet.apply_pod(gpu_pod("alone", {"nvidia.com/gpu": 1}, on="n0", phase="Running"))
    for name in ("beside", "other"):
        fleet.apply_pod(gpu_pod(name, {"nvidia.com/gpu": 1}, on="n1", phase="Running"))
    healing = healing_of(Setting(fleet).decider)
    assert healing("uid-alone") > healing("uid-beside") >= 0.0
    assert healing("uid-unknown") == 0.0
