"""A replica on a node that is about to go: its requests count as load, it does not count as supply."""

from __future__ import annotations

import msgspec

from autoscaler.collect import Collector
from autoscaler.decide import decide
from autoscaler.pods import PodSight
from cluster.wire import Pod
from tests.autoscaler.test_collecting_signals import NOW, Answers, index, make_pod, vector, workload


def on(node: str, pod: Pod) -> Pod:
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))


def doomed(pod: PodSight) -> bool:
    return pod.node == "spot"


def test_its_requests_are_load_and_it_is_no_supply():
    pods = index(on("spot", make_pod("a1", "a")), on("sure", make_pod("a2", "a")))
    one = workload("a", 2)
    source = Answers(in_flight=vector(a1=10.0, a2=12.0), rate=vector(a1=1.0, a2=1.0))
    signals = Collector(source, pods, doomed=doomed).ask([one], NOW)(one)
    assert (signals.ready, signals.starting, signals.unschedulable) == (1, 1, 0)
    assert signals.in_flight == 22.0
    # The replacement that was asked for counts as starting: the decision itself asks for nothing more.
    assert decide(one.policy, signals, None, 0.0).replicas == 2


def test_without_a_notice_nothing_changes():
    pods = index(on("sure", make_pod("a1", "a")), make_pod("a2", "a"))
    one = workload("a", 2)
    signals = Collector(Answers(in_flight=vector(a1=1.0, a2=1.0)), pods, doomed=doomed).ask([one], NOW)(one)
    assert (signals.ready, signals.starting) == (2, 0)
