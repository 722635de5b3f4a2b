"""What was just written counts until the watch has told it, whoever reads or writes meanwhile."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import msgspec

from autoscaler.scale_index import Scalable, ScaleIndex, _Kind, _Watch
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target, Targets
from cluster.client import Api
from cluster.wire import ObjectReference, Scale

TARGET = Target("apps/v1", "Deployment", "n", "a")


class Synced:
    """A reflector that is up to date."""

    synced = threading.Event()

    def age_seconds(self) -> float:
        return 0.0


class Writes:
    version = 5

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        self.version += 1
        return msgspec.convert(
            {"spec": {"replicas": replicas}, "metadata": {"resourceVersion": str(self.version)}}, Scale
        )


def shown(replicas: int, version: int) -> Scalable:
    selector = {"matchLabels": {"app": "a"}}
    metadata = {"name": "a", "namespace": "n", "resourceVersion": str(version)}
    return msgspec.convert(
        {"metadata": metadata, "spec": {"replicas": replicas, "selector": selector}}, Scalable
    )


def index_of(kind: _Kind) -> ScaleIndex:
    Synced.synced.set()
    index = ScaleIndex(cast(Api, None), cast(Targets, Writes()), clock=lambda: 0.0)
    index._watches["apps/v1", "Deployment"] = _Watch(kind, cast(Any, Synced()))
    return index


SIGHT = ScaleSight(TARGET, "/", 2, parse_selector("app=a"), ObjectReference(name="a"))


def test_a_write_counts_until_the_watch_tells_it():
    kind = _Kind("Deployment")
    index = index_of(kind)
    kind.changed("ADDED", shown(2, 5))
    index.write(SIGHT, 4)
    assert index.read(TARGET).replicas == 4
    kind.changed("MODIFIED", shown(3, 7))  # somebody else, later
    assert index.read(TARGET).replicas == 3


def test_a_write_that_comes_while_another_is_looked_up_is_not_lost(monkeypatch):
    kind = _Kind("Deployment")
    index = index_of(kind)
    kind.changed("ADDED", shown(2, 5))
    index.write(SIGHT, 4)
    kind.changed("MODIFIED", shown(4, 6))
    told = index._told

    def overtaken(entry: Any, written: Any) -> bool:
        monkeypatch.undo()
        index.write(replace(SIGHT, replicas=4), 8)
        return bool(told(entry, written))

    monkeypatch.setattr(index, "_told", overtaken)
    index.read(TARGET)
    assert index.read(TARGET).replicas == 8
