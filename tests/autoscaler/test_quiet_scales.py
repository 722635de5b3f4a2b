"""Scales in which nothing changes for long: their watch stays trusted, without bookmarks and events."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest

from autoscaler.scale_index import ScaleIndex
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target, Targets
from cluster.client import Api
from cluster.wire import ObjectReference
from tests.polling import until

SELECTOR = {"matchLabels": {"app": "a"}}
OBJECT = {
    "metadata": {"namespace": "n", "name": "a", "resourceVersion": "7"},
    "spec": {"replicas": 3, "selector": SELECTOR},
}


class Silence:
    """A watch without a line, until the server or the reader ends it."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self.ended.wait()
        return iter(())

    def close(self) -> None:
        self.ended.set()


class QuietApi:
    """Lists one object and never has news."""

    def __init__(self) -> None:
        self.watches: list[tuple[Silence, float]] = []  # and for how long it is borne

    def list_raw(self, path: str, params: Any = None, *, accept: str = "") -> bytes:
        return msgspec.json.encode({"metadata": {"resourceVersion": "7"}, "items": [OBJECT]})

    def watch(
        self, path: str, params: Mapping[str, Any], *, read_timeout_seconds: float, accept: str = ""
    ) -> Silence:
        silence = Silence()
        self.watches.append((silence, max(params["timeoutSeconds"], read_timeout_seconds)))
        return silence


class CountedReads:
    def __init__(self, target: Target) -> None:
        path = f"/apis/{target.api_version}/namespaces/n/things/a/scale"
        self.sight = ScaleSight(target, path, 3, parse_selector("app=a"), ObjectReference(), "7")
        self.asked = 0

    def read(self, target: Target) -> ScaleSight:
        self.asked += 1
        return self.sight


@pytest.mark.parametrize(
    "target", [Target("apps/v1", "Deployment", "n", "a"), Target("example.org/v1", "Thing", "n", "a")]
)
def test_scales_that_nobody_changes_cost_no_request_for_an_hour(target: Target):
    api, reads, now = QuietApi(), CountedReads(target), [0.0]
    index = ScaleIndex(cast(Api, api), cast(Targets, reads), clock=lambda: now[0])
    try:
        index.read(target)
        until(lambda: bool(api.watches), 10.0, "the watch")
        index.read(target)  # of a custom resource the version is asked for once
        asked = reads.asked
        while now[0] < 3600.0:
            silence, borne_seconds = api.watches[-1]
            now[0] += borne_seconds  # even a watch that died is given up by then
            assert index.read(target).replicas == 3
            opened = len(api.watches)
            silence.ended.set()
            until(lambda opened=opened: len(api.watches) > opened, 10.0, "the next watch")  # type: ignore[misc]
        assert reads.asked == asked
    finally:
        index.stop()
