"""The pages that the benchmark's exporter serves are those of real servers, as far as anybody reads them."""

from __future__ import annotations

from collections import Counter

from benchmarks.control_round import policy_of
from benchmarks.model_server_exporter import SERVERS, Pages, load_of, model_pods
from cluster.policy import load_autoscaling_policy
from metrics.samples import NoData
from metrics.servers import PRESETS
from metrics.servers.page import load_on_page, readable, recognise

NOW = 1_800_000_000.0


def test_every_workload_has_a_pod_and_every_server_a_workload():
    pods = model_pods(100, 400)
    assert [pod.number for pod in pods] == list(range(400))
    assert {pod.workload for pod in pods} == set(range(100))
    assert {pod.server for pod in pods} == set(SERVERS)
    assert all(len(servers) == 1 for servers in _servers_by_workload(pods).values())
    assert len(set(Counter(pod.workload for pod in pods).values())) > 1


def _servers_by_workload(pods):
    found = {}
    for pod in pods:
        found.setdefault(pod.workload, set()).add(pod.server)
    return found


def test_a_pod_s_page_shows_its_server_and_its_load():
    pods = model_pods(12, 48)
    pages = Pages(pods, NOW - 3600.0)
    for pod in pods:
        page = pages.pod(pod.number, NOW).encode()
        assert recognise(page) is PRESETS[pod.server]
        load = load_on_page(PRESETS[pod.server], page)
        if readable(PRESETS[pod.server]):
            assert not isinstance(load, NoData)
            assert abs(load.in_flight - load_of(pod.workload, NOW)) <= 1.0


def test_the_shards_hold_every_series_once():
    pods = model_pods(12, 48)
    pages = Pages(pods, NOW - 3600.0)
    lines = [line for shard in range(5) for line in pages.shard(shard, 5, NOW).splitlines()]
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names)) == pages.series


def test_counters_grow():
    pages = Pages(model_pods(1, 1), NOW - 3600.0)

    def served(now: float) -> float:
        page = pages.pod(0, now).splitlines()
        return float(next(line for line in page if "request_success_total" in line).rpartition(" ")[2])

    assert served(NOW + 15.0) > served(NOW)


def test_the_policies_are_ones_that_the_controller_takes():
    for workload in range(20):
        text = policy_of(workload)["data"]["policy.yaml"]
        assert load_autoscaling_policy(text, "benchmark").server == "auto"
