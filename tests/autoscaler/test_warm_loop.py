"""The warm loop against an API of memory: what it makes, what it says when it may not, when it rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from autoscaler.decide import Decision
from autoscaler.deletion_cost import DeletionCosts
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.reasons import STEADY, Reason
from autoscaler.replica_shape import PodTemplate
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.state import State
from autoscaler.targets import ScaleSight, Target
from autoscaler.view import View
from autoscaler.warm.prefetching import BROUGHT_SECONDS, RETRY_SECONDS
from autoscaler.warm.warm_book import WarmBook
from autoscaler.warm.warm_loop import WarmLoop
from cluster.api_errors import ApiRefused
from cluster.policy import AutoscalingPolicy
from cluster.wire import Node, ObjectMeta, ObjectReference, Pod, PodStatus
from metrics.exposition import Exposition
from metrics.samples import NoData
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.packing.prices import unsolved
from tests.autoscaler.said import Said
from tests.scheduler.fleet_objects import node, policy

KEY = ("ns", "llm-policy")
TARGET = Target("apps/v1", "Deployment", "ns", "llm")
SPEC = {
    "containers": [{"name": "c", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    "schedulingGates": [{"name": "slicewise.io/plan"}],
}


@dataclass
class Memory:
    """The API server, as far as it is asked."""

    book: WarmBook
    refuse: ApiRefused | None = None
    tried: int = 0
    shows: bool = True
    made: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    ended: list[Pod] = field(default_factory=list)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        self.tried += 1
        if self.refuse is not None:
            raise self.refuse
        self.made.append(body)
        name = f"warm-{len(self.made)}"
        meta = {
            **body["metadata"],
            "name": name,
            "uid": name,
            "creationTimestamp": f"2026-01-01T00:00:{len(self.made):02}Z",
        }
        spec = {"nodeName": body["spec"].get("nodeName", "n1")}
        if self.shows:
            self.book.changed("ADDED", msgspec.convert({"metadata": meta, "spec": spec}, Pod, strict=False))
        return msgspec.json.encode({"metadata": meta, "spec": spec})

    def delete(self, path: str, body: object) -> bytes:
        name = path.rpartition("/")[2]
        self.deleted.append(name)
        gone = next((pod for pod in self.book.all() if pod.name == name), None)
        if gone is None:
            raise ApiRefused(404, "NotFound", "no such pod", where=path)
        meta = {"name": name, "uid": gone.uid, "labels": {"slicewise.io/warm": gone.kind}}
        self.book.changed("DELETED", msgspec.convert({"metadata": meta}, Pod))
        return b""

    def list_objects(self, *_: object) -> list[Pod]:
        return self.ended


@dataclass
class Templates:
    """What the control loop has read of the workload's newest pod, or of its template."""

    found: PodTemplate | NoData = field(default_factory=lambda: template())
    stale: bool = True
    reads: int = 0

    def wants_reading(self, sight: ScaleSight, pods: Sequence[PodSight]) -> bool:
        return self.stale

    def read(self, sight: ScaleSight, pods: Sequence[PodSight]) -> None:
        self.reads, self.stale = self.reads + 1, False

    def template(self, target: Target) -> PodTemplate | NoData:
        return self.found


def template(**annotations: str) -> PodTemplate:
    metadata = ObjectMeta(labels={"app": "llm"}, annotations=annotations)
    return PodTemplate(metadata, msgspec.json.encode(SPEC), PodStatus())


@dataclass
class Placement:
    decider: Decider

    def nodes(self) -> dict[str, Node]:
        return {name: node(name) for name in self.decider.fleet.rows}


class Bench:
    def __init__(self, warm: dict[str, Any], **options: Any) -> None:
        values = {"target": {"name": "llm"}, "maxReplicas": 9, "inFlight": {"perReplica": 16.0}, "warm": warm}
        self.policies = {KEY: AutoscalingPolicy.model_validate(values)}
        self.book, self.pods, self.said, self.now = WarmBook(), PodIndex(), Said(), 0.0
        self.api = Memory(self.book)
        fleet = Fleet()
        for name in ("n1", "n2"):
            fleet.apply_node(node(name, allocatable={"nvidia.com/gpu": "4"}))
        chosen = policy(terms={"carbon": 0.0})
        decider = Decider(fleet, lambda: chosen, unsolved, dict, lambda: 0.0)
        self.templates = Templates()
        self.active = True
        self.in_flight = 16.0
        self.exposition = Exposition("test", "1")
        self.loop = WarmLoop(
            self.api,  # type: ignore[arg-type]
            lambda: self.policies,
            lambda key: ObjectReference("v1", "ConfigMap", key[1], key[0], "u1"),
            lambda: [self.view()],
            self,
            self.templates,
            self.pods,
            self.book,
            Placement(decider),
            self.said,
            self.exposition.warm,
            active=lambda: self.active,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
            **options,
        )

    def view(self) -> View:
        signals = Signals(1, 1, in_flight=self.in_flight)
        decision = Decision(1, (Reason(STEADY, "steady"),), State.begun(1, 0.0))
        return View(TARGET, signals, decision, False, self.now)

    def read(self, target: Target) -> ScaleSight:
        return ScaleSight(target, "/apis/x/scale", 1, parse_selector("app=llm"), ObjectReference())

    def turn(self, at: float) -> None:
        self.now = at
        self.loop.turn()

    def refused(self, name: str) -> None:
        conditions = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }
        ]
        meta = {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "llm"}}
        self.pods.changed(
            "ADDED", msgspec.convert({"metadata": meta, "status": {"conditions": conditions}}, Pod)
        )


