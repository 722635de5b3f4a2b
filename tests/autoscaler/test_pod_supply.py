"""Which pods are supply, whose they are, and how long they took to start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from autoscaler.cold_start import ColdStarts
from autoscaler.pod_index import PodIndex
from autoscaler.pods import sight
from autoscaler.selectors import parse_selector
from cluster.wire import ObjectMeta, Pod, PodCondition, PodStatus
from metrics.samples import NoData

BORN = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(BORN + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    name: str = "p",
    *,
    ready_at: float | None = None,
    scheduled_at: float | None = 0.0,
    refused_at: float | None = None,
    labels: dict[str, str] | None = None,
    phase: str = "Running",
    **metadata: Any,
) -> Pod:
    conditions = []
    if refused_at is not None:
        conditions.append(PodCondition("PodScheduled", "False", "Unschedulable", "no", at(refused_at)))
    elif scheduled_at is not None:
        conditions.append(PodCondition("PodScheduled", "True", last_transition_time=at(scheduled_at)))
    ready = "False" if ready_at is None else "True"
    conditions.append(PodCondition("Ready", ready, last_transition_time=at(ready_at or 0.0)))
    meta = ObjectMeta(
        name=name, namespace="n", uid=name, labels=labels or {}, creation_timestamp=at(0.0), **metadata
    )
    return Pod(meta, status=PodStatus(phase=phase, conditions=tuple(conditions)))


def test_a_pod_is_starting_until_ready_and_gone_when_it_leaves():
    assert sight(pod(), None).standing(BORN, 60.0) == "starting"
    assert sight(pod(ready_at=5.0), None).standing(BORN + 5.0, 60.0) == "ready"
    assert sight(pod(ready_at=5.0, deletion_timestamp=at(9.0)), None).standing(BORN, 60.0) == "leaving"
    assert sight(pod(phase="Failed"), None).standing(BORN, 60.0) == "leaving"


def test_a_refused_pod_counts_as_starting_for_a_while():
    refused = sight(pod(refused_at=0.0), None)
    assert refused.standing(BORN + 60.0, 60.0) == "starting"
    assert refused.standing(BORN + 61.0, 60.0) == "unschedulable"


def test_only_a_start_that_was_watched_is_measured():
    assert sight(pod(ready_at=40.0), None).start_seconds is None
    before = sight(pod(), None)
    watched = sight(pod(ready_at=40.0), before)
    assert watched.start_seconds == 40.0
    unready = sight(pod(), watched)
    assert sight(pod(ready_at=4000.0), unready).start_seconds == 40.0


def test_a_start_that_waited_long_for_a_node_is_not_measured():
    before = sight(pod(scheduled_at=None), None)
    assert sight(pod(scheduled_at=61.0, ready_at=100.0), before).start_seconds is None
    assert sight(pod(scheduled_at=59.0, ready_at=100.0), before).start_seconds == 100.0


def test_the_measured_start_is_the_median_of_the_last_eight():
    starts = ColdStarts()
    assert isinstance(starts.measured(), NoData)
    for seconds in (500.0, 1.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 31.0):
        starts = starts.add(seconds)
    assert len(starts.seconds) == 8
    assert starts.measured() == 30.0
    assert ColdStarts().add(-2.0).measured() == 0.0


def test_the_index_finds_pods_by_selector_and_follows_changes():
    index = PodIndex()
    index.replaced([pod("a", labels={"app": "x"}), pod("b", labels={"app": "y"}), pod("c")])
    chosen, every = parse_selector("app=x"), parse_selector("!nothing")
    assert [p.name for p in index.matching("n", chosen)] == ["a"]
    assert [p.name for p in index.matching("n", every)] == ["a", "b", "c"]
    assert index.matching("other", chosen) == ()
    index.changed("MODIFIED", pod("b", labels={"app": "x"}))
    index.changed("ADDED", pod("d", labels={"app": "x"}))
    index.changed("DELETED", pod("a", labels={"app": "x"}))
    assert [p.name for p in index.matching("n", chosen)] == ["b", "d"]
    index.changed("MODIFIED", pod("d", labels={"app": "x"}, ready_at=7.0))
    assert index.matching("n", chosen)[1].start_seconds == 7.0
    index.replaced([pod("d", labels={"app": "x"}, ready_at=7.0)])
    assert [p.start_seconds for p in index.matching("n", chosen)] == [7.0]
    assert len(index) == 1
