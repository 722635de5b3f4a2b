"""Reflectors wired to a fleet, against an API in memory."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest

from cluster.client import Api, ApiRefused
from node.podresources_report import KEY, DeviceReport, ReportedGpu, config_map_name, encode
from scheduler.feed import REPORTS, Feed
from scheduler.fleet import Fleet
from tests import polling
from tests.scheduler.fleet_objects import claim, node, pod, slices

SLICES = "/apis/resource.k8s.io/v1/resourceslices"


class Stream:
    """A watch that yields what is pushed until it is closed."""

    def __init__(self) -> None:
        self.lines: queue.Queue[bytes | None] = queue.Queue()

    def __iter__(self) -> Iterator[bytes]:
        while (line := self.lines.get()) is not None:
            yield line

    def close(self) -> None:
        self.lines.put(None)


class MemoryApi:
    """Lists from a dictionary, watches from queues; ``dra`` False answers 404 for resource.k8s.io."""

    def __init__(self, objects: dict[str, list[Any]], dra: bool = True) -> None:
        self.objects = objects
        self.dra = dra
        self.streams: dict[str, Stream] = {}
        self.params: dict[str, Any] = defaultdict(dict)

    def get(self, path: str, kind: type, params: Any = None) -> Any:
        if not self.dra:
            raise ApiRefused(404, "NotFound", "the server could not find the requested resource")
        return kind()

    def list_raw(self, path: str, params: Any = None) -> bytes:
        self.params[path] = params
        return msgspec.json.encode(
            {"metadata": {"resourceVersion": "1"}, "items": self.objects.get(path, [])}
        )

    def watch(self, path: str, params: Any = None, read_timeout_seconds: float = 0.0) -> Stream:
        return self.streams.setdefault(path, Stream())

    def push(self, path: str, kind: str, item: Any) -> None:
        self.streams[path].lines.put(msgspec.json.encode({"type": kind, "object": item}))


def until(condition: Callable[[], bool]) -> None:
    polling.until(condition, 10, "the fleet to get there", every_seconds=0.005)


@pytest.fixture
def objects() -> dict[str, list[Any]]:
    return {
        "/api/v1/nodes": [node("n"), node("plain", allocatable={"nvidia.com/gpu": "2"})],
        "/api/v1/pods": [pod("p", {"nvidia.com/gpu": 1}, on="plain")],
        SLICES: list(slices("n")),
        "/apis/resource.k8s.io/v1/resourceclaims": [claim("c", devices=["gpu-0"], on="n")],
    }


def occupied(fleet: Fleet, name: str) -> list[int]:
    with fleet.lock:
        row = fleet.rows[name]
        return [int(mask) for mask in fleet.columns.occupied[row, : fleet.columns.gpu_count[row]]]


def test_feed_fills_the_fleet_and_follows_changes(objects: dict[str, list[Any]]):
    api, fleet = MemoryApi(objects), Fleet()
    feed = Feed(cast(Api, api), fleet)
    assert not feed.synced
    feed.start()
    try:
        until(lambda: feed.synced and len(api.streams) == 7)
        assert feed.missing() == []
        age = feed.age_seconds()
        assert age is not None
        assert age < 10
        assert (occupied(fleet, "n"), occupied(fleet, "plain")) == ([0xFF, 0], [0xFF, 0])
        assert "status.phase!=Succeeded" in api.params["/api/v1/pods"]["fieldSelector"]
        gpus = (ReportedGpu(0, "GPU-0", "H100"), ReportedGpu(1, "GPU-1", "H100", ("default/p",)))
        told = {
            "metadata": {"name": config_map_name("plain")},
            "data": {KEY: encode(DeviceReport("plain", gpus))},
        }
        api.push(REPORTS, "ADDED", told)
        until(lambda: occupied(fleet, "plain") == [0, 0xFF])
        api.push("/api/v1/pods", "DELETED", pod("p", {"nvidia.com/gpu": 1}, on="plain"))
        until(lambda: occupied(fleet, "plain") == [0, 0])
        api.push(SLICES, "DELETED", slices("n")[0])
        until(lambda: fleet.inventory("n") is None)
        api.push("/api/v1/nodes", "DELETED", node("n"))
        until(lambda: "n" not in fleet.rows)
    finally:
        feed.stop()
    assert not any(reflector.running for reflector in feed.reflectors.values())


def test_clusters_without_the_resource_group_are_fed_with_nodes_and_pods(objects: dict[str, list[Any]]):
    fleet = Fleet()
    feed = Feed(cast(Api, MemoryApi(objects, dra=False)), fleet)
    feed.start()
    try:
        until(lambda: feed.synced)
        assert set(feed.reflectors) == {"nodes", "pods"}
        assert occupied(fleet, "plain") == [0xFF, 0]
    finally:
        feed.stop()
