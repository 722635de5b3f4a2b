"""Pod templates are read for the forecast in rotation, however soon they are to be read again."""

from __future__ import annotations

from typing import Any

from autoscaler.forecast_store import MOST_READ, ForecastWriter
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.wire import ObjectReference


class Shapes:
    """Templates of workloads without pods, all of which expire between two turns."""

    def __init__(self) -> None:
        self.read_of: list[str] = []

    def wants_reading(self, sight: ScaleSight, pods: Any) -> bool:
        return True

    def read(self, sight: ScaleSight, pods: Any) -> None:
        self.read_of.append(sight.target.name)


class Scales:
    def read(self, target: Target) -> ScaleSight:
        return ScaleSight(target, "/", 0, parse_selector("app=llm"), ObjectReference())


def test_templates_that_expire_every_turn_are_read_in_rotation():
    shapes = Shapes()
    writer = ForecastWriter(
        None,
        "ns",
        dict,
        tuple,
        Scales(),
        PodIndex(),
        shapes,
        None,
        active=lambda: True,
    )
    targets = [Target("apps/v1", "Deployment", "shop", f"w{n:03}") for n in range(2 * MOST_READ + 20)]
    for turn in range(1, 7):
        writer._read_shapes(targets)
        assert len(shapes.read_of) == MOST_READ * turn
    counts = [shapes.read_of.count(target.name) for target in targets]
    assert max(counts) - min(counts) <= 1
    assert min(counts) == 2
