"""external.metrics.k8s.io: what it serves, to whom, and that it serves no number which nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from autoscaler.doors.access_review import Access, AccessReview
from autoscaler.doors.external_metrics import PEER_NAMES, create_app, quantity
from autoscaler.doors.front_proxy import Trust, TrustRefused, User, read_trust, user_of
from cluster.api_errors import ApiUnreachable
from metrics.samples import NoData
from tests.autoscaler.door_scenes import Decided

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
CONFIG = {
    "requestheader-client-ca-file": PEM,
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-username-headers": '["X-Remote-User"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
}
ROOT = "/apis/external.metrics.k8s.io/v1beta1"
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
CALLER = {"x-remote-user": HPA}


class Door:
    """The app behind a connection whose client has the certificate names given."""

    def __init__(self, decided: Decided, **options: Any) -> None:
        self.names: frozenset[str] | None = frozenset({"front-proxy-client"})
        self.trust: Trust | None = read_trust(CONFIG)
        self.asked: list[tuple[User, Access]] = []
        self.allowed: Callable[[User, Access], bool] = lambda _user, _access: True
        self.results: list[str] = []
        app = create_app(
            decided.advice(**options),
            lambda: self.trust,
            self._allows,
            lambda: 1_800_000_000.0,
            self.results.append,
        )

        async def connected(scope: Any, receive: Any, send: Any) -> None:
            scope[PEER_NAMES] = self.names
            await app(scope, receive, send)

        self._client = TestClient(connected)

    def _allows(self, user: User, access: Access) -> bool:
        self.asked.append((user, access))
        return self.allowed(user, access)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
        response = self._client.get(path, headers=headers or CALLER)
        return response.status_code, response.json()

    def metric(self, metric: str, selector: str = "", namespace: str = "n") -> tuple[int, dict[str, Any]]:
        query = f"?labelSelector={selector}" if selector else ""
        return self.get(f"{ROOT}/namespaces/{namespace}/{metric}{query}")


@pytest.fixture
def decided() -> Decided:
    table = Decided()
    table.say("chat", 7, 104.5)
    table.say("code", 2, 12.0)
    return table


def test_the_decided_count_is_the_value_of_the_selected_workload(decided: Decided):
    status, answer = Door(decided).metric("slicewise_desired_replicas", "kind%3DDeployment%2Cname%3Dchat")
    assert status == 200
    assert answer["kind"] == "ExternalMetricValueList"
    assert answer["apiVersion"] == "external.metrics.k8s.io/v1beta1"
    assert answer["items"] == [
        {
            "metricName": "slicewise_desired_replicas",
            "metricLabels": {"kind": "Deployment", "name": "chat", "policy": "chat-policy"},
            "timestamp": "2027-01-15T08:00:00Z",
            "value": "7",
        }
    ]


def test_requests_in_flight_are_served_in_thousandths(decided: Decided):
    answer = Door(decided).metric("slicewise_in_flight", "policy%3Dchat-policy")[1]
    assert [item["value"] for item in answer["items"]] == ["104500m"]
    assert [quantity(value) for value in (0.0, 3.0, 1 / 3)] == ["0", "3", "334m"]


def test_without_a_selector_every_workload_of_the_namespace_is_listed(decided: Decided):
    decided.say("other", 9, namespace="m")
    answer = Door(decided).metric("slicewise_desired_replicas")[1]
    assert [item["value"] for item in answer["items"]] == ["7", "2"]


def test_a_stale_decision_is_an_error_and_not_a_number(decided: Decided):
    door = Door(decided)
    assert door.metric("slicewise_desired_replicas", "name%3Dchat")[0] == 200
    decided.now += 16.0
    status, answer = door.metric("slicewise_desired_replicas", "name%3Dchat")
    assert door.results == ["served", "not_known"]
    assert (status, answer["kind"], answer["reason"]) == (503, "Status", "ServiceUnavailable")
    assert answer["message"].startswith(
        "Deployment n/chat: the last decision is 16 s old, expected at most 15 s"
    )


def test_one_workload_that_is_not_known_makes_the_sum_an_error(decided: Decided):
    decided.now += 16.0
    decided.say("chat", 7)
    door = Door(decided)
    assert door.metric("slicewise_desired_replicas", "name%3Dchat")[0] == 200
    assert door.metric("slicewise_desired_replicas")[0] == 503


def test_a_number_in_flight_that_is_missing_is_an_error_while_the_decision_is_served(decided: Decided):
    decided.say("chat", 7, NoData("Prometheus does not answer", "outage"))
    door = Door(decided)
    assert door.metric("slicewise_desired_replicas", "name%3Dchat")[0] == 200
    status, answer = door.metric("slicewise_in_flight", "name%3Dchat")
    assert status == 503
    assert "Prometheus does not answer" in answer["message"]


def test_a_replica_that_does_not_lead_names_the_leader_and_still_answers_discovery(decided: Decided):
    decided.leader = False
    door = Door(decided)
    status, answer = door.metric("slicewise_desired_replicas", "name%3Dchat")
    assert status == 503
    assert "controller-b leads" in answer["message"]
    status, answer = door.get(ROOT)
    assert status == 200
    assert [one["name"] for one in answer["resources"]] == [
        "slicewise_desired_replicas",
        "slicewise_in_flight",
    ]
    assert door.get("/apis/external.metrics.k8s.io")[1]["preferredVersion"]["version"] == "v1beta1"
    assert door.get("/apis")[1]["groups"][0]["name"] == "external.metrics.k8s.io"


def test_a_dry_run_hands_nothing_out(decided: Decided):
    status, answer = Door(decided, dry_run=True).metric("slicewise_desired_replicas", "name%3Dchat")
    assert status == 503
    assert "--dry-run" in answer["message"]


def test_a_policy_without_a_decision_yet_is_an_error(decided: Decided):
    decided.views = ()
    decided.last_round_seconds = 77.0
    status, answer = Door(decided).metric("slicewise_desired_replicas", "name%3Dchat")
    assert status == 503
    assert "nothing is decided yet" in answer["message"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{ROOT}/namespaces/n/slicewise_magic", 404, "expected one of slicewise_desired_replicas"),
        (
            f"{ROOT}/namespaces/n/slicewise_in_flight?labelSelector=name%3Dnobody",
            404,
            "kind=Deployment,name=chat",
        ),
        (f"{ROOT}/namespaces/n/slicewise_in_flight?labelSelector=%3E%3E", 400, "is no label selector"),
        (f"{ROOT}/namespaces/m/slicewise_in_flight", 404, "there: none"),
    ],
)
def test_what_cannot_be_found_is_refused_with_what_is_there(
    decided: Decided, path: str, status: int, words: str
):
    found, answer = Door(decided).get(path)
    assert (found, answer["code"]) == (status, status)
    assert words in answer["message"]


def test_only_the_front_proxy_is_believed(decided: Decided):
    door = Door(decided)
    for names in (None, frozenset(), frozenset({"somebody"})):
        door.names = names
        assert door.metric("slicewise_desired_replicas", "name%3Dchat")[0] == 401
    door.names = frozenset({"front-proxy-client"})
    assert door.get(ROOT, **{"x-other": "1"})[0] == 401
    door.trust = None
    assert door.get(ROOT)[0] == 503
    assert door.asked == []


def test_the_caller_is_reviewed_with_its_groups_and_refused_without_a_role(decided: Decided):
    door = Door(decided)
    door.allowed = lambda user, _access: "readers" in user.groups
    path = f"{ROOT}/namespaces/n/slicewise_in_flight"
    assert door.get(path, **{"x-remote-user": "eve", "x-remote-group": "writers"})[0] == 403
    assert door.get(path, **{"x-remote-user": "ann", "x-remote-group": "readers"})[0] == 200
    access = Access("external.metrics.k8s.io", "v1beta1", "n", "slicewise_in_flight", "list")
    assert door.asked == [(User("eve", ("writers",)), access), (User("ann", ("readers",)), access)]


def test_what_cannot_be_reviewed_is_refused(decided: Decided):
    door = Door(decided)

    def unreachable(_user: User, _access: Access) -> bool:
        raise ApiUnreachable("connection reset")

    door.allowed = unreachable
    status, answer = door.metric("slicewise_in_flight")
    assert status == 503
    assert "connection reset" in answer["message"]


def test_several_groups_and_extras_are_read_by_the_headers_that_the_cluster_names():
    trust = read_trust({**CONFIG, "requestheader-group-headers": '["X-Team", "X-Remote-Group"]'})
    headers = [
        ("x-remote-user", "ann"),
        ("x-team", "red"),
        ("x-remote-group", "blue"),
        ("x-remote-extra-scopes", "a"),
        ("x-remote-extra-scopes", "b"),
    ]
    assert user_of(trust, headers) == User("ann", ("red", "blue"), (("scopes", ("a", "b")),))
    assert trust.admits({"front-proxy-client"})
    assert not trust.admits({"kube-apiserver"})
    anyone = read_trust({"requestheader-client-ca-file": PEM})
    assert anyone.admits({"whoever"})
    assert user_of(anyone, headers) == User("ann", ("blue",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"requestheader-client-ca-file": ""}, "got no certificate"),
        ({"requestheader-allowed-names": "front-proxy-client"}, "expected a JSON list of names"),
    ],
)
def test_a_config_map_that_names_nobody_to_trust_is_refused(change: dict[str, str], words: str):
    with pytest.raises(TrustRefused, match=words):
        read_trust({**CONFIG, **change})


def test_a_review_is_asked_once_in_ten_seconds():
    asked: list[dict[str, Any]] = []

    class Api:
        def post(self, _path: str, body: dict[str, Any]) -> bytes:
            asked.append(body["spec"])
            return b'{"status": {"allowed": true}}'

    now = [0.0]
    review = AccessReview(Api(), clock=lambda: now[0])
    access = Access("external.metrics.k8s.io", "v1beta1", "n", "slicewise_in_flight")
    for at in (0.0, 5.0, 9.9, 10.1):
        now[0] = at
        assert review.allows(User("ann", ("readers",)), access)
    assert len(asked) == 2
    assert asked[0]["groups"] == ["readers"]
    assert asked[0]["resourceAttributes"] == {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "namespace": "n",
        "resource": "slicewise_in_flight",
        "verb": "list",
    }
