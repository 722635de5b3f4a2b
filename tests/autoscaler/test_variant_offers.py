"""Variants of a model on a fleet: priced by the scheduler's own prices, bounded by its own room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from autoscaler import reasons
from autoscaler.case import Case
from autoscaler.collect import Workload
from autoscaler.placeable import ReplicaShape
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from autoscaler.variant_offers import VariantOffers
from cluster.autoscaling_policy import AutoscalingPolicy
from cluster.wire import ObjectReference, Pod
from metrics.samples import NoData
from scheduler.demand import parse_demand
from scheduler.fleet import Fleet
from scheduler.planner.admission import Constraints
from tests.scheduler.fleet_objects import Setting, node, pod

ANYWHERE = Constraints((), None, (), False)
A100, H100 = (Target("apps/v1", "Deployment", "shop", name) for name in ("llm-a100", "llm-h100"))
WANTS = {A100: {"slicewise.io/gpu-model": "A100-80GB"}, H100: {"slicewise.io/gpu-model": "H100-80GB"}}


class Shapes:
    """What one replica of each variant asks for: a whole GPU of its model."""

    def __init__(self, setting: Setting) -> None:
        facts = setting.fleet.facts
        self._of: dict[Target, ReplicaShape] = {}
        self.read_by: list[str] = []
        for target, wanted in WANTS.items():
            demand = parse_demand(
                pod(target.name, {"nvidia.com/gpu": 1}, annotations=wanted), facts, facts.classes
            )
            assert demand is not None
            self._of[target] = ReplicaShape(demand, ANYWHERE)

    def wants_reading(self, sight, pods) -> bool:
        self.read_by += [one.name for one in pods]
        return False

    def shape(self, target: Target) -> ReplicaShape | NoData:
        return self._of[target]


class Service:
    def __init__(self, setting: Setting) -> None:
        self.decider, self.fleet = setting.decider, setting.fleet
        self.known = True

    def synced(self) -> bool:
        return self.known


def host(name, model, gpus):
    return node(
        name,
        product=model,
        allocatable={"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi"},
    )


@pytest.fixture
def setting():
    fleet = Fleet()
    fleet.apply_node(host("a", "NVIDIA-A100-SXM4-80GB", 8))
    fleet.apply_node(host("h", "NVIDIA-H100-80GB-HBM3", 3))
    return Setting(fleet)


def offers(setting, pods=None, shapes=None):
    size = setting.fleet.size
    service = Service(setting)
    return VariantOffers(
        service, lambda _: np.ones(size, dtype=np.bool_), pods or PodIndex(), shapes or Shapes(setting)
    ), service


def case(target, *, current, rps, in_flight=None):
    policy = AutoscalingPolicy.model_validate(
        {
            "target": {"name": target.name},
            "minReplicas": 0,
            "maxReplicas": 8,
            "inFlight": {"perReplica": 16.0},
            "variant": {"of": "llm", "requestsPerSecond": rps},
        }
    )
    sight = ScaleSight(
        target, "/", current, parse_selector("app=x"), ObjectReference(kind="Deployment", name=target.name)
    )
    load = 16.0 * current if in_flight is None else in_flight
    signals = Signals(current=current, ready=current, in_flight=load, request_rate=float(bool(current)))
    one = Case.of(Workload(policy, sight), signals, None, 0.0)
    return one, signals, one.first


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_the_next_replicas_come_where_a_request_costs_less_as_far_as_there_is_room(setting, pool):
    found, _ = offers(setting)
    settled = [case(A100, current=4, rps=2.0), case(H100, current=0, rps=40.0)]
    by_target = {one.workload.sight.target: made for one, _, made in found.bought(settled, 0.0, pool)}
    assert by_target[H100].replicas == 1
    assert by_target[H100].reasons[0].code == reasons.CHEAPER_VARIANT
    # Slow H100s: four replicas' worth would take twelve of them, and three fit, so the A100s stay.
    found, _ = offers(setting)
    settled = [case(A100, current=4, rps=2.0), case(H100, current=0, rps=0.6)]
    by_target = {one.workload.sight.target: made for one, _, made in found.bought(settled, 0.0, pool)}
    assert (by_target[A100].replicas, by_target[H100].replicas) == (4, 0)


def test_growth_beyond_the_cheap_ones_room_goes_to_the_dear_ones(setting, pool):
    found, _ = offers(setting)
    settled = [case(A100, current=1, rps=4.0, in_flight=16.0 * 5), case(H100, current=0, rps=6.0)]
    made = {one.workload.sight.target: d.replicas for one, _, d in found.bought(settled, 0.0, pool)}
    assert made[H100] <= 3
    assert 4.0 * made[A100] + 6.0 * made[H100] >= 4.0 * settled[0][2].replicas


def test_an_unknown_fleet_changes_nothing(setting, pool):
    found, service = offers(setting)
    service.known = False
    settled = [case(A100, current=4, rps=2.0), case(H100, current=0, rps=40.0)]
    assert found.bought(settled, 0.0, pool) == settled


def test_a_pod_that_leaves_says_nothing_of_the_next_replica(setting, pool):
    pods, shapes = PodIndex(), Shapes(setting)
    for name, leaves in (("stays", {}), ("leaves", {"deletionTimestamp": "2026-11-21T10:00:00Z"})):
        meta = {"uid": name, "name": name, "namespace": "shop", "labels": {"app": "x"}, **leaves}
        pods.changed("ADDED", msgspec.convert({"metadata": meta}, Pod))
    found, _ = offers(setting, pods, shapes)
    found.bought([case(A100, current=1, rps=2.0)], 0.0, pool)
    assert shapes.read_by == ["stays"]
