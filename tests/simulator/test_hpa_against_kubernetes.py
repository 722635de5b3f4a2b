"""The model of HPA and the real kube-controller-manager: the same series, the same replicas at every sync."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import pytest

from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, node_manifest
from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policies.hpa import by_mean, by_total
from simulator.autoscaling_policies.hpa_behaviour import AsShipped, Rate, WithBehaviour
from simulator.autoscaling_policy import Bounds
from tests.polling import until
from tests.simulator.real_hpa import (
    CONTROLLER_MANAGER,
    CUSTOM,
    DOWN_WINDOW_SECONDS,
    EXTERNAL,
    SYNC_SECONDS,
    Case,
    SeriesDoor,
    Sync,
    available,
    register,
)

pytestmark = pytest.mark.cluster

STEPS = 32
NAMESPACE = "hpa"
MOST_SLACK_SECONDS = 3.0
ATTEMPTS = 3
Shape = AsShipped | WithBehaviour


@pytest.fixture(scope="module")
def door(
    tmp_path_factory: pytest.TempPathFactory, build_progress: Callable[[str], None]
) -> Iterator[SeriesDoor]:
    try:
        ensure(CONTROL_PLANE, progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no control plane on this machine: {problem}")
    directory = tmp_path_factory.mktemp("hpa")
    with ControlPlane(directory=directory, extra_arguments=CONTROLLER_MANAGER) as cluster:
        cluster.request(
            "POST",
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        )
        create_nodes(cluster, [node_manifest(f"room-{n}", allocatable={"pods": "6"}) for n in range(2)])
        server = SeriesDoor(cluster, NAMESPACE)
        try:
            register(cluster, NAMESPACE, server.port)
            until(
                lambda: all(available(cluster, group) for group in (EXTERNAL, CUSTOM)),
                30.0,
                "both are served",
            )
            yield server
        finally:
            server.stop()


def walk(seed: int, low: float, high: float, steps: int = STEPS) -> list[float | None]:
    """A load that drifts, jumps and stands still, within bounds."""
    rng = random.Random(seed)
    load = (low + high) / 2
    values: list[float | None] = []
    for _ in range(steps):
        move = rng.random()
        if move < 0.15:
            load = rng.uniform(low, high)
        elif move < 0.75:
            load *= rng.uniform(0.85, 1.18)
        load = min(high, max(low, load))
        values.append(round(load, 3))
    return values


def with_gaps(values: list[float | None], *gaps: range) -> list[float | None]:
    dark = {at for gap in gaps for at in gap}
    return [None if at in dark else value for at, value in enumerate(values)]


@dataclass(frozen=True)
class Edges:
    """Seconds by which each window may be longer or shorter for HPA than for us."""

    down: float = 0.0
    up: float = 0.0
    period: float = 0.0


def slack_seconds(syncs: list[Sync]) -> float:
    """HPA decides after our answer, and a sync period before it asks again: how well its clock is known."""
    return max(after.asked - 0.95 * SYNC_SECONDS - sync.at for sync, after in pairwise(syncs))


def edges_of(syncs: list[Sync]) -> list[Edges]:
    """What the windows may have been for HPA."""
    wide = max(0.1, slack_seconds(syncs))
    steps = [wide * step / 3 for step in range(-3, 4)]
    return [Edges(*three) for three in product(steps, repeat=3)]


class Told(WithBehaviour):
    """Remembers what was really set, so that one difference does not make the next."""

    def rescaled(self, change: Ints, now: float) -> None:
        pass

    def tell(self, change: Ints, now: float) -> None:
        super().rescaled(change, now)


def compared(
    case: Case, shape: Callable[[Edges], Shape], wish: Callable[[Sync], int]
) -> tuple[int, list[str]]:
    """How many decisions were compared, and those that differ in words."""
    shapes = [shape(edges) for edges in edges_of(case.syncs)]
    different: list[str] = []
    syncs = case.syncs[:-1]
    for number, (sync, after) in enumerate(pairwise(case.syncs)):
        known = np.array([sync.value is not None])
        wanted = np.array([wish(sync) if sync.value is not None else 0])
        current = np.array([sync.replicas])
        models = {int(one.shaped(wanted, known, current, sync.at)[0]) for one in shapes}
        for one in shapes:
            if isinstance(one, Told):
                one.tell(np.array([after.replicas - sync.replicas]), sync.at)
        if after.replicas not in models:
            different.append(f"{case.name} sync {number}: {sync} -> {after.replicas}, model {sorted(models)}")
    return sum(sync.value is not None for sync in syncs), different


def by_external(case: Case, up: float = 0.1, down: float = 0.1) -> Callable[[Sync], int]:
    def wish(sync: Sync) -> int:
        assert sync.value is not None
        found = by_total(np.array([sync.value]), np.array([case.target]), np.array([sync.replicas]), down, up)
        return int(found[0])

    return wish


def by_pods(case: Case) -> Callable[[Sync], int]:
    def wish(sync: Sync) -> int:
        assert sync.value is not None
        counts = (np.array([n]) for n in (sync.ready, sync.pending, sync.replicas, sync.silent))
        return int(by_mean(np.array([sync.value]), np.array([case.target]), *counts)[0])

    return wish


def as_shipped(case: Case) -> Callable[[Edges], Shape]:
    return lambda edges: AsShipped(Bounds(case.least, case.most, 1), DOWN_WINDOW_SECONDS + edges.down)


def behaving(case: Case, up: Rate, down: Rate) -> Callable[[Edges], Shape]:
    def widened(rate: Rate, edge: float, period: float) -> Rate:
        window = rate.window_seconds + edge if rate.window_seconds else 0.0
        return replace(rate, window_seconds=window, period_seconds=rate.period_seconds + period)

    def shape(edges: Edges) -> Shape:
        up_rate, down_rate = widened(up, edges.up, edges.period), widened(down, edges.down, edges.period)
        return Told(Bounds(case.least, case.most, 1), up_rate, down_rate)

    return shape


Written = list[tuple[Case, tuple[Rate, Rate]]]


def all_cases() -> tuple[list[Case], Written, list[Case]]:
    """Without a behaviour, with one written out, and with a metric of each pod."""
    burst = [20.0] * 4 + [300.0] * 2 + [60.0] * 10 + [25.0] * 18
    shipped = [
        Case("walk-1", walk(1, 5, 200), 10.0, replicas=3),
        Case("walk-2", walk(2, 1, 90), 7.5, replicas=12, least=2, most=15),
        Case("burst", list(burst), 10.0, replicas=1),
        Case("gaps", with_gaps(walk(3, 20, 200), range(5, 9), range(20, 24)), 10.0, replicas=8),
        Case(
            "noise",
            [100.0 * random.Random(7 + n).uniform(0.88, 1.12) for n in range(STEPS)],
            10.0,
            replicas=10,
        ),
    ]
    slow = {
        "scaleUp": {
            "stabilizationWindowSeconds": 3,
            "policies": [
                {"type": "Percent", "value": 50, "periodSeconds": 4},
                {"type": "Pods", "value": 2, "periodSeconds": 4},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 6,
            "policies": [{"type": "Percent", "value": 25, "periodSeconds": 4}],
        },
    }
    defaults = {"scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}}
    defaults["scaleUp"] = {
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 1},
            {"type": "Pods", "value": 4, "periodSeconds": 1},
        ]
    }
    exact = {
        "scaleUp": {"tolerance": "0", "policies": [{"type": "Pods", "value": 1000, "periodSeconds": 1}]},
        "scaleDown": {"tolerance": "0.05", "stabilizationWindowSeconds": 0},
    }
    up, down = Rate(3.0, 50.0, 2, 4.0), Rate(6.0, 25.0, None, 4.0)
    written = [
        (Case("slow", walk(4, 10, 250), 10.0, replicas=5, behaviour=slow), (up, down)),
        (
            Case("defaults", list(burst), 10.0, replicas=1, behaviour=defaults),
            (Rate(0.0, 100.0, 4, 1.0), Rate(DOWN_WINDOW_SECONDS, 100.0, None, 1.0)),
        ),
        (
            Case("exact", walk(5, 10, 200), 10.0, replicas=5, behaviour=exact),
            (Rate(0.0, None, 1000, 1.0), Rate(0.0, 100.0, None, 15.0)),
        ),
    ]
    pods = [
        Case("pods-full", walk(6, 0.1, 1.6), 0.6, replicas=3, most=9, pods_metric=True, node="room-0"),
        Case(
            "pods-silent",
            walk(8, 0.1, 1.6),
            0.6,
            replicas=4,
            most=9,
            pods_metric=True,
            node="room-1",
            silent=1,
        ),
    ]
    return shipped, written, pods


@pytest.mark.timeout(1200)
def test_replicas_are_the_same_at_every_sync(door: SeriesDoor):
    for _ in range(ATTEMPTS):
        shipped, written, pods = all_cases()
        cases = [*shipped, *(case for case, _ in written), *pods]
        door.run(cases)
        for case in cases:
            assert case.finished.wait(12.0 * STEPS), f"{case.name}: {len(case.syncs)} syncs only"
        door.remove(cases)
        slack = max(slack_seconds(case.syncs) for case in cases)
        if slack < MOST_SLACK_SECONDS:
            break
    else:
        pytest.skip(f"too busy a machine to know HPA's clock: it took {slack:.1f} s for a sync")
    results = [compared(case, as_shipped(case), by_external(case)) for case in shipped]
    for case, rates in written:
        tolerances = (0.0, 0.05) if case.name == "exact" else (0.1, 0.1)
        results.append(compared(case, behaving(case, *rates), by_external(case, *tolerances)))
    results += [compared(case, as_shipped(case), by_pods(case)) for case in pods]
    different = [line for _, lines in results for line in lines]
    assert not different, "\n".join(different)
    assert sum(count for count, _ in results) >= (STEPS - 8) * len(cases)
    # Without a behaviour is not the same as with the documented defaults: a past wish is followed up.
    spelled_out = behaving(shipped[2], *written[1][1])
    assert compared(shipped[2], spelled_out, by_external(shipped[2]))[1]
    # A comparison of what never moves would show nothing.
    assert all(len({sync.replicas for sync in case.syncs}) >= 2 for case in cases)
    assert any(sync.pending for sync in pods[0].syncs)
    assert any(sync.silent for sync in pods[1].syncs)
