"""Presets: which names mean what, and queries that cover all workloads at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from metrics.servers import (
    GENERIC,
    PRESETS,
    VLLM,
    Scope,
    UnknownServer,
    find_preset,
    generic,
    promql_duration,
)
from metrics.servers.detect import detection_query

# Queries are optional in the type; a None where a query is due fails the test by itself.
vllm: Any = VLLM
SCOPE = Scope(matchers='cluster="eu"')


def all_queries(preset, scope):
    queries = [
        preset.in_flight_query(scope),
        preset.running_query(scope),
        preset.waiting_query(scope),
        preset.cache_usage_query(scope),
        preset.request_rate_query(60, scope),
        *(preset.latency_buckets_query(measure, 60, scope) for measure in ("e2e", "ttft", "itl")),
    ]
    return [query for query in queries if query is not None]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_queries_group_by_pod_and_name_no_workload(preset):
    for query in all_queries(preset, SCOPE):
        assert "by (namespace, pod" in query
        assert query.count('cluster="eu"') == query.count("{")
        assert preset.in_flight or preset.in_flight_where_told or preset.busy_time


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_what_waits_is_taken_for_a_part_of_in_flight_only_where_running_is_the_rest(preset):
    counted = {*preset.in_flight_where_told, *(name for names in preset.in_flight for name in names)}
    parts = {*preset.running, *preset.waiting}
    assert preset.tells_waiting_of_in_flight == (counted == parts and bool(preset.running))


def test_marks_are_series_that_the_preset_s_matchers_select():
    query = detection_query(SCOPE)
    assert query.startswith("count by (namespace, pod, __name__) (")
    plain, door = query.split(" or ")
    assert door.count('__name__=~"istio_requests_total", reporter="destination", cluster="eu"') == 1
    assert "istio" not in plain
    assert 'cluster="eu"' in plain
    assert {name for preset in PRESETS.values() for name in preset.signature} == {
        name for part in (plain, door) for name in part.split('__name__=~"')[1].split('"')[0].split("|")
    }


def test_presets_match_labels_by_equality_alone():
    """What a single page is read by (``metrics.servers.page``) knows no other."""
    for preset in PRESETS.values():
        assert re.fullmatch(r'(\w+="[^",]*"(, )?)*', preset.matchers)


def test_what_sees_only_the_door_is_recognised_last():
    doors = [preset.only_the_door for preset in PRESETS.values()]
    assert doors == sorted(doors)
    assert any(doors)


def test_vllm_in_flight_adds_running_and_waiting_only():
    query = VLLM.in_flight_query()
    assert query.count("vllm:num_requests_running") == 1
    assert query.count("vllm:num_requests_waiting") == 1
    assert "by_reason" not in query
    assert "=~" not in query


def test_vllm_knows_old_and_new_names():
    assert "vllm:kv_cache_usage_perc" in vllm.cache_usage_query()
    assert "vllm:gpu_cache_usage_perc" in vllm.cache_usage_query()
    buckets = vllm.latency_buckets_query("itl", 60)
    assert "vllm:inter_token_latency_seconds_bucket[60s]" in buckets
    assert "vllm:time_per_output_token_seconds_bucket[60s]" in buckets


def test_generic_has_no_time_to_first_token():
    assert GENERIC.latency_buckets_query("ttft", 60) is None


def test_generic_takes_the_user_s_names_units_and_matchers():
    preset = generic(
        in_flight="active",
        duration="took_ms",
        duration_unit="milliseconds",
        requests=None,
        matchers='job="x"',
    )
    assert preset.in_flight_query() == '(sum by (namespace, pod) (active{job="x"}))'
    assert preset.request_rate_query(30) == 'sum by (namespace, pod) (rate(took_ms_count{job="x"}[30s]))'
    assert preset.latency["e2e"].unit == "milliseconds"


def test_other_labels_may_name_the_pod():
    scope = Scope(namespace_label="kubernetes_namespace", pod_label="kubernetes_pod_name")
    assert "by (kubernetes_namespace, kubernetes_pod_name)" in VLLM.in_flight_query(scope)


@pytest.mark.parametrize("argument", ["in_flight", "duration", "requests"])
def test_generic_refuses_what_is_no_metric_name(argument):
    arguments: Any = {argument: "rate(x[5m])"}
    with pytest.raises(ValueError, match=argument):
        generic(**arguments)


def test_an_unknown_server_is_refused_with_the_known_ones():
    assert find_preset("vllm") is VLLM
    with pytest.raises(UnknownServer, match=r"got 'vlm', expected one of bentoml, .*, vllm"):
        find_preset("vlm")


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "60s"), (0.25, "250ms"), (1.5, "1500ms"), (3600, "3600s")]
)
def test_durations_are_promql(seconds, text):
    assert promql_duration(seconds) == text


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="window"):
        promql_duration(0)
