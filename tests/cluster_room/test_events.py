"""Events: never in the way, in series, limited, and counted when lost."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from cluster.api_errors import ApiUnreachable
from cluster.event_reasons import POLICY_REFUSED, SCALED_UP
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from tests.polling import LONGEST_SECONDS, SOON_SECONDS, until

POD = ObjectReference(api_version="v1", kind="Pod", name="p", namespace="ns", uid="u")


class Server:
    """Stands for the API server; may be made to hang or to be away."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.open = threading.Event()
        self.open.set()
        self.away = False

    def request(self, method: str, path: str, *, body: object, **_: object) -> bytes:
        self.open.wait(LONGEST_SECONDS)
        if self.away:
            raise ApiUnreachable("away")
        self.requests.append((method, path, body))
        return b"{}"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(server: Server, clock: Clock):
    recorder = EventRecorder(
        server,  # type: ignore[arg-type]
        "slicewise.io/test",
        instance="pod-1",
        queue_size=50,
        burst=3,
        clock=clock,
    )
    recorder.start()
    yield recorder
    server.open.set()
    recorder.stop()


def finish(recorder: EventRecorder) -> None:
    recorder.stop()


def test_an_event_carries_who_what_and_why(recorder: EventRecorder, server: Server):
    recorder.record(POD, POLICY_REFUSED, "x" * 3000, "Warning", "LoadPolicy")
    finish(recorder)

    (method, path, body) = server.requests[0]
    assert (method, path) == ("POST", "/apis/events.k8s.io/v1/namespaces/ns/events")
    assert body["reason"] == "PolicyRefused"
    assert body["type"] == "Warning"
    assert body["action"] == "LoadPolicy"
    assert body["reportingController"] == "slicewise.io/test"
    assert body["reportingInstance"] == "pod-1"
    assert body["eventTime"] == "2027-01-15T08:00:00.000000Z"
    assert len(body["note"].encode()) <= 1024
    assert body["metadata"]["name"].startswith("p.")
    assert recorder.written == 1


def test_the_same_thing_again_becomes_one_series(recorder: EventRecorder, server: Server):
    for _ in range(20):
        recorder.record(POD, SCALED_UP, "1 to 2")
    finish(recorder)

    methods = [method for method, _, _ in server.requests]
    assert methods == ["POST", "PATCH"]
    assert server.requests[1][1] == server.requests[0][1] + "/" + server.requests[0][2]["metadata"]["name"]
    assert server.requests[1][2]["series"]["count"] == 20
    assert recorder.limited == 0


def test_one_flapping_object_is_limited_and_others_are_not(recorder: EventRecorder, server: Server):
    other = ObjectReference(kind="Pod", name="other", namespace="ns")
    for number in range(10):
        recorder.record(POD, SCALED_UP, f"to {number}")
    recorder.record(other, SCALED_UP, "to 1")
    finish(recorder)

    assert recorder.limited == 7
    assert [body["regarding"].name for _, _, body in server.requests] == ["p", "p", "p", "other"]


def test_the_caller_is_never_held_up_and_what_does_not_fit_is_counted(
    recorder: EventRecorder, server: Server
):
    server.open.clear()
    before = time.monotonic()
    for number in range(500):
        recorder.record(POD, SCALED_UP, f"to {number}")
    assert time.monotonic() - before < SOON_SECONDS, "not when the server came back"
    assert recorder.dropped >= 500 - 50 - 1
    server.open.set()


def test_a_server_that_is_away_costs_the_news_and_not_the_thread(recorder: EventRecorder, server: Server):
    server.away = True
    recorder.record(POD, SCALED_UP, "lost")
    until(lambda: recorder.failed, 5.0, "the failure to be counted", every_seconds=0.005)
    server.away = False
    recorder.record(POD, SCALED_UP, "kept")
    finish(recorder)
    assert [body["note"] for _, _, body in server.requests] == ["kept"]


def test_an_event_about_a_cluster_wide_object_goes_to_the_default_namespace(
    recorder: EventRecorder, server: Server
):
    recorder.record(ObjectReference(kind="Node", name="n"), "GpuUnhealthy", "gone")
    finish(recorder)
    assert "/namespaces/default/" in server.requests[0][1]


def test_the_body_is_json(recorder: EventRecorder, server: Server):
    import msgspec

    recorder.record(POD, SCALED_UP, "ä")
    finish(recorder)
    body = json.loads(msgspec.json.encode(server.requests[0][2]))
    assert body["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "p",
        "namespace": "ns",
        "uid": "u",
    }
