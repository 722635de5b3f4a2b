"""What a replica asks for: read from the newest pod or the template, once a revision; unknown is told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from autoscaler.placeable import ReplicaShape
from autoscaler.placement import FleetPlacement, Wish
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.replica_shape import KEPT_SECONDS, PodTemplate, ReplicaShapes
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from cluster.api_errors import ApiUnreachable
from cluster.wire import ObjectReference, Pod
from metrics.samples import NoData
from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import Setting, node

PATH = "/apis/apps/v1/namespaces/n/deployments/llm"
TARGET = Target("apps/v1", "Deployment", "n", "llm")
SIGHT = ScaleSight(TARGET, f"{PATH}/scale", 2, parse_selector("app=llm"), ObjectReference())


def spec(gpus: int = 1, **more: Any) -> dict[str, Any]:
    container = {"name": "server", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"containers": [container], **more}


def pod(name: str, *, gpus: int = 1, revision: str = "5f", on: str = "", **more: Any) -> dict[str, Any]:
    labels = {"app": "llm", **({"pod-template-hash": revision} if revision else {})}
    metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": labels}
    metadata["creationTimestamp"] = f"2026-11-21T10:00:{len(name):02d}Z"
    return {
        "metadata": metadata,
        "spec": {**spec(gpus), "nodeName": on, **more},
        "status": {"phase": "Running" if on else "Pending"},
    }


@dataclass
class Api:
    """An API server with a few objects; counts what it is asked."""

    objects: dict[str, Any]
    asked: list[str] = field(default_factory=list)
    away: bool = False

    def get(self, path: str, kind: type[Any]) -> Any:
        self.asked.append(path)
        if self.away:
            raise ApiUnreachable("connection refused")
        return msgspec.json.decode(json.dumps(self.objects[path]), type=kind)


@dataclass
class Bench:
    """Shapes over a fleet and an API server; ``now`` can be turned."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    template: dict[str, Any] = field(default_factory=lambda: {"spec": {"template": {"spec": spec()}}})
    now: float = 0.0

    def __post_init__(self) -> None:
        self.fleet, self.index = Fleet(), PodIndex()
        self.setting = Setting(self.fleet)
        self.api = Api({PATH: self.template})
        for one in self.pods.values():
            self.add(one)
        self.shapes = ReplicaShapes(cast(Any, self.api), self.setting.decider, clock=lambda: self.now)

    def add(self, document: dict[str, Any]) -> None:
        known = msgspec.convert(document, Pod)
        self.fleet.apply_pod(known)
        self.index.changed("ADDED", known)
        self.api.objects[f"/api/v1/namespaces/n/pods/{known.metadata.name}"] = document

    @property
    def sights(self) -> tuple[PodSight, ...]:
        return self.index.matching("n", SIGHT.selector)

    def shape(self) -> ReplicaShape | NoData:
        if self.shapes.wants_reading(SIGHT, self.sights):
            self.shapes.read(SIGHT, self.sights)
        with self.fleet.lock:
            return self.shapes.shape(TARGET)

    def gpus(self) -> int:
        shape = self.shape()
        assert isinstance(shape, ReplicaShape), shape
        return shape.demand.whole_gpus


def test_the_newest_pod_tells_and_is_read_once_a_revision():
    bench = Bench()
    bench.add(pod("a", gpus=1, revision="old"))
    bench.add(pod("newer", gpus=2, revision="new"))
    assert bench.gpus() == 2
    bench.add(pod("newest", gpus=2, revision="new"))
    assert bench.gpus() == 2
    assert bench.api.asked == ["/api/v1/namespaces/n/pods/newer"]


def test_a_workload_without_pods_is_read_by_its_template_again_after_a_while():
    bench = Bench(template={"spec": {"template": {"spec": spec(4)}}})
    assert bench.gpus() == 4
    bench.api.objects[PATH] = {"spec": {"template": {"spec": spec(8)}}}
    assert bench.gpus() == 4
    bench.now += KEPT_SECONDS
    assert bench.gpus() == 8
    assert bench.api.asked == [PATH, PATH]


def test_selectors_tolerations_and_priority_come_along():
    template = {"spec": {"template": {"spec": spec(nodeSelector={"zone": "a"}, priority=7)}}}
    shape = Bench(template=template).shape()
    assert isinstance(shape, ReplicaShape)
    assert (shape.constraints.selector, shape.priority) == ((("zone", "a"),), 7)


