"""What is kept about more workloads than one ConfigMap holds, on a real API server with its limit of 1 MiB,
written by the controller's own account: what was learned, the page of the workloads, batch, the forecast.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler import workload_page
from autoscaler.batch import memory as batch_memory
from autoscaler.batch.durations import Durations
from autoscaler.learned_store import CONFIG_MAP, KEY, LearnedStore
from autoscaler.targets import Target
from autoscaler.workload_page import Row, WorkloadPage, page_of
from cluster.api_errors import ApiRefused
from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap
from cluster.numbered_maps import look, map_names
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS
from kubectl_slicewise.workloads import run
from scheduler.packing.forecast import FORECAST_CONFIG_MAP, Forecast, read_forecasts, write_forecasts
from tests.autoscaler.full_memory import full_memory

pytestmark = pytest.mark.cluster

NAMESPACE = "slicewise-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


def workloads(number: int) -> list[Target]:
    return [Target("apps/v1", "Deployment", "n" * 30, f"{'model-' * 5}{index}") for index in range(number)]


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    spread = (CONFIG_MAP, workload_page.CONFIG_MAP, batch_memory.CONFIG_MAP)
    names = [FORECAST_CONFIG_MAP, *(one for name in spread for one in map_names(name))]

    def clear() -> None:
        for name in names:
            control_plane.request("DELETE", f"{PATH}/{name}", accepted=SUCCESS | {404})

    clear()
    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    yield api
    api.close()
    clear()


def kept(cluster: ControlPlane, name: str = CONFIG_MAP) -> dict[str, Any]:
    """The ConfigMaps of that name that exist, by name."""
    found = cluster.request("GET", PATH)["items"]
    return {one["metadata"]["name"]: one for one in found if one["metadata"]["name"] in map_names(name)}


def versions(cluster: ControlPlane) -> dict[str, str]:
    return {name: one["metadata"]["resourceVersion"] for name, one in kept(cluster).items()}


def test_one_config_map_is_refused_above_its_limit(api: Api):
    """What all of this is for; should the limit ever rise, there is less to do."""
    learned = full_memory()
    texts = {f"{one.api_version} {one}": learned for one in workloads(1500)}
    with pytest.raises(ApiRefused, match="Too long"):
        KeptMap(api, NAMESPACE, CONFIG_MAP).write({KEY: json.dumps(texts)})


def test_a_memory_of_one_config_map_grows_over_the_limit_and_comes_back_whole(
    control_plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
):
    learned = full_memory()
    before = {f"{one.api_version} {one}": learned for one in workloads(1000)}
    KeptMap(api, NAMESPACE, CONFIG_MAP).write({KEY: json.dumps(before)})

    now = [0.0]
    store = LearnedStore(api, NAMESPACE, clock=lambda: now[0])
    assert store.begin(workloads(1000)) == workloads(1000)
    assert {store.text_of(one) for one in workloads(1000)} == {learned}
    every = workloads(10_000)
    store.keep(every, lambda _: learned)
    assert len(kept(control_plane)) == len(map_names(CONFIG_MAP))
    assert sum(len(json.loads(one["data"][KEY])) for one in kept(control_plane).values()) == len(every)

    again = LearnedStore(api, NAMESPACE, clock=lambda: now[0])
    assert again.begin(every) == every
    assert {again.text_of(one) for one in every} == {learned}

    first, *others = every
    told: set[Target] = set()

    def news(one: Target) -> str:
        told.add(one)
        return "news" if one is first else learned

    written = versions(control_plane)
    for _ in range(len(written)):  # each has had its turn by then
        again.keep(every, news)
        now[0] += 60.0
    assert told == set(every)
    assert len(set(versions(control_plane).items()) - set(written.items())) == 1, "only what has news"
    last = LearnedStore(api, NAMESPACE, clock=lambda: now[0])
    last.begin([])
    assert (last.text_of(first), last.text_of(others[-1])) == ("news", learned)

    for _ in range(2 * len(written)):
        last.keep(workloads(100), lambda _: learned)
        now[0] += 60.0
    assert list(kept(control_plane)) == [CONFIG_MAP]
    assert caplog.text == ""


def test_a_part_that_is_gone_costs_the_memory_of_its_workloads_alone(
    control_plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
):
    every, learned = workloads(3000), full_memory()
    store = LearnedStore(api, NAMESPACE)
    store.begin(every)
    store.keep(every, lambda _: learned)
    parts = kept(control_plane)
    gone = f"{CONFIG_MAP}-1"
    lost = json.loads(parts[gone]["data"][KEY])
    control_plane.request("DELETE", f"{PATH}/{gone}")
    again = LearnedStore(api, NAMESPACE)
    assert again.begin(every) == every
    assert {f"{one.api_version} {one}" for one in every if not again.text_of(one)} == lost.keys()
    assert f"ConfigMap {NAMESPACE}/{gone}: it is gone" in caplog.text
    again.keep(every, lambda _: learned)
    assert kept(control_plane).keys() == parts.keys()


def test_the_page_of_ten_thousand_workloads_is_printed_whole_and_what_is_missing_is_told(
    control_plane: ControlPlane,
    api: Api,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
):
    def printed() -> tuple[list[str], str]:
        """The names that ``kubectl slicewise workloads`` prints, and its notes."""
        kubeconfig = str(control_plane.kubeconfig)
        asked = {"namespace": None, "policy_namespace": NAMESPACE, "output": "json"}
        capsys.readouterr()
        assert run(Namespace(kubeconfig=kubeconfig, context=None, **asked)) == 0
        told = capsys.readouterr()
        return [row["name"] for row in json.loads(told.out)["workloads"]], told.err

    rows = [
        Row(
            f"team-{index % 50:02}", "apps/v1", "Deployment", f"model-{index:05}", 4, 4, 3, sentence="x" * 240
        )
        for index in range(10_000)
    ]
    rows.sort(key=lambda row: (row.namespace, row.kind, row.name))
    now, current = [1000.0], [tuple(rows)]
    page = WorkloadPage(api, NAMESPACE, lambda: current[0], active=lambda: True, clock=lambda: now[0])
    page.step()
    name = workload_page.CONFIG_MAP
    assert 1 < len(kept(control_plane, name)) <= 8
    assert page_of(look(api, NAMESPACE, name)).workloads == tuple(rows)
    names, _ = printed()
    assert names == [row.name for row in rows]

    control_plane.request("DELETE", f"{PATH}/{name}-1")
    names, notes = printed()
    assert 0 < len(names) < len(rows)
    assert f"ConfigMap {NAMESPACE}/{name}-1 is gone" in notes
    now[0] += workload_page.HEALING_SECONDS
    page.step()
    assert page_of(look(api, NAMESPACE, name)).workloads == tuple(rows)

    current[0], now[0] = tuple(rows[:10]), 2000.0
    page.step()
    assert list(kept(control_plane, name)) == [name]
    assert page_of(look(api, NAMESPACE, name)).workloads == tuple(rows[:10])
    assert caplog.text == ""


def test_the_runs_of_ten_thousand_families_of_jobs_are_kept(
    control_plane: ControlPlane, api: Api, caplog: pytest.LogCaptureFixture
):
    runs = {f"team-{index % 50}/training-{index}": (3601.5 + index,) * 16 for index in range(10_000)}
    memory = batch_memory.BatchMemory(api, NAMESPACE, clock=lambda: 0.0)
    memory.read()
    memory.keep(batch_memory.Learned(jobs=Durations(runs)))
    assert 1 < len(kept(control_plane, batch_memory.CONFIG_MAP)) <= 4
    again = batch_memory.BatchMemory(api, NAMESPACE).read()
    assert again is not None
    assert again.jobs.runs == runs
    assert caplog.text == ""


def test_a_forecast_of_ten_thousand_classes_of_demand_fits(api: Api, caplog: pytest.LogCaptureFixture):
    classes = {
        f"mig:1g.10gb@A100-80GB/{1000 + index}m/65536Mi": Forecast(3.5, 1.25) for index in range(10_000)
    }
    data, _ = write_forecasts(classes)
    keeper = Keeper(KeptMap(api, NAMESPACE, FORECAST_CONFIG_MAP, "forecast"), "nothing")
    assert keeper.replace({"shop.llm": "whole:1 3±1"}, {}), "as earlier versions wrote it"
    assert keeper.replace(data, {})
    assert read_forecasts(KeptMap(api, NAMESPACE, FORECAST_CONFIG_MAP).read() or {}) == (classes, [])
    assert caplog.text == ""
