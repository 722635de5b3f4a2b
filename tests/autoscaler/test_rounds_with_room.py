"""Rounds of the controller with a fleet that has little room and with others who set replicas too."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from autoscaler import reasons
from autoscaler.collect import Collector, Workload
from autoscaler.controller import Controller
from autoscaler.other_writer import Change, Look
from autoscaler.placeable import Ask, Placed, ReplicaShape, hand_out
from autoscaler.placement import Wish
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from cluster import event_reasons
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference, Scale, ScaleSpec
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.samples import NoData
from scheduler.demand import Demand, GpuRequest
from scheduler.planner.admission import Constraints
from tests.autoscaler.said import Said

SHAPE = ReplicaShape(Demand((GpuRequest("whole", None, 1),)), Constraints((), None, (), False))


@dataclass
class Cluster:
    """Workloads by name, GPUs, and everything that the controller needs of the world; all replicas that have
    a GPU are ready at once.
    """

    gpus: int
    loads: dict[str, float]
    replicas: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    rival: str | None = None
    change: Change | None = None
    unknown: NoData | None = None
    broken: bool = False
    asked: list[list[str]] = field(default_factory=list)
    noted: list[tuple[str, int]] = field(default_factory=list)
    marked: list[int] = field(default_factory=list)
    said: Said = field(default_factory=Said)
    forgotten: list[str] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    now: float = 1000.0
    policy: dict[str, Any] = field(default_factory=dict)

    # --- scales
    def read(self, target: Target) -> ScaleSight:
        about = ObjectReference(kind=target.kind, name=target.name, namespace=target.namespace)
        return ScaleSight(
            target, "/", self.replicas.setdefault(target.name, 1), parse_selector("app=x"), about
        )

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        self.replicas[sight.target.name] = replicas
        return Scale(spec=ScaleSpec(replicas))

    # --- placement
    def ask(self, wishes: Sequence[Wish], pool: Executor) -> Placed:
        self.asked.append([wish.sight.target.name for wish in wishes])
        if self.broken:
            raise RuntimeError("a defect")
        free = self.gpus - sum(self.placed(name) for name in self.replicas)
        asks = [
            Ask(
                wish.sight.target,
                self.unknown or SHAPE,
                placed=self.placed(wish.sight.target.name),
                waiting=wish.signals.current - self.placed(wish.sight.target.name),
                wanted=max(wish.wanted, wish.signals.current),
                refused=wish.signals.unschedulable,
                eventually=wish.eventually,
            )
            for wish in wishes
        ]
        return hand_out(asks, Pile(free))

    def placed(self, name: str) -> int:
        return self.replicas[name] - self.refused.get(name, 0)

    # --- rivals
    def look(self, sight: ScaleSight, now: float) -> Look:
        change, self.change = self.change, None
        return Look(self.rival, change)

    def wrote(self, target: Target, replicas: int) -> None:
        self.noted.append((target.name, replicas))

    def forget(self, target: Target) -> None:
        self.forgotten.append(target.name)

    # --- victims
    def mark(self, sight: ScaleSight, going: int) -> None:
        self.marked.append(going)

    def controller(self, **options: Any) -> Controller:
        policies = {
            ("n", f"{name}-policy"): AutoscalingPolicy.model_validate(
                {
                    "target": {"name": name},
                    "maxReplicas": 20,
                    "inFlight": {"perReplica": 10.0},
                    "scaleDown": {"stabilisationSeconds": 5},
                    **self.policy,
                }
            )
            for name in self.loads
        }
        return Controller(
            lambda: policies,
            self,
            Loads(self),
            self.said,
            AutoscalerMetrics(self.registry),
            placement=self,
            rivals=self,
            victims=self,
            clock=lambda: self.now,
            **options,
        )

    def metric(self, name: str, workload: str) -> float | None:
        labels = {"namespace": "n", "kind": "Deployment", "name": workload}
        return self.registry.get_sample_value(f"slicewise_autoscaler_{name}", labels)


class Pile:
    """Room that is so many GPUs."""

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def take(self, shape: ReplicaShape, most: int) -> int:
        fits = max(0, min(most, self.gpus))
        self.gpus -= fits
        return fits


class Loads(Collector):
    """Signals from the table of loads."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(NoQueries(), PodIndex())
        self.cluster = cluster

    def ask(self, workloads: Any, at: float, enter: Any = None) -> Any:
        def signals(workload: Workload) -> Signals:
            name, current = workload.sight.target.name, workload.sight.replicas
            stuck = self.cluster.refused.get(name, 0)
            return Signals(
                current=current,
                ready=current - stuck,
                unschedulable=stuck,
                in_flight=self.cluster.loads[name],
                request_rate=1.0,
            )

        return signals


class NoQueries:
    def query_many(self, queries: Any, at: float) -> Any:
        raise AssertionError("the table answers")


def first_reason(controller: Controller) -> str:
    return controller.views[0].decision.reasons[0].code


def test_no_more_is_asked_for_than_there_is_room_for_and_it_is_told():
    cluster = Cluster(gpus=4, loads={"a": 60.0})
    controller = cluster.controller()
    controller.round()
    assert cluster.replicas["a"] == 4
    cluster.now += 5.0
    controller.round()
    assert (cluster.replicas["a"], first_reason(controller)) == (4, reasons.NOT_PLACEABLE)
    assert (cluster.metric("placeable_replicas", "a"), cluster.metric("unplaceable_replicas", "a")) == (4, 2)
    (request,) = controller.node_requests
    assert (request.target.name, request.replicas) == ("a", 2)
    limits = cluster.said.notes(event_reasons.SCALING_LIMITED)
    assert len(limits) == 1
    assert "6 replicas are wanted, 4 can be placed" in limits[0]
    cluster.gpus = 9
    cluster.now += 5.0
    controller.round()
    assert cluster.replicas["a"] == 6
    assert controller.node_requests == ()
    controller.close()


