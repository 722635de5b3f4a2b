"""Which PodDisruptionBudgets a pod falls under, and what the policy says about moving pods."""

from __future__ import annotations

import msgspec
import pytest

from cluster.disruption import Budgets, PodDisruptionBudget
from cluster.policy import PolicyRefused, load_cluster_policy

HEADER = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"


def budget(name, selector, allowed=1, namespace="ml"):
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": selector} if selector is not None else {},
            "status": {"disruptionsAllowed": allowed},
        },
        PodDisruptionBudget,
    )


@pytest.mark.parametrize(
    ("selector", "labels", "under"),
    [
        ({"matchLabels": {"app": "x"}}, {"app": "x", "tier": "a"}, True),
        ({"matchLabels": {"app": "x"}}, {"app": "y"}, False),
        ({}, {"app": "y"}, True),
        (None, {"app": "y"}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]}, {"app": "y"}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}, {}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, {}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Strange"}]}, {"app": "x"}, False),
    ],
)
def test_a_selector_selects_as_the_api_server_s(selector, labels, under):
    budgets = Budgets([budget("b", selector)])
    assert bool(budgets.of("ml", labels)) is under
    assert budgets.of("elsewhere", labels) == ()


def test_budgets_follow_the_watch():
    budgets = Budgets([budget("b", {}, allowed=2)])
    assert budgets.allowed() == {("ml", "b"): 2}
    budgets.changed("MODIFIED", budget("b", {}, allowed=-1))
    assert budgets.allowed() == {("ml", "b"): 0}
    budgets.changed("ADDED", budget("c", {}))
    assert budgets.of("ml", {}) == (("ml", "b"), ("ml", "c"))
    budgets.changed("DELETED", budget("b", {}))
    assert budgets.of("ml", {}) == (("ml", "c"),)
    budgets.replaced([])
    assert budgets.of("ml", {}) == ()


def test_nothing_is_moved_or_cut_until_the_policy_says_on():
    policy = load_cluster_policy(HEADER, "test")
    assert policy.repack.mode == policy.mig_geometry.mode == "dry-run"
    assert not policy.repack.preempt_claims


@pytest.mark.parametrize("written", ["on", "true"])
def test_on_may_have_been_turned_into_true_by_a_template_engine(written):
    policy = load_cluster_policy(f"{HEADER}repack: {{mode: {written}}}\n", "test")
    assert policy.repack.mode == "on"
    assert load_cluster_policy(f"{HEADER}repack: {{mode: false}}\n", "test").repack.mode == "off"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("repack: {mode: sometimes}", "repack.mode"),
        ("repack: {maxConcurrent: 0}", "repack.maxConcurrent"),
        ("migGeometry: {configs: [{name: a}, {name: a}]}", "migGeometry.configs"),
        ("migGeometry: {configs: [{name: a, devices: {1g.10gb: 0}}]}", "migGeometry.configs"),
        ("migGeometry: {minGain: 1.5}", "migGeometry.minGain"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_path(text, path):
    with pytest.raises(PolicyRefused, match=path):
        load_cluster_policy(f"{HEADER}{text}\n", "test")
