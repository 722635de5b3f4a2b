"""The election, step by step, with clocks that the test turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.lease import LeaderElection, may_take, taken
from cluster.wire import LeaseSpec


class LeaseServer:
    """One Lease with optimistic concurrency."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.away = False

    def request(self, method: str, path: str, *, body: Any, read_timeout_seconds: float) -> bytes:
        if self.away:
            raise ApiUnreachable("away")
        if method == "GET":
            if self.lease is None:
                raise ApiRefused(404, "NotFound", "no lease")
        elif method == "POST":
            if self.lease is not None:
                raise ApiRefused(409, "AlreadyExists", "there is one")
            self._store(body)
        else:
            assert self.lease is not None
            if body["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
                raise ApiRefused(409, "Conflict", "changed")
            self._store(body)
        return json.dumps(self.lease).encode()

    def _store(self, body: Any) -> None:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**body, "metadata": metadata}

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Scene:
    """Candidates, each with a clock of its own that may be wrong."""

    def __init__(self) -> None:
        self.server = LeaseServer()
        self.now = 0.0
        self.calls: list[str] = []

    def candidate(self, identity: str, offset: float = 0.0, **options: Any) -> LeaderElection:
        return LeaderElection(
            self.server,  # type: ignore[arg-type]
            "ns",
            "controller",
            identity,
            on_started=lambda: self.calls.append(f"{identity} starts"),
            on_stopped=lambda: self.calls.append(f"{identity} stops"),
            clock=lambda: self.now + offset,
            wall_clock=lambda: 1_800_000_000.0 + self.now + offset,
            **options,
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_candidate_leads_and_the_second_waits(scene: Scene):
    a, b = scene.candidate("a"), scene.candidate("b")
    a.step()
    b.step()
    assert (a.is_leader, b.is_leader) == (True, False)
    assert b.holder == "a"
    assert scene.server.lease is not None
    assert scene.server.lease["spec"]["leaseDurationSeconds"] == 15


def test_a_leader_that_renews_is_never_replaced(scene: Scene):
    a, b = scene.candidate("a"), scene.candidate("b", offset=1e6)
    for _ in range(60):
        scene.now += 2
        a.step()
        b.step()
        assert (a.is_leader, b.is_leader) == (True, False)
    assert scene.calls == ["a starts"]


def test_a_silent_leader_is_fenced_before_another_takes_over(scene: Scene):
    a, b = scene.candidate("a"), scene.candidate("b", offset=-500)
    a.step()
    b.step()
    scene.now = 9.9
    assert a.is_leader
    scene.now = 10.0
    assert not a.is_leader
    scene.now = 14.9
    b.step()
    assert not b.is_leader
    scene.now = 15.1
    b.step()
    assert b.is_leader
    a.step()
    assert not a.is_leader
    assert scene.calls == ["a starts", "b starts", "a stops"]
    assert scene.server.lease is not None
    assert scene.server.lease["spec"]["leaseTransitions"] == 1


def test_a_short_outage_does_not_cost_the_lead_and_a_long_one_does(scene: Scene):
    a = scene.candidate("a")
    a.step()
    scene.server.away = True
    scene.now = 5
    a.step()
    assert a.is_leader
    assert a.last_error is not None
    scene.now = 11
    a.step()
    assert not a.is_leader
    assert scene.calls == ["a starts", "a stops"]
    scene.server.away = False
    a.step()
    assert a.is_leader
    assert scene.calls[-1] == "a starts"


def test_of_two_that_take_an_expired_lease_at_once_only_one_gets_it(scene: Scene):
    dead, a, b = (scene.candidate(identity) for identity in ("dead", "a", "b"))
    dead.step()
    for candidate in (a, b):
        candidate.step()
    scene.now = 16
    request = scene.server.request
    raced: list[bool] = []

    def race(method: str, path: str, **options: Any) -> bytes:
        if method == "PUT" and not raced:
            raced.append(True)
            b.step()  # between the read and the write of a
        return request(method, path, **options)

    scene.server.request = race  # type: ignore[method-assign]
    a.step()
    assert (a.is_leader, b.is_leader) == (False, True)
    assert scene.server.holder == "b"


def test_a_lease_taken_by_force_ends_the_lead_at_once(scene: Scene):
    a = scene.candidate("a")
    a.step()
    assert scene.server.lease is not None
    scene.server._store({**scene.server.lease, "spec": {**scene.server.lease["spec"], "holderIdentity": "x"}})
    a.step()  # refused by the version
    a.step()  # reads the new holder
    assert not a.is_leader
    assert a.holder == "x"


def test_an_on_started_that_raises_gives_the_lease_back(scene: Scene):
    def broken() -> None:
        raise RuntimeError("cannot begin")

    a = scene.candidate("a")
    a._on_started = broken
    a.step()
    assert not a.is_leader
    assert scene.server.holder == ""
    assert a.last_error is not None
    assert "cannot begin" in a.last_error


def test_stop_releases_the_lease_for_the_next(scene: Scene):
    a = LeaderElection(scene.server, "ns", "controller", "a", retry_seconds=0.01)  # type: ignore[arg-type]
    b = scene.candidate("b")
    a.start()
    while not a.is_leader:
        pass
    a.stop()
    assert not a.is_leader
    assert scene.server.holder == ""
    b.step()
    assert b.is_leader


def test_periods_that_would_allow_two_leaders_are_refused(scene: Scene):
    with pytest.raises(ValueError, match="expected each above the next"):
        scene.candidate("a", duration_seconds=10, renew_deadline_seconds=10)


@given(
    st.sampled_from([None, "", "a", "b"]),
    st.one_of(st.none(), st.integers(0, 60)),
    st.floats(0, 100, allow_nan=False),
)
def test_a_live_lease_of_another_is_never_taken(holder: str | None, duration: int | None, unchanged: float):
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=duration)
    if holder == "b" and unchanged < (duration or 0):
        assert not may_take(spec, "a", unchanged)
    else:
        assert may_take(spec, "a", unchanged)
    assert taken(spec, "a", 15, "now")["holderIdentity"] == "a"
