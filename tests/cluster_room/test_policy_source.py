"""Which policy is in force after edits good and bad, deletions and conflicts."""

from __future__ import annotations

import pytest
from kubernetes.client.configuration import Configuration

from cluster.client import Api
from cluster.policy import ClusterPolicy, PolicyRefused, Problem
from cluster.policy_source import AutoscalingPolicySource, PolicySource
from cluster.wire import ConfigMap, ObjectMeta, ObjectReference


class Notes:
    """Stands for the event recorder."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []

    def record(self, regarding: ObjectReference, reason: str, note: str, type: str, action: str) -> None:  # noqa: A002
        self.said.append((regarding.name, reason, type, note))

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _, _ in self.said]


@pytest.fixture
def api() -> Api:
    return Api(lambda: Configuration(host="http://127.0.0.1:9"))


def config_map(
    text: str | None, name: str = "slicewise-policy", created: str = "2026-01-01T00:00:00Z"
) -> ConfigMap:
    data = {} if text is None else {"policy.yaml": text}
    return ConfigMap(ObjectMeta(name=name, namespace="ns", creation_timestamp=created), data)


GOOD = "prices: {gpuHour: 3.0}"
BETTER = "prices: {gpuHour: 4.0}"
BAD = "prices: {gpuHour: -3.0}"


def test_an_edit_takes_effect_and_a_bad_one_keeps_the_last_good(api: Api):
    notes = Notes()
    loaded: list[float] = []
    refused: list[str] = []
    source = PolicySource(
        api,
        "ns",
        recorder=notes,  # type: ignore[arg-type]
        on_loaded=lambda policy: loaded.append(policy.prices.gpu_hour),
        on_refused=lambda refusal: refused.append(str(refusal)),
        clock=lambda: 1000.0,
    )
    assert not source.ready.is_set()
    source.replaced([config_map(GOOD)])
    assert source.ready.is_set()
    source.changed("MODIFIED", config_map(BETTER))
    source.changed("MODIFIED", config_map(BAD))

    assert source.current.prices.gpu_hour == 4.0
    assert (source.generation, source.loads, source.refusals) == (2, 2, 1)
    assert source.loaded_at_seconds == 1000.0
    assert loaded == [3.0, 4.0]
    assert "prices.gpuHour (line 1): got -3.0" in refused[0]
    assert source.last_refusal is not None
    name, reason, kind, note = notes.said[-1]
    assert (name, reason, kind) == ("slicewise-policy", "PolicyRefused", "Warning")
    assert note.startswith(
        "the last good policy stays in force; ConfigMap ns/slicewise-policy key policy.yaml"
    )

    source.changed("MODIFIED", config_map(GOOD))
    assert source.last_refusal is None
    assert source.current.prices.gpu_hour == 3.0


def test_the_same_text_again_is_no_news(api: Api):
    notes = Notes()
    source = PolicySource(api, "ns", recorder=notes)  # type: ignore[arg-type]
    for _ in range(3):
        source.replaced([config_map(BAD)])
    assert notes.reasons == ["PolicyRefused"]
    assert source.refusals == 1


def test_a_policy_that_is_bad_from_the_beginning_leaves_the_gate_closed(api: Api):
    source = PolicySource(api, "ns")
    source.replaced([config_map(BAD)])
    assert not source.ready.is_set()
    assert source.current == ClusterPolicy()
    source.changed("MODIFIED", config_map(GOOD))
    assert source.ready.is_set()


def test_an_absent_policy_means_the_defaults(api: Api):
    source = PolicySource(api, "ns")
    source.replaced([])
    assert source.ready.is_set()
    assert source.missing
    assert source.current == ClusterPolicy()


def test_a_deleted_policy_stays_in_force_and_says_so_once(api: Api):
    notes = Notes()
    source = PolicySource(api, "ns", recorder=notes)  # type: ignore[arg-type]
    source.replaced([config_map(GOOD)])
    source.changed("DELETED", config_map(GOOD))
    source.replaced([])
    assert source.missing
    assert source.current.prices.gpu_hour == 3.0
    assert notes.reasons == ["PolicyLoaded", "PolicyMissing"]
    source.changed("ADDED", config_map(GOOD))
    assert not source.missing
    assert notes.reasons[-1] == "PolicyLoaded"


def test_a_config_map_without_the_key_is_refused_with_the_keys_that_it_has(api: Api):
    source = PolicySource(api, "ns")
    source.replaced([ConfigMap(ObjectMeta(name="slicewise-policy", namespace="ns"), {"policy.yml": GOOD})])
    assert "keys: policy.yml" in str(source.last_refusal)


def test_a_policy_that_the_caller_cannot_carry_out_is_refused_like_any_other(api: Api):
    def check(policy: ClusterPolicy, where: str) -> None:
        if policy.prices.gpu_hour > 3.5:
            raise PolicyRefused(where, [Problem("prices.gpuHour", "4.0", "less", "lower it")])

    source = PolicySource(api, "ns", check=check)
    source.replaced([config_map(GOOD)])
    source.changed("MODIFIED", config_map(BETTER))
    assert source.current.prices.gpu_hour == 3.0
    assert source.refusals == 1


def scaling(target: str, most: int = 5) -> str:
    return f"target: {{name: {target}}}\nmaxReplicas: {most}\ninFlight: {{perReplica: 16}}"


def test_autoscaling_policies_come_change_stay_when_bad_and_go(api: Api):
    seen: list[int] = []
    source = AutoscalingPolicySource(api, on_changed=lambda policies: seen.append(len(policies)))
    source.replaced([config_map(scaling("a"), "a"), config_map(scaling("b"), "b")])
    assert set(source.policies) == {("ns", "a"), ("ns", "b")}

    source.changed("MODIFIED", config_map(scaling("a", most=9), "a"))
    source.changed("MODIFIED", config_map("target: 3", "b"))
    assert source.policies[("ns", "a")].max_replicas == 9
    assert source.policies[("ns", "b")].max_replicas == 5
    assert set(source.refused) == {("ns", "b")}

    source.changed("DELETED", config_map(scaling("b"), "b"))
    assert set(source.policies) == {("ns", "a")}
    source.replaced([])
    assert source.policies == {}
    assert source.refused == {}
    assert seen == [2, 2, 1, 0]


def test_of_two_policies_for_one_target_the_older_rules_until_it_goes(api: Api):
    notes = Notes()
    source = AutoscalingPolicySource(api, recorder=notes)  # type: ignore[arg-type]
    young = config_map(scaling("llm", most=3), "a-young", created="2026-02-01T00:00:00Z")
    old = config_map(scaling("llm", most=7), "z-old", created="2026-01-01T00:00:00Z")
    source.replaced([young, old])

    assert {policy.max_replicas for policy in source.policies.values()} == {7}
    assert source.conflicts == {("ns", "a-young"): ("ns", "z-old")}
    assert notes.reasons.count("PolicyConflict") == 1
    source.changed("MODIFIED", old)
    assert notes.reasons.count("PolicyConflict") == 1

    source.changed("DELETED", old)
    assert {policy.max_replicas for policy in source.policies.values()} == {3}
    assert source.conflicts == {}