PLACEHOLDERS = {"placeholders": {"most": 2, "deviations": 20.0, "nodeSeconds": 60.0}}


def test_placeholders_are_made_once_and_let_go_a_lead_after_they_were_last_wanted():
    bench = Bench(PLACEHOLDERS)
    bench.turn(1.0)
    assert len(bench.api.made) == 2
    bench.turn(2.0)
    assert len(bench.api.made) == 2
    bench.in_flight = 0.0
    for at in range(3, 2000, 5):
        bench.turn(float(at))
    assert len(bench.api.deleted) == 2


def test_a_refused_replica_gets_the_room_of_one_and_none_is_made_until_it_has_a_node():
    bench = Bench(PLACEHOLDERS)
    bench.turn(1.0)
    bench.refused("llm-2")
    bench.turn(2.0)
    assert len(bench.api.deleted) == 1
    bench.turn(3.0)
    assert (len(bench.api.deleted), len(bench.api.made)) == (1, 2)
    bench.pods.replaced(())
    bench.turn(4.0)
    assert len(bench.api.made) == 3


@pytest.mark.parametrize("change", ["policy", "section"])
def test_what_no_policy_asks_for_is_deleted(change: str):
    bench = Bench(PLACEHOLDERS)
    bench.turn(1.0)
    bench.policies = {} if change == "policy" else Bench({}).policies
    bench.turn(2.0)
    assert len(bench.api.deleted) == 2


def test_who_does_not_lead_touches_nothing():
    bench = Bench(PLACEHOLDERS)
    bench.active = False
    bench.turn(1.0)
    assert not bench.api.made


def test_a_dry_run_makes_nothing():
    bench = Bench(PLACEHOLDERS, dry_run=True)
    bench.turn(1.0)
    assert not bench.api.made


def test_a_missing_priority_class_is_said_once_with_what_to_do():
    bench = Bench(PLACEHOLDERS)
    text = "no PriorityClass with name slicewise-placeholder was found"
    bench.api.refuse = ApiRefused(403, "Forbidden", text, where="POST pods")
    bench.turn(1.0)
    bench.turn(2.0)
    assert len(bench.said.lines) == 1
    assert bench.said.lines[0].startswith("WarmRefused: ")
    assert "apply deploy/manifests/warm.yaml" in bench.said.lines[0]


def test_a_right_that_is_missing_is_said_with_what_to_apply():
    bench = Bench(PLACEHOLDERS)
    text = 'pods is forbidden: User "u" cannot create resource "pods" in API group "" in the namespace "ns"'
    bench.api.refuse = ApiRefused(403, "Forbidden", text, where="POST pods")
    bench.turn(1.0)
    assert "apply deploy/manifests/warm.yaml" in bench.said.lines[0]


