"""Two contenders for a Lease on a real API server: one leads, the other takes over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.client import Api, connect
from cluster.lease import LeaderElection
from cluster.wire import Lease
from deploy.local.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    api = connect(str(control_plane.kubeconfig))
    yield api
    api.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "did not come true in time"
        threading.Event().wait(0.005)
    return time.monotonic() - began


@pytest.fixture
def contender(api: Api, namespace: str) -> Iterator[Callable[[str], LeaderElection]]:
    made: list[LeaderElection] = []

    def make(identity: str) -> LeaderElection:
        election = LeaderElection(
            api,
            namespace,
            "controller",
            identity,
            duration_seconds=2,
            renew_deadline_seconds=1.0,
            retry_seconds=0.2,
        )
        made.append(election)
        return election

    yield make
    for election in made:
        election.stop()


def test_one_of_two_leads_and_a_release_hands_over_at_once(
    contender: Callable[[str], LeaderElection], api: Api, namespace: str
) -> None:
    first, second = contender("first"), contender("second")
    first.start()
    until(lambda: first.is_leader)
    second.start()
    until(lambda: second.holder == "first")
    assert not second.is_leader

    first.stop()
    assert not first.is_leader
    assert until(lambda: second.is_leader) < 1.5
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/controller"
    spec = api.get(path, Lease).spec
    assert spec.holder_identity == "second"
    assert spec.lease_transitions == 1
    assert spec.lease_duration_seconds == 2


def test_a_leader_that_dies_without_a_word_is_replaced_after_the_duration(
    contender: Callable[[str], LeaderElection],
) -> None:
    dead, heir = contender("dead"), contender("heir")
    dead.step()  # leads, and then never renews
    assert dead.is_leader
    heir.start()
    seconds = until(lambda: heir.is_leader)
    assert seconds > 1.5
    assert not dead.is_leader