def test_a_quiet_round_does_not_ask_the_fleet():
    cluster = Cluster(gpus=4, loads={"a": 8.0, "b": 8.0})
    controller = cluster.controller()
    controller.round()
    assert cluster.asked == []
    assert cluster.metric("placeable_replicas", "a") is None
    assert cluster.metric("unplaceable_replicas", "a") == 0
    controller.close()


def test_two_workloads_share_the_room_there_is():
    cluster = Cluster(gpus=5, loads={"a": 40.0, "b": 40.0})
    controller = cluster.controller()
    controller.round()
    assert sorted(cluster.replicas.values()) == [1, 4]
    assert cluster.asked == [["a", "b"]]
    controller.close()


def test_replicas_that_find_no_node_are_taken_back():
    cluster = Cluster(gpus=4, loads={"a": 60.0}, replicas={"a": 6}, refused={"a": 2})
    controller = cluster.controller()
    controller.round()
    assert cluster.replicas["a"] == 4
    controller.close()


def test_what_is_refused_although_there_is_room_is_neither_taken_back_nor_added_to():
    cluster = Cluster(gpus=9, loads={"a": 80.0}, replicas={"a": 6}, refused={"a": 2})
    controller = cluster.controller()
    controller.round()
    assert (cluster.replicas["a"], first_reason(controller)) == (6, reasons.UNSCHEDULABLE)
    controller.close()


@pytest.mark.parametrize("broken", [True, False])
def test_without_an_answer_from_the_fleet_the_load_decides(broken: bool):
    cluster = Cluster(gpus=0, loads={"a": 30.0}, unknown=NoData("its pods ask for no GPU"), broken=broken)
    controller = cluster.controller()
    controller.round()
    assert cluster.replicas["a"] == 3
    assert cluster.metric("placeable_replicas", "a") is None
    controller.close()


def test_a_second_writer_stops_the_writes_and_is_named():
    cluster = Cluster(gpus=9, loads={"a": 60.0}, rival="HorizontalPodAutoscaler rival")
    controller = cluster.controller()
    for _ in range(3):
        cluster.now += 5.0
        controller.round()
    assert (cluster.replicas["a"], first_reason(controller)) == (1, reasons.OTHER_WRITER)
    assert cluster.asked == []
    said = cluster.said.notes(event_reasons.SCALING_HELD)
    assert len(said) == 1
    assert "HorizontalPodAutoscaler rival sets the replicas of this target as well" in said[0]
    cluster.rival = None
    controller.round()
    assert cluster.replicas["a"] == 5  # one step
    controller.close()


def test_a_change_by_hand_is_told_and_holds_for_one_window():
    cluster = Cluster(gpus=9, loads={"a": 10.0})
    cluster.policy = {"scaleDown": {"stabilisationSeconds": 60}}
    controller = cluster.controller()
    controller.round()
    cluster.now += 100.0
    controller.round()
    cluster.replicas["a"], cluster.change = 5, Change(cluster.now, "kubectl-scale", 1, 5)
    controller.round()
    assert cluster.said.notes(event_reasons.REPLICAS_TAKEN_OVER) == [
        "kubectl-scale set the replicas from 1 to 5; going on from there"
    ]
    assert cluster.metric("foreign_changes_total", "a") == 1
    cluster.now += 50.0
    controller.round()
    assert cluster.replicas["a"] == 5
    cluster.now += 20.0
    controller.round()
    assert cluster.replicas["a"] < 5
    controller.close()


def test_who_only_advises_or_runs_dry_looks_out_for_nobody():
    cluster = Cluster(gpus=9, loads={"a": 60.0}, rival="HorizontalPodAutoscaler ours")
    cluster.policy = {"actuator": "advise"}
    controller = cluster.controller()
    controller.round()
    assert controller.views[0].decision.replicas == 5
    controller.close()
    cluster.policy = {}
    cluster.registry = CollectorRegistry()
    dry = cluster.controller(dry_run=True)
    dry.round()
    assert (dry.views[0].decision.replicas, cluster.replicas["a"]) == (5, 1)
    dry.close()


def test_what_is_written_is_noted_and_victims_are_marked_before_a_lowering():
    cluster = Cluster(gpus=9, loads={"a": 60.0})
    controller = cluster.controller()
    controller.round()
    assert (cluster.noted, cluster.marked) == ([("a", 5)], [])
    cluster.loads["a"] = 10.0
    for _ in range(4):
        cluster.now += 20.0
        controller.round()
    assert cluster.marked[0] == cluster.noted[0][1] - cluster.noted[1][1] > 0
    controller.close()


def test_what_is_kept_of_a_workload_goes_with_its_policy():
    cluster = Cluster(gpus=9, loads={"a": 10.0})
    leads = {"now": True}
    controller = cluster.controller(is_leader=lambda: leads["now"])
    controller.round()
    leads["now"] = False
    controller.round()
    assert cluster.forgotten == ["a", "a"]  # by the placement and by the rivals
    controller.close()
