"""Two contenders for a Lease on a real API server: one leads, the other takes over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from cluster.client import Api, connect
from cluster.lease import LeaderElection
from cluster.wire import Lease
from deploy.local.control_plane import ControlPlane
from tests.polling import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    api = connect(str(control_plane.kubeconfig))
    yield api
    api.close()


LONG_SECONDS = 300  # longer than any wait here: nobody takes over because a lease ran out


@pytest.fixture
def contender(api: Api, namespace: str) -> Iterator[Callable[..., LeaderElection]]:
    made: list[LeaderElection] = []

    def make(identity: str, duration_seconds: int = LONG_SECONDS) -> LeaderElection:
        election = LeaderElection(
            api,
            namespace,
            "controller",
            identity,
            duration_seconds=duration_seconds,
            renew_deadline_seconds=duration_seconds / 2,
            retry_seconds=0.2,
        )
        made.append(election)
        return election

    yield make
    for election in made:
        election.stop()


def test_one_of_two_leads_and_a_release_hands_over_at_once(
    contender: Callable[..., LeaderElection], api: Api, namespace: str
) -> None:
    first, second = contender("first"), contender("second")
    first.start()
    until(lambda: first.is_leader, 10.0, "the first to lead")
    second.start()
    until(lambda: second.holder == "first", 10.0, "the second to see it")
    assert not second.is_leader

    first.stop()
    assert not first.is_leader
    until(lambda: second.is_leader, 10.0, "the second to lead, long before the lease ends")
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/controller"
    spec = api.get(path, Lease).spec
    assert spec.holder_identity == "second"
    assert spec.lease_transitions == 1
    assert spec.lease_duration_seconds == LONG_SECONDS


def test_a_leader_that_dies_without_a_word_is_replaced_after_the_duration(
    contender: Callable[..., LeaderElection],
) -> None:
    dead, heir = contender("dead", 2), contender("heir", 2)
    dead.step()  # leads, and then never renews
    assert dead.is_leader
    began = time.monotonic()
    heir.start()
    until(lambda: heir.is_leader, 10.0, "the heir to lead", every_seconds=0.005)
    assert time.monotonic() - began > 1.5
    assert not dead.is_leader
