"""Replicas on nodes that are about to go: no supply, replaced at once, and what was added is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from autoscaler.warm.interruption import OWN_ANNOTATION, interruption
from autoscaler.warm.notices import NodeNotices
from autoscaler.warm.replacement import Replacements, surplus
from cluster.api_errors import ApiUnreachable
from cluster.wire import Node, ObjectReference, Pod, Scale
from metrics.exposition import Exposition
from tests.autoscaler.said import Said

TARGET = Target("apps/v1", "Deployment", "ns", "llm")


def node(name: str, **fields: Any) -> Node:
    taints = [{"effect": "NoSchedule", **taint} for taint in fields.pop("taints", ())]
    return msgspec.convert({"metadata": {"name": name, **fields}, "spec": {"taints": taints}}, Node)


SPOT = {"key": "aws-node-termination-handler/spot-itn", "value": "123"}


@pytest.mark.parametrize(
    "marked",
    [
        node("n", taints=[SPOT]),
        node("n", taints=[{"key": "karpenter.sh/disrupted"}]),
        node("n", taints=[{"key": "karpenter.sh/disruption", "value": "disrupting"}]),
        node("n", taints=[{"key": "cloud.google.com/impending-node-termination"}]),
        node("n", taints=[{"key": "remediator.kubernetes.azure.com/unschedulable"}]),
        node("n", taints=[{"key": "ToBeDeletedByClusterAutoscaler", "value": "1"}]),
        node("n", annotations={OWN_ANNOTATION: "maintenance at noon"}),
        node("n", deletionTimestamp="2026-11-21T10:00:00Z"),
    ],
    ids=lambda marked: interruption(marked),
)
def test_every_known_mark_is_an_interruption(marked: Node):
    assert interruption(marked)


@pytest.mark.parametrize(
    "unmarked",
    [
        node("n"),
        node("n", taints=[{"key": "karpenter.sh/disruption", "value": "candidate"}]),
        node("n", taints=[{"key": "kubernetes.azure.com/scalesetpriority", "value": "spot"}]),
        node("n", taints=[{"key": "node.kubernetes.io/unschedulable"}]),
        node("n", taints=[{"key": "nvidia.com/gpu", "value": "present"}]),
    ],
)
def test_a_kind_of_node_a_cordon_and_a_candidate_are_none(unmarked: Node):
    assert interruption(unmarked) == ""


class Scales:
    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.writes: list[int] = []
        self.lost = self.refused = False

    def read(self, target: Target) -> ScaleSight:
        about = ObjectReference(kind="Deployment", namespace="ns", name="llm")
        sight = ScaleSight(target, "/scale", self.replicas, parse_selector("app=llm"), about)
        return replace(sight)

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        if self.refused:
            raise ApiUnreachable("connection refused")
        self.replicas = replicas
        self.writes.append(replicas)
        if self.lost:
            raise ApiUnreachable("connection reset")
        return msgspec.convert({"spec": {"replicas": replicas}}, Scale)


class Scene:
    """Four replicas on four nodes."""

    def __init__(self, *, may_write: Callable[[], bool] = lambda: True, replicas: int = 4) -> None:
        self.scales, self.said, self.pods, self.notices = Scales(replicas), Said(), PodIndex(), NodeNotices()
        self.exposition = Exposition("test", "1")
        self.notices.replaced([node(f"n{i}") for i in range(replicas)])
        for i in range(replicas):
            self.pods.changed("ADDED", self.pod(i))
        self.may_write = may_write
        self.replacements = self.process()

    def process(self) -> Replacements:
        return Replacements(
            self.scales,
            self.pods,
            self.notices,
            self.said,
            self.exposition.warm,
            may_write=lambda _target: self.may_write(),
        )

    @staticmethod
    def pod(number: int) -> Pod:
        meta = {"uid": f"u{number}", "name": f"p{number}", "namespace": "ns", "labels": {"app": "llm"}}
        return msgspec.convert({"metadata": meta, "spec": {"nodeName": f"n{number}"}}, Pod)

    def seen(self) -> int:
        return self.replacements.read(TARGET).replicas

    def interrupt(self, number: int) -> None:
        self.notices.changed("MODIFIED", node(f"n{number}", taints=[SPOT]))

    def die(self, number: int) -> None:
        self.pods.changed("DELETED", self.pod(number))
        self.notices.changed("DELETED", node(f"n{number}"))


def interrupted() -> Scene:
    """The scene after a first look, one replica on a node that is about to go."""
    scene = Scene()
    scene.seen()
    scene.interrupt(1)
    return scene


def test_an_interrupted_replica_is_replaced_at_once_and_the_surplus_taken_back_when_it_is_gone():
    scene = Scene()
    assert scene.seen() == 4
    scene.interrupt(1)
    assert scene.seen() == 4  # what the decision sees never changes
    assert scene.scales.replicas == 5
    assert scene.seen() == 4
    assert scene.scales.writes == [5]  # once
    scene.die(1)
    assert scene.seen() == 4
    assert scene.scales.replicas == 4
    assert scene.said.lines[0].startswith(
        "ScaledUp: 4 -> 5 replicas: 1 replicas stand on nodes that are about to go: "
        "n1 (taint aws-node-termination-handler/spot-itn)"
    )
    assert scene.said.lines[1].startswith("ScaledDown: 5 -> 4 replicas: ")


def test_a_decision_meanwhile_is_written_on_top_and_told_without():
    scene = interrupted()
    sight = scene.replacements.read(TARGET)
    answer = scene.replacements.write(sight, 6)
    assert scene.scales.replicas == 7
    assert answer.spec.replicas == 6
    assert scene.seen() == 6
    scene.die(1)
    scene.seen()
    assert scene.scales.replicas == 6


@pytest.mark.parametrize("applied", [True, False])
def test_after_a_lost_answer_what_is_read_next_tells_what_was_added(applied: bool):
    scene = interrupted()
    scene.scales.lost = applied
    scene.scales.refused = not applied
    with pytest.raises(ApiUnreachable):
        scene.seen()
    assert scene.scales.replicas == (5 if applied else 4)
    scene.scales.lost = scene.scales.refused = False
    for _ in range(2):
        assert scene.seen() == 4
        assert scene.scales.replicas == 5
    scene.die(1)
    scene.seen()
    assert scene.scales.replicas == 4


def test_taking_back_twice_is_not_doubled_by_a_lost_answer():
    scene = interrupted()
    scene.seen()
    scene.die(1)
    scene.scales.lost = True
    with pytest.raises(ApiUnreachable):
        scene.seen()
    scene.scales.lost = False
    assert scene.seen() == 4
    assert scene.scales.writes == [5, 4]


def test_a_count_that_nobody_here_wrote_leaves_unknown_what_was_added():
    scene = interrupted()
    scene.scales.refused = True
    with pytest.raises(ApiUnreachable):
        scene.seen()
    scene.scales.refused, scene.scales.replicas = False, 7
    assert scene.seen() == 6  # the doomed one counts as replaced
    assert scene.scales.replicas == 7


def test_zero_that_could_not_be_written_leaves_the_surplus_known():
    scene = interrupted()
    sight = scene.replacements.read(TARGET)
    scene.scales.refused = True
    with pytest.raises(ApiUnreachable):
        scene.replacements.write(sight, 0)
    scene.scales.refused = False
    assert scene.seen() == 4
    assert scene.scales.replicas == 5


def test_the_gauge_goes_with_the_policy():
    scene = interrupted()
    scene.seen()
    labels = {"namespace": "ns", "kind": "Deployment", "name": "llm", "state": "replacement"}
    told = partial(scene.exposition.registry.get_sample_value, "slicewise_warm_pods", labels)
    scene.replacements.keep_only({TARGET})
    assert told() == 1.0
    scene.replacements.keep_only(())
    assert told() is None


def test_zero_means_zero():
    scene = interrupted()
    scene.replacements.write(scene.replacements.read(TARGET), 0)
    assert scene.scales.replicas == 0
    assert scene.seen() == 0
    assert scene.scales.replicas == 0


def test_all_replicas_at_once_are_replaced_one_for_one():
    scene = Scene()
    scene.seen()
    for number in range(4):
        scene.interrupt(number)
    assert scene.seen() == 4
    assert scene.scales.replicas == 8


def test_after_a_restart_nothing_is_doubled():
    scene = interrupted()
    scene.seen()
    assert scene.scales.replicas == 5
    scene.pods.changed("ADDED", scene.pod(4))
    scene.replacements = scene.process()
    assert scene.seen() == 4
    assert scene.scales.replicas == 5
    scene.die(1)
    scene.seen()
    assert scene.scales.replicas == 4


def test_what_was_added_in_an_earlier_lead_is_not_taken_back_a_second_time():
    scene = interrupted()
    scene.seen()
    assert scene.scales.replicas == 5
    scene.die(1)
    scene.scales.replicas = 4  # the replica that led meanwhile has taken it back
    scene.replacements.forget()
    assert scene.seen() == 4
    assert scene.scales.replicas == 4


def test_what_another_leader_has_added_is_not_added_again():
    leads = [True]
    scene = Scene(may_write=lambda: leads[0])
    scene.interrupt(1)
    leads[0] = False
    scene.seen()  # the round in which the lead was lost
    scene.scales.replicas = 5
    leads[0] = True
    assert scene.seen() == 4
    assert scene.scales.replicas == 5


def test_who_only_advises_or_does_not_lead_writes_nothing():
    scene = Scene(may_write=lambda: False)
    scene.seen()
    scene.interrupt(1)
    assert scene.seen() == 4
    assert not scene.scales.writes


def test_a_notice_that_is_withdrawn_takes_its_replacement_along():
    scene = Scene()
    scene.seen()
    scene.interrupt(2)
    scene.seen()
    scene.notices.changed("MODIFIED", node("n2"))
    assert scene.seen() == 4
    assert scene.scales.replicas == 4


@given(base=st.integers(0, 50), added=st.integers(0, 50), doomed=st.integers(0, 50), known=st.booleans())
def test_the_base_is_kept_and_no_more_is_asked_for_than_is_doomed(
    base: int, added: int, doomed: int, known: bool
):
    found = surplus(base + added, doomed, added if known else None)
    assert found.base >= 0
    assert found.added >= 0
    if known:
        assert found.base == base
    if found.changes:
        assert found.base > 0
        assert found.added == doomed
    if not known:
        assert found.base + found.added <= max(base + added, doomed + 1)
