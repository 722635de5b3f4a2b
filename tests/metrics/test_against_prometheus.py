"""Our queries and our quantiles on the real Prometheus.

The page that it has scraped is ``scraped_page``'s. Its own ``histogram_quantile`` is the reference for
``quantile_from_buckets``.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from autoscaler.answers import Answer
from autoscaler.questions import Need, questions
from metrics import dcgm
from metrics.histogram import add_buckets, buckets_by_pod, quantile_from_buckets, share_above
from metrics.parts import PART
from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, GENERIC, PRESETS, VLLM, Scope, generic
from metrics.servers.check import check
from metrics.servers.detect import detect, detection_query
from metrics.servers.means import means_query
from metrics.streams import STREAM_SOURCES, StreamLag
from scheduler.interference_learning import Standing, queries, samples
from tests.metrics.scraped_page import HISTOGRAM_PODS, STEP_SECONDS, Scraped
from tests.metrics.scraped_page import scraped as scraped

WINDOW_SECONDS = 120.0
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


@pytest.mark.parametrize("q", QUANTILES)
def test_quantiles_are_prometheus_own(scraped, q):
    buckets = "sum by (namespace, pod, le) (rate(random_seconds_bucket[120s]))"
    reference = scraped.buckets(f"histogram_quantile({q}, {buckets})")
    expected = {sample.labels["pod"]: sample.value for sample in reference.samples}
    ours = buckets_by_pod(scraped.buckets(buckets))
    assert len(ours) == HISTOGRAM_PODS
    compared = 0
    for (_, name), histogram in ours.items():
        value = quantile_from_buckets(histogram, q)
        if isinstance(value, NoData):
            assert name not in expected
            assert value.cause == "not-a-number"
        else:
            assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12), (name, histogram)
            compared += 1
    assert compared > HISTOGRAM_PODS / 2


@pytest.mark.parametrize("bound", [0.003, 0.1, 0.7])
def test_shares_above_a_bound_are_prometheus_own(scraped, bound):
    buckets = "sum by (namespace, pod, le) (rate(random_seconds_bucket[120s]))"
    within = scraped.pods(f"histogram_fraction(-Inf, {bound}, {buckets})")
    compared = 0
    for (_, name), histogram in buckets_by_pod(scraped.buckets(buckets)).items():
        counts = [0.0, *(count for _, count in sorted(histogram.items()))]
        if counts != sorted(counts):  # histogram_fraction, unlike histogram_quantile, does not mend these
            continue
        value = share_above(histogram, bound)
        if isinstance(value, NoData):
            assert value.cause in ("empty", "misconfigured")
        else:
            assert value == pytest.approx(1 - within[name], rel=1e-9, abs=1e-9), (name, histogram)
            compared += 1
    assert compared > HISTOGRAM_PODS / 3


def test_quantile_of_a_workload_is_prometheus_own(scraped):
    query = 'rate(random_seconds_bucket{pod=~"pod-0[012]"}[120s])'
    each = buckets_by_pod(scraped.buckets(f"sum by (namespace, pod, le) ({query})"))
    shared = set.intersection(*(set(histogram) for histogram in each.values()))
    bounds = "|".join("\\\\+Inf" if bound == math.inf else f"{bound:g}" for bound in sorted(shared))
    chosen = query.replace("}", f',le=~"{bounds}"}}')
    reference = scraped.buckets(f"histogram_quantile(0.5, sum by (le) ({chosen}))").find()
    assert quantile_from_buckets(add_buckets(each.values()), 0.5) == pytest.approx(reference)


def test_vllm_in_flight_is_running_plus_waiting_over_engines_without_double_count(scraped):
    assert scraped.pods(VLLM.in_flight_query()) == {"new": 11.0, "old": 4.0}


def test_vllm_pod_without_a_waiting_gauge_is_absent_not_undercounted(scraped):
    assert "half" in scraped.pods(VLLM.running_query())
    assert "half" not in scraped.pods(VLLM.in_flight_query())


def test_vllm_cache_usage_by_the_newest_name_a_pod_has(scraped):
    assert scraped.pods(VLLM.cache_usage_query()) == {"new": 0.25, "old": 0.5}


def test_vllm_request_rate_from_the_counter_else_from_the_histogram(scraped):
    rates = scraped.pods(VLLM.request_rate_query(WINDOW_SECONDS, Scope(matchers='namespace="shop"')))
    assert rates == {"new": pytest.approx(3.0), "old": pytest.approx(1.0)}


def test_vllm_buckets_of_old_and_new_names_do_not_mix(scraped):
    pods = buckets_by_pod(scraped.buckets(VLLM.latency_buckets_query("itl", WINDOW_SECONDS)))
    assert set(pods["shop", "new"]) == {0.1, math.inf}
    assert set(pods["shop", "old"]) == {0.2, math.inf}


@pytest.mark.parametrize("server", [name for name in PRESETS if name != "vllm"])
def test_every_server_s_in_flight_is_read_from_what_it_exports(scraped, server):
    pods = scraped.pods(PRESETS[server].in_flight_query(window_seconds=WINDOW_SECONDS))
    assert pods[server] == pytest.approx(6.0)


def test_a_ray_pod_without_a_queue_of_its_own_is_counted(scraped):
    assert scraped.pods(PRESETS["ray-serve"].in_flight_query())["ray-worker"] == 6.0


def test_a_ray_request_is_timed_with_its_queue_and_without_the_kubelet_s_probes(scraped):
    preset = PRESETS["ray-serve"]
    query = preset.latency_buckets_query("e2e", WINDOW_SECONDS)
    pods = buckets_by_pod(scraped.buckets(query), preset.latency["e2e"].unit)
    assert pods["serving", "ray-serve"][5.0] == pytest.approx(3.0)
    assert pods["serving", "ray-serve"][0.2] == pytest.approx(0.6)
    # A pod whose requests come through another pod's proxy knows its own part only.
    assert pods["serving", "ray-worker"][0.2] == pytest.approx(3.0)


@pytest.mark.parametrize(
    "server", ["triton", "mlserver", "bentoml", "torchserve", "tensorflow-serving", "istio"]
)
def test_every_counter_gives_the_request_rate(scraped, server):
    rates = scraped.pods(PRESETS[server].request_rate_query(WINDOW_SECONDS))
    assert rates[server] == pytest.approx(3.0)


def test_triton_states_its_own_p95_in_microseconds(scraped):
    assert scraped.pods(PRESETS["triton"].latency_summary_query("e2e")) == {"triton": 2.5e6}


def test_every_query_of_every_server_is_promql(scraped):
    for name, preset in PRESETS.items():
        queries = [preset.running_query(), preset.waiting_query(), preset.cache_usage_query()]
        queries += [preset.latency_buckets_query(m, 60.0) for m in ("e2e", "ttft", "itl")]
        queries += [means_query(preset, ("ttft",), 60.0)]
        for query in queries:
            if query is not None:
                answer = scraped.prometheus.query(query, scraped.at)
                assert not isinstance(answer, NoData) or answer.cause == "empty", (name, query, answer)


def test_servers_are_recognised_by_what_they_export(scraped):
    answer = scraped.prometheus.query(detection_query(), scraped.at)
    assert isinstance(answer, Vector)
    found = {pod: seen.server for (namespace, pod), seen in detect(answer).items() if namespace == "serving"}
    expected = {name: name for name in PRESETS if name not in ("vllm", "inference-gateway")}
    others = {"ray-worker": "ray-serve", "meshed": "vllm", "picker": "inference-gateway"}
    others["meshed-http"] = "generic"
    # Not among them: pods whose proxy reports only what they ask of others, or what passes through.
    assert found == expected | others
    assert detect(answer)["serving", "meshed"].others == ("istio",)


def test_the_check_tells_what_each_server_lacks(scraped):
    seen = check(scraped.prometheus, scraped.at)
    assert not isinstance(seen, NoData)
    by_server = {(one.namespace, one.server): one for one in seen}
    bento = {signal.name: signal for signal in by_server["serving", "bentoml"].signals}
    assert (bento["in flight"].total, bento["in flight"].finding) == (6.0, "")
    assert bento["e2e"].finding == "missing on 1 of 1 pods: no end-to-end latency term"
    vllm = {signal.name: signal for signal in by_server["shop", "vllm"].signals}
    assert by_server["shop", "vllm"].pods == ("half", "new", "old")
    assert vllm["in flight"].finding.startswith("missing on 1 of 3 pods")
    assert by_server["serving", "vllm"].others == ("istio",)


def means_of(scraped, server, measure, pod_name):
    query = means_query(PRESETS[server], (measure,), WINDOW_SECONDS)
    answer = scraped.prometheus.query(query, scraped.at)
    assert isinstance(answer, Vector), (query, answer)
    parts = {s.labels[PART]: s.value for s in answer.samples if s.labels["pod"] == pod_name}
    names = {part.rpartition(" ")[0] for part in parts}
    return {name: parts[f"{name} total"] / parts[f"{name} count"] for name in names}


@pytest.mark.parametrize(
    ("server", "pod_name", "known"),
    [
        ("vllm", "new-tokens", {"tokens in", "tokens out", "itl", "e2e"}),
        ("vllm", "old-tokens", {"tokens in", "tokens out", "itl"}),  # by the names of older releases
        ("sglang", "sglang-tokens", {"tokens in", "tokens out"}),
        ("tgi", "tgi-tokens", {"tokens in", "tokens out", "itl", "e2e"}),
        ("triton", "triton-tokens", {"tokens in", "tokens out"}),
    ],
)
def test_tokens_and_times_a_request_by_old_and_new_names(scraped, server, pod_name, known):
    expected = {"tokens in": 600.0, "tokens out": 150.0, "itl": 0.03, "e2e": 5.0}
    found = means_of(scraped, server, "e2e", pod_name)
    assert found == {name: pytest.approx(value) for name, value in expected.items() if name in known}


def test_without_a_histogram_the_time_in_the_server_tells_how_long_a_request_takes(scraped):
    assert means_of(scraped, "triton", "e2e", "triton") == {"e2e": pytest.approx(2.0)}
    assert means_of(scraped, "torchserve", "e2e", "torchserve") == {"e2e": pytest.approx(2.0)}


def test_a_few_buckets_are_selected_as_the_server_spells_them(scraped):
    query = VLLM.latency_buckets_query("e2e", WINDOW_SECONDS, bounds=("1.0", "+Inf"))
    assert set(buckets_by_pod(scraped.buckets(query))["shop", "old"]) == {1.0, math.inf}
    query = VLLM.latency_buckets_query("e2e", WINDOW_SECONDS, bounds=("+Inf",))
    assert set(buckets_by_pod(scraped.buckets(query))["shop", "old"]) == {math.inf}


def test_the_questions_of_all_servers_together_are_promql_and_keep_them_apart(scraped):
    needs = [
        Need(name, preset.tells_waiting_of_in_flight, (), (), (("e2e", 60.0),), True)
        for name, preset in PRESETS.items()
    ]
    asked = questions(needs, EVERYTHING)
    given = scraped.prometheus.query_many({name: one.text(()) for name, one in asked.items()}, scraped.at)
    for name, answer in given.items():
        assert isinstance(answer, Vector) or answer.cause == "empty", (name, answer)
    in_flight = Answer(asked["in flight"], given["in flight"], EVERYTHING)
    assert in_flight.by_pod("tgi")["serving", "tgi"] == 6.0
    assert ("serving", "tgi") not in in_flight.by_pod("vllm")
    assert sum(1 for one in asked.values() if not one.good_for_seconds) == 3


def test_generic_histogram_in_milliseconds(scraped):
    preset = generic(duration="took_ms", duration_unit="milliseconds", requests=None)
    query = preset.latency_buckets_query("e2e", WINDOW_SECONDS)
    pods = buckets_by_pod(scraped.buckets(query), preset.latency["e2e"].unit)
    assert set(pods["shop", "g"]) == {0.1, 0.5, math.inf}
    assert quantile_from_buckets(pods["shop", "g"], 0.95) == pytest.approx(0.095)


def test_matchers_narrow_every_query(scraped):
    answer = scraped.prometheus.query(VLLM.in_flight_query(Scope(matchers='namespace="other"')), scraped.at)
    assert isinstance(answer, NoData)
    assert answer.cause == "empty"


def test_dcgm_by_card_kind_label_form_and_sample_count(scraped):
    queries: dict[Any, str] = dict(dcgm.queries(WINDOW_SECONDS))
    answers = scraped.prometheus.query_many(queries, scraped.at)
    pods = dcgm.utilisation(answers["whole"], answers["mig"])
    assert isinstance(pods, dcgm.GpuUtilisation)
    two_gpus, mig = pods.pod("shop", "two-gpus"), pods.pod("shop", "mig")
    assert isinstance(two_gpus, dcgm.Utilisation)
    assert isinstance(mig, dcgm.Utilisation)
    assert two_gpus.ratio == pytest.approx(0.4)
    assert two_gpus.fields == (dcgm.GPU_UTIL,)
    assert mig.ratio == pytest.approx(0.5)
    assert mig.fields == (dcgm.GR_ENGINE_ACTIVE,)
    assert isinstance(pods.pod("shop", "once"), NoData)


def test_what_interference_is_learned_from_is_asked_in_valid_promql(scraped):
    answers = scraped.prometheus.query_many(queries(presets=(VLLM, GENERIC)), scraped.at)
    assert {name for name, answer in answers.items() if isinstance(answer, NoData)} <= {
        "generic load",
        "generic latency",
    }
    assert all(answer.cause == "empty" for answer in answers.values() if isinstance(answer, NoData))
    activity = dcgm.sm_activity(answers["sm activity"])
    assert activity == {("shop", "two-gpus"): pytest.approx(0.4), ("shop", "mig"): pytest.approx(0.9)}
    found = [
        Standing(("shop", name), name, "memory", {("gpu", "memory"): 1.0}, False)
        for name in ("new", "old", "mig", "nobody")
    ]
    seen = {sample.workload: (sample.latency_seconds, sample.load) for sample in samples(found, answers)}
    assert seen == {
        "new latency": (pytest.approx(0.05), 11.0),
        "old latency": (pytest.approx(0.1), 4.0),
        "mig activity": (pytest.approx(1 / 0.9), 0.0),
    }


def test_a_wrong_query_is_refused_in_prometheus_words(scraped):
    answer = scraped.prometheus.query("sum((", scraped.at)
    assert isinstance(answer, NoData)
    assert answer.cause == "refused"
    assert "parse error" in answer.reason


def test_a_range_of_the_real_thing(scraped):
    answer = scraped.prometheus.query_range(
        'vllm:num_requests_running{pod="old"}', scraped.at - 60, scraped.at, STEP_SECONDS
    )
    assert not isinstance(answer, NoData)
    assert [value for _, value in answer[0].points] == [4.0] * 5


def test_division_by_zero_is_not_a_number(scraped):
    answer = scraped.prometheus.query("vector(0) / vector(0)", scraped.at)
    assert isinstance(answer, Vector)
    assert answer.samples == ()
    assert len(answer.nan_labels) == 1


@pytest.mark.parametrize("name", STREAM_SOURCES)
def test_lag_rates_and_partitions_of_a_group_come_in_one_answer(scraped: Scraped, name: str):
    source = STREAM_SOURCES[name]
    answer = scraped.prometheus.query(source.query(), scraped.at)
    assert isinstance(answer, Vector), answer
    found = source.read(answer, "orders", None)
    assert isinstance(found, StreamLag)
    assert (found.messages, found.partitions) == (80.0, 2)
    assert found.consumed == pytest.approx(20.0)
    assert found.produced == pytest.approx(24.0)
    assert isinstance(source.read(answer, "others", None), NoData)