def test_that_a_workload_gets_no_placeholders_is_said_once_and_is_no_error(caplog):
    bench = Bench(PLACEHOLDERS)
    spread = [{"whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1, "topologyKey": "zone"}]
    spec = msgspec.json.encode({**SPEC, "topologySpreadConstraints": spread})
    bench.templates.found = PodTemplate(ObjectMeta(labels={"app": "llm"}), spec, PodStatus())
    for at in range(1, 30):
        bench.turn(float(at))
    assert len(bench.said.lines) == 1
    assert "no placeholders: its pods must be spread" in bench.said.lines[0]
    assert caplog.text.count("must be spread") == 1
    errors = {"change": "error"}
    assert bench.exposition.registry.get_sample_value("slicewise_warm_changes_total", errors) == 0.0
    # Placeable again, then spread again: that is news.
    bench.templates.found = template()
    bench.turn(30.0)
    bench.templates.found = PodTemplate(ObjectMeta(labels={"app": "llm"}), spec, PodStatus())
    bench.turn(31.0)
    assert len(bench.said.lines) == 2


def test_what_is_refused_is_not_asked_for_at_every_turn():
    bench = Bench(PLACEHOLDERS)
    bench.api.refuse = ApiRefused(403, "Forbidden", "exceeded quota", where="POST pods")
    for at in range(1, 61):
        bench.turn(float(at))
    assert bench.api.tried == 4
    bench.api.refuse = None
    for at in range(61, 80):
        bench.turn(float(at))
    assert len(bench.api.made) == 2


def test_what_the_control_loop_has_read_of_a_replica_is_not_read_again():
    bench = Bench(PLACEHOLDERS)
    for at in range(1, 120):
        bench.turn(float(at))
    assert bench.templates.reads == 1
    bench.templates.stale = True
    bench.turn(120.0)
    assert bench.templates.reads == 2


def test_a_placeholder_is_made_like_the_pod_that_was_read_without_what_is_that_pod_s_own():
    bench = Bench(PLACEHOLDERS)
    bench.templates.found = template(
        **{"slicewise.io/nvlink": "none", "slicewise.io/room-on": "n9", "a": "b"}
    )
    bench.turn(1.0)
    made = bench.api.made[0]
    assert made["metadata"]["annotations"].keys() == {"slicewise.io/nvlink", "slicewise.io/warm-for"}
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert "schedulingGates" not in made["spec"]


def test_a_replica_that_cannot_be_read_is_said_once_and_made_once_it_can():
    bench = Bench(PLACEHOLDERS)
    bench.templates.found = NoData("its pod template cannot be read (forbidden)", "outage")
    for at in range(1, 40):
        bench.turn(float(at))
    assert not bench.api.made
    [line] = bench.said.lines
    assert "Deployment ns/llm: no warm pods: its pod template cannot be read (forbidden)" in line
    bench.templates.found = template()
    for at in range(40, 60):
        bench.turn(float(at))
    assert len(bench.api.made) == 2


def test_what_the_watch_does_not_show_yet_is_not_made_twice():
    bench = Bench(PLACEHOLDERS)
    bench.api.shows = False
    for at in range(1, 10):
        bench.turn(float(at))
    assert len(bench.api.made) == 2


def test_a_dry_run_says_what_it_would_do_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    bench = Bench(PLACEHOLDERS, dry_run=True)
    for at in range(1, 30):
        bench.turn(float(at))
    assert caplog.text.count("would make pods") == 1


def test_the_image_is_brought_to_the_likely_nodes_once():
    bench = Bench({"prefetch": {"nodes": 2}})
    bench.turn(1.0)
    assert sorted(body["spec"]["nodeName"] for body in bench.api.made) == ["n1", "n2"]
    bench.book.replaced(())
    bench.turn(20.0)
    assert len(bench.api.made) == 2


@pytest.mark.parametrize(("phase", "made"), [("Succeeded", 2), ("Failed", 4), (None, 4)])
def test_only_a_prefetch_that_succeeded_has_brought_its_image(phase: str | None, made: int):
    bench = Bench({"prefetch": {"nodes": 2}})
    bench.turn(1.0)
    bench.book.replaced(())
    if phase is not None:  # else it was preempted: gone without a word
        bench.api.ended = [
            msgspec.convert(
                {**body, "metadata": {**body["metadata"], "name": "x"}, "status": {"phase": phase}}, Pod
            )
            for body in bench.api.made
        ]
    bench.turn(31.0)
    bench.api.ended = []
    bench.turn(RETRY_SECONDS - 1.0)
    assert len(bench.api.made) == 2
    bench.turn(RETRY_SECONDS + 31.0)
    assert len(bench.api.made) == made
    bench.turn(BROUGHT_SECONDS + 32.0)
    assert len(bench.api.made) > 2


def test_a_prefetch_that_takes_long_is_not_made_twice():
    bench = Bench({"prefetch": {"nodes": 2}})
    for at in range(1, int(3 * RETRY_SECONDS), 100):
        bench.turn(float(at))
    bench.book.replaced(())
    bench.turn(3 * RETRY_SECONDS + 11.0)
    assert len(bench.api.made) == 2


def test_the_likely_nodes_are_not_looked_for_at_every_turn(monkeypatch: pytest.MonkeyPatch):
    bench = Bench({"prefetch": {"nodes": 2}})
    looks: list[float] = []
    monkeypatch.setattr(bench.loop._prefetching, "bring", lambda *_: looks.append(bench.now))
    for at in range(1, 31):
        bench.turn(float(at))
    assert looks == [1.0, 11.0, 21.0]


def test_a_replica_on_a_node_that_goes_is_the_first_to_be_taken_away():
    pods = PodIndex()
    for name, where in (("a", "sure"), ("b", "spot")):
        meta = {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "labels": {"app": "llm", "pod-template-hash": "x"},
        }
        ready = [{"type": "Ready", "status": "True"}]
        pods.changed(
            "ADDED",
            msgspec.convert(
                {"metadata": meta, "spec": {"nodeName": where}, "status": {"conditions": ready}}, Pod
            ),
        )
    costs = DeletionCosts(
        object(),
        pods,
        lambda _target: {"a": 0.0, "b": 9.0},
        lambda _uid: 0.0,
        doomed=lambda pod: pod.node == "spot",
    )
    found = costs._candidates(TARGET, pods.matching("ns", parse_selector("app=llm")))
    assert {one.name: one.ready for one in found} == {"a": True, "b": False}