def test_the_pod_that_was_read_is_there_for_whoever_makes_pods_like_it():
    bench = Bench(template={"spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": spec(4)}}})
    assert isinstance(bench.shapes.template(TARGET), NoData)
    bench.shape()
    found = bench.shapes.template(TARGET)
    assert isinstance(found, PodTemplate)
    assert found.as_json() == {"metadata": {"annotations": {"a": "b"}}, "spec": spec(4)}
    bench.add(pod("waits", gpus=2, tolerations=[{"operator": "Exists"}]))
    assert bench.gpus() == 2
    found = bench.shapes.template(TARGET)
    assert isinstance(found, PodTemplate)
    assert found.as_json()["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert len(bench.api.asked) == 2


def test_one_pod_of_a_group_is_no_shape_but_a_template_of_its_like():
    bench = Bench()
    document = pod("leader")
    document["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/name"] = "llm"
    bench.add(document)
    shape, found = bench.shape(), bench.shapes.template(TARGET)
    assert isinstance(shape, NoData)
    assert "a group of pods" in shape.reason
    assert isinstance(found, PodTemplate)


SPREAD = [{"whenUnsatisfiable": "DoNotSchedule", "topologyKey": "kubernetes.io/hostname", "maxSkew": 1}]
ALONE = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "x"}]}}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"spec": {"template": {"spec": {"containers": []}}}}, "its pods ask for no GPU"),
        ({"spec": {"template": {"spec": spec(topologySpreadConstraints=SPREAD)}}}, "depends on other pods"),
        ({"spec": {"template": {"spec": spec(affinity=ALONE)}}}, "depends on other pods"),
        ({"spec": {"leaderWorkerTemplate": {"size": 4}}}, "a replica is a group of pods"),
        ({"spec": {"model": "llama"}}, "no spec.template to read"),
    ],
)
def test_what_cannot_be_counted_says_why(template: dict[str, Any], reason: str):
    shape = Bench(template=template).shape()
    assert isinstance(shape, NoData)
    assert reason in shape.reason


def test_an_api_server_that_is_away_is_asked_again_later():
    bench = Bench()
    bench.add(pod("a"))
    bench.api.away = True
    shape = bench.shape()
    assert isinstance(shape, NoData)
    assert shape.cause == "outage"
    bench.api.away = False
    assert bench.shape() == shape
    bench.now += KEPT_SECONDS
    assert bench.gpus() == 1


class Service:
    """The part of the scheduler's service that is asked."""

    def __init__(self, bench: Bench, *, synced: bool = True) -> None:
        self.fleet, self.decider, self._synced = bench.fleet, bench.setting.decider, synced

    def synced(self) -> bool:
        return self._synced


def ask(bench: Bench, wish: Wish, *, synced: bool = True) -> Any:
    def everywhere(_: Any) -> Any:
        return np.ones(bench.fleet.size, dtype=np.bool_)

    placement = FleetPlacement(
        cast(Any, Service(bench, synced=synced)), everywhere, bench.index, bench.shapes
    )
    with ThreadPoolExecutor(1) as pool:
        return placement.ask([wish], pool)


def test_replicas_with_and_without_a_node_and_free_gpus_add_up():
    bench = Bench()
    bench.fleet.apply_node(node("n0", allocatable={"nvidia.com/gpu": "4", "cpu": "32"}))
    bench.add(pod("runs", on="n0"))
    bench.add(pod("waits"))
    placed = ask(bench, Wish(SIGHT, Signals(current=2, ready=1, starting=1), wanted=9))
    assert placed.answers == {TARGET: 4}  # one runs, one waits, two more fit
    assert [request.replicas for request in placed.requests] == [5]


def test_a_replica_that_is_being_deleted_is_no_replica():
    bench = Bench()
    bench.fleet.apply_node(node("n0", allocatable={"nvidia.com/gpu": "2", "cpu": "32"}))
    leaving = pod("leaves", on="n0")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    bench.add(leaving)
    bench.add(pod("runs", on="n0"))
    placed = ask(bench, Wish(SIGHT, Signals(current=1, ready=1), wanted=2))
    assert placed.answers == {TARGET: 1}  # its GPU is free only when it is gone


def test_a_fleet_that_is_not_known_yet_answers_nothing():
    bench = Bench()
    answer = ask(bench, Wish(SIGHT, Signals(current=1, ready=1), wanted=2), synced=False).answers[TARGET]
    assert isinstance(answer, NoData)


def test_nobody_grows_nobody_asks():
    bench = Bench()
    assert ask(bench, Wish(SIGHT, Signals(current=2, ready=1, starting=1), wanted=2)).answers == {}
    assert bench.api.asked == []
