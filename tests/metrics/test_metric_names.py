"""Names follow the Prometheus conventions; the exposition shows what names.py promises, from the first scrape
on.
"""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics import names
from metrics.exposition import Exposition

GROUPS = (
    "extender",
    "fleet",
    "prices",
    "watches",
    "policy",
    "leader",
    "planner",
    "repack",
    "device_order",
    "batch",
    "doors",
    "node_advice",
    "warm",
    "node",
    "autoscaler",
    "sources",
)


def exposition_with_everything():
    exposition = Exposition("test", "1.2.3", "abc")
    for group in GROUPS:
        getattr(exposition, group)
    return exposition


def families(exposition):
    page, _ = exposition.render()
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def value(exposition, sample, **labels):
    return exposition.registry.get_sample_value(sample, labels)


@pytest.mark.parametrize("metric", names.ALL, ids=lambda metric: metric.name)
def test_name_follows_the_conventions(metric):
    assert re.fullmatch(r"slicewise_[a-z][a-z0-9_]*[a-z0-9]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"milli|micro|_ms$|_us$|percent|_gb\b|_mib\b", metric.name)
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
        assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help.endswith(".")


@pytest.mark.parametrize("metric", names.ALL, ids=lambda metric: metric.name)
def test_no_label_has_one_value_a_pod(metric):
    assert not {"pod", "uid", "pod_uid", "container", "node", "instance"} & set(metric.labels)
    assert all(len(values) == len(metric.labels) for values in metric.initial)


def test_names_are_unique():
    assert len(names.BY_NAME) == len(names.ALL) > 30


def test_every_name_is_exposed_and_nothing_else_with_our_prefix():
    shown = families(exposition_with_everything())
    ours = {name for name in shown if name.startswith(names.PREFIX)}
    assert ours == {metric.name.removesuffix("_total") for metric in names.ALL}


def test_help_on_the_page_is_the_help_of_the_name():
    shown = families(exposition_with_everything())
    for metric in names.ALL:
        assert shown[metric.name.removesuffix("_total")].documentation == metric.help


def test_known_label_sets_start_at_zero():
    exposition = exposition_with_everything()
    assert value(exposition, "slicewise_planner_nominations_total", outcome="refused") == 0
    assert value(exposition, "slicewise_extender_decisions_total", verb="filter", reason="no_node_left") == 0
    assert (
        value(exposition, "slicewise_extender_request_duration_seconds_count", verb="bind", code="200") == 0
    )
    assert value(exposition, "slicewise_extender_unknown_nodes_total") == 0


def test_an_age_is_not_a_number_before_it_is_known():
    exposition = exposition_with_everything()
    age = value(exposition, "slicewise_fleet_snapshot_age_seconds")
    assert age is not None
    assert age != age


def test_a_live_age_is_read_when_scraped():
    exposition = Exposition("test", "1")
    now = [100.0]
    exposition.fleet.snapshot_age_seconds.set_function(lambda: now[0] - 90.0)
    now[0] = 130.0
    assert value(exposition, "slicewise_fleet_snapshot_age_seconds") == 40.0


def test_a_process_shows_only_the_rooms_it_has():
    exposition = Exposition("scheduler", "1")
    exposition.extender  # noqa: B018
    shown = families(exposition)
    assert "slicewise_extender_decisions" in shown
    assert not [name for name in shown if name.startswith("slicewise_autoscaler")]


def test_a_group_is_made_once():
    exposition = Exposition("test", "1")
    assert exposition.planner is exposition.planner


def test_two_expositions_in_one_process_do_not_meet():
    one, other = Exposition("a", "1"), Exposition("b", "1")
    one.extender.unknown_nodes.inc(3)
    assert value(other, "slicewise_extender_unknown_nodes_total") is None
    other.extender.unknown_nodes.inc()
    assert value(one, "slicewise_extender_unknown_nodes_total") == 3


def test_build_info_says_which_build_runs():
    exposition = Exposition("scheduler", "1.2.3", "abc")
    labels = {"component": "scheduler", "version": "1.2.3", "revision": "abc"}
    assert value(exposition, "slicewise_build_info", **labels) == 1


def test_an_adopted_workload_counts_from_zero_and_a_forgotten_one_leaves_nothing():
    exposition = Exposition("controller", "1")
    autoscaler = exposition.autoscaler
    key = ("shop", "Deployment", "llm")
    for _ in range(2):  # a policy may come back
        autoscaler.adopt(*key)
        workload = dict(zip(("namespace", "kind", "name"), key, strict=True))
        errors = "slicewise_autoscaler_target_errors_total"
        assert value(exposition, errors, **workload, reason="not_found") == 0
        assert value(exposition, "slicewise_autoscaler_desired_replicas", **workload) is None
        for _ in range(3):
            autoscaler.decision(key, current=2, desired=4, reason="Steady", available={"in_flight": True})
        assert value(exposition, "slicewise_autoscaler_desired_replicas", **workload) == 4
        assert value(exposition, "slicewise_autoscaler_decisions_total", **workload, reason="Steady") == 3
        available = "slicewise_autoscaler_signal_available"
        assert value(exposition, available, **workload, signal="in_flight") == 1
        assert value(exposition, available, **workload, signal="latency") == 0
        autoscaler.forget(*key)
        assert b'name="llm"' not in exposition.render()[0]


def test_policy_refusal_keeps_the_time_of_the_last_success():
    exposition = Exposition("test", "1")
    exposition.policy.accepted("cluster", 1000.0)
    exposition.policy.refused("cluster")
    assert value(exposition, "slicewise_policy_last_load_successful", policy="cluster") == 0
    assert value(exposition, "slicewise_policy_last_success_timestamp_seconds", policy="cluster") == 1000.0
    assert value(exposition, "slicewise_policy_loads_total", policy="cluster", result="refused") == 1


def test_watch_and_lease_labels_start_at_zero_when_adopted():
    exposition = Exposition("test", "1")
    exposition.watches.adopt("nodes", ["gone", "timeout"])
    exposition.leader.adopt("slicewise-controller")
    assert value(exposition, "slicewise_watch_restarts_total", resource="nodes", reason="gone") == 0
    assert value(exposition, "slicewise_watch_synced", resource="nodes") == 0
    assert value(exposition, "slicewise_leader", lease="slicewise-controller") == 0


def test_render_follows_the_scraper_s_accept_header():
    exposition = exposition_with_everything()
    assert exposition.render()[1].startswith("text/plain")
    page, content_type = exposition.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
