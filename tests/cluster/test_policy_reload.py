"""An edit of the policy ConfigMap on a real cluster: in force when the watch tells it, a bad one refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.client import Api, connect
from cluster.events import EventRecorder
from cluster.policy import load_cluster_policy
from cluster.policy_source import AutoscalingPolicySource, PolicySource
from cluster.wire import Event
from deploy.local.control_plane import ControlPlane
from tests.polling import SOON_SECONDS, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    api = connect(str(control_plane.kubeconfig))
    yield api
    api.close()


@pytest.fixture
def recorder(api: Api) -> Iterator[EventRecorder]:
    recorder = EventRecorder(api, "slicewise.io/test")
    recorder.start()
    yield recorder
    recorder.stop()


def write(api: Api, namespace: str, name: str, text: str, labels: dict[str, str] | None = None) -> None:
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": {"policy.yaml": text},
    }
    path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
    api.patch(path, body, "application/apply-patch+yaml", {"fieldManager": "test", "force": True})


def events(api: Api, namespace: str) -> dict[str, str]:
    found = api.list_objects(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", Event)
    return {event.reason: event.note for event in found if event.regarding.kind == "ConfigMap"}


def test_an_edit_takes_effect_by_the_watch_and_a_bad_one_keeps_the_last_good(
    api: Api, namespace: str, recorder: EventRecorder
) -> None:
    write(api, namespace, "slicewise-policy", "prices: {gpuHour: 3.0}")
    source = PolicySource(api, namespace, recorder=recorder)
    source.start()
    try:
        assert source.ready.wait(SOON_SECONDS)
        assert source.current.prices.gpu_hour == 3.0

        write(api, namespace, "slicewise-policy", "prices: {gpuHour: 4.0}")
        until(lambda: source.current.prices.gpu_hour == 4.0, 10, "the edit in force")
        assert source.reflector.lists == 1, "told by the watch, not by looking again"

        write(api, namespace, "slicewise-policy", "prices: {gpuHour: -1, gpuHours: 2}")
        until(lambda: source.refusals == 1, 10, "the bad edit refused")
        assert source.current.prices.gpu_hour == 4.0
        until(lambda: "PolicyRefused" in events(api, namespace), 10, "an Event")
        note = events(api, namespace)["PolicyRefused"]
        assert "prices.gpuHour (line 1): got -1, expected a number of at least 0" in note
        assert "unknown key 'gpuHours'" in note

        api.delete(f"/api/v1/namespaces/{namespace}/configmaps/slicewise-policy")
        until(lambda: source.missing, 10, "the policy missed")
        assert source.current.prices.gpu_hour == 4.0
        until(lambda: "PolicyMissing" in events(api, namespace), 10, "an Event")

        write(api, namespace, "slicewise-policy", "prices: {gpuHour: 5.0}")
        until(lambda: source.current.prices.gpu_hour == 5.0, 10, "the new one in force")
    finally:
        source.stop()


def test_a_scheduler_may_watch_the_policy_with_the_rights_that_it_has(
    control_plane: ControlPlane, api: Api
) -> None:
    restricted = connect(str(control_plane.kubeconfig_for("slicewise-scheduler")))
    write(api, "slicewise-system", "slicewise-policy-test", "currency: EUR")
    source = PolicySource(restricted, "slicewise-system", "slicewise-policy-test")
    source.start()
    try:
        assert source.ready.wait(SOON_SECONDS), source.reflector.last_error
        assert source.current == load_cluster_policy("currency: EUR", "")
    finally:
        source.stop()
        restricted.close()
        api.delete("/api/v1/namespaces/slicewise-system/configmaps/slicewise-policy-test")


def test_autoscaling_policies_of_any_namespace_are_found_by_their_label(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    restricted = connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    source = AutoscalingPolicySource(restricted)
    source.start()
    label = {"slicewise.io/policy": "autoscaling"}
    text = "target: {name: llm}\nmaxReplicas: 4\ninFlight: {perReplica: 8}"
    key = (namespace, "llm-scaling")
    try:
        write(api, namespace, "unlabelled", text)
        write(api, namespace, "llm-scaling", text, label)
        until(lambda: key in source.policies, 10, "the labelled one known")
        assert (namespace, "unlabelled") not in source.policies

        write(api, namespace, "llm-scaling", "target: {name: llm}", label)
        until(lambda: key in source.refused, 10, "its bad edit refused")
        assert source.policies[key].max_replicas == 4

        path = f"/api/v1/namespaces/{namespace}/configmaps/llm-scaling"
        api.patch(path, {"metadata": {"labels": {"slicewise.io/policy": None}}})
        until(lambda: key not in source.policies, 10, "it is forgotten")
    finally:
        source.stop()
        restricted.close()
