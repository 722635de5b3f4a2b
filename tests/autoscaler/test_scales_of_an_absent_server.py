"""Scales that are read one by one from a server that does not answer: asked once, not a thousand times."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
import pytest

from autoscaler.scale_reads import PARALLEL_READS, read_all
from autoscaler.targets import AWAY_SECONDS, ScaleSight, Target, Targets
from cluster.api_errors import ApiUnreachable
from cluster.client import Api

RESOURCES = {
    "resources": [{"name": name, "kind": "Thing", "namespaced": True} for name in ("things", "things/scale")]
}
SCALE = {"spec": {"replicas": 2}, "status": {"replicas": 2, "selector": "app=a"}}


class Server:
    """Serves scales of any group but those that are ``away``."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: Counter[str] = Counter()

    def get(self, path: str, kind: Any) -> Any:
        group = path.split("/")[2]
        self.asked[group] += 1
        if group in self.away:
            raise ApiUnreachable(f"GET {path}: timed out")
        return msgspec.convert(SCALE if path.endswith("/scale") else RESOURCES, kind)


class Scene:
    def __init__(self) -> None:
        self.server, self.now = Server(), 100.0
        self.targets = Targets(cast(Api, self.server), clock=lambda: self.now)

    def read(self, number: int, group: str = "one.example.org") -> list[Any]:
        wanted = [Target(f"{group}/v1", "Thing", "n", f"a{index}") for index in range(number)]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return list(read_all(wanted, self.targets.read, pool).values())


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.read(1)  # the kind is known
    scene.server.asked.clear()
    return scene


def test_a_server_that_does_not_answer_is_not_asked_for_every_target(scene: Scene):
    scene.server.away = {"one.example.org"}
    found = scene.read(1000)
    assert len(found) == 1000
    assert all(isinstance(one, ApiUnreachable) and "timed out" in str(one) for one in found)
    assert scene.server.asked["one.example.org"] <= PARALLEL_READS


def test_it_is_asked_again_after_a_while(scene: Scene):
    scene.server.away = {"one.example.org"}
    scene.read(1)
    scene.server.away = set()
    assert isinstance(scene.read(1)[0], ApiUnreachable)
    scene.now += AWAY_SECONDS
    assert all(isinstance(one, ScaleSight) for one in scene.read(100))


def test_another_group_may_have_another_server(scene: Scene):
    scene.server.away = {"one.example.org"}
    scene.read(1)
    assert isinstance(scene.read(1, "other.example.org")[0], ScaleSight)
