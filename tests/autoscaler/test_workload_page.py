"""The page of all workloads: what stands in it, when it is written, and how kubectl prints it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from autoscaler import reasons
from autoscaler.decide import Decision
from autoscaler.placeable import NodeRequest
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.state import State
from autoscaler.targets import Target
from autoscaler.view import View
from autoscaler.workload_page import (
    CONFIG_MAP,
    HEALING_SECONDS,
    KEY,
    LONGEST_SECONDS,
    Row,
    WorkloadPage,
    rows,
)
from cluster.numbered_maps import Found, look, map_names
from cluster.wire import ConfigMap, ObjectMeta
from kubectl_slicewise.policy_files import NotFound
from kubectl_slicewise.workloads import absent, as_table, read_page, undecided
from scheduler.demand import Demand, GpuRequest
from scheduler.planner.admission import Constraints
from tests.cluster_room.kept_maps import Maps

LIMITED = Reason(reasons.NOT_PLACEABLE, "6 replicas are wanted, 4 can be placed: not asking for the others")


def view(name: str, *, replicas: int = 4, why: Reason = LIMITED, **signals: Any) -> View:
    target = Target("apps/v1", "Deployment", "n", name)
    seen = Signals(current=4, ready=3, **signals)
    return View(target, seen, Decision(replicas, (why,), State.begun(4, 0.0)), False)


def request(name: str, replicas: int) -> NodeRequest:
    demand = Demand((GpuRequest("whole", None, 1),))
    return NodeRequest(
        Target("apps/v1", "Deployment", "n", name), replicas, demand, Constraints((), None, (), False)
    )


def test_a_row_says_what_is_wanted_what_has_room_and_why():
    first, second = rows([view("b", placeable=4), view("a")], [request("b", 2)])
    assert (first.name, first.placeable, first.unplaceable) == ("a", None, 0)
    assert (second.name, second.current, second.desired, second.ready) == ("b", 4, 4, 3)
    assert (second.placeable, second.unplaceable, second.reason) == (4, 2, "NotPlaceable")
    assert second.sentence == LIMITED.sentence


def test_the_table_shows_dashes_where_there_is_nothing_to_say():
    lines = as_table(rows([view("a"), view("b", placeable=4)], [request("b", 2)])).splitlines()
    assert lines[0].split()[:5] == ["NAMESPACE", "WORKLOAD", "CURRENT", "DESIRED", "READY"]
    assert lines[1].split()[:9] == ["n", "deployment/a", "4", "4", "3", "-", "-", "-", "NotPlaceable"]
    assert lines[2].split()[5:7] == ["4", "2"]


class PageMaps(Maps):
    """And what was written of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[dict[str, Any]] = []

    def _write(self, name: str, data: Mapping[str, str]) -> None:
        super()._write(name, data)
        if name == CONFIG_MAP:
            self.pages.append(json.loads(data[KEY]))


def page_on(api: Maps, current: list[Row], now: list[float], leads: list[bool]) -> WorkloadPage:
    return WorkloadPage(
        api.api,
        "slicewise-system",
        lambda: tuple(current),
        active=lambda: leads[0],
        clock=lambda: now[0],
    )


def test_the_page_is_written_when_something_changes_and_when_it_grows_old():
    api, current, now, leads = PageMaps(), list(rows([view("a")], [])), [0.0], [True]
    page = page_on(api, current, now, leads)
    page.step()
    current[:] = rows([view("a", why=Reason(LIMITED.code, "other words"))], [])
    page.step()
    assert len(api.pages) == 1  # words alone are no news
    current[:] = rows([view("a", replicas=5)], [])
    page.step()
    assert [one["workloads"][0]["desired"] for one in api.pages] == [4, 5]
    now[0] = LONGEST_SECONDS
    page.step()
    assert [one["writtenAt"] for one in api.pages[1:]] == ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"]


def test_only_who_leads_writes():
    api, leads = PageMaps(), [False]
    page = page_on(api, list(rows([view("a")], [])), [0.0], leads)
    page.step()
    assert api.pages == []
    leads[0] = True
    page.step()
    assert len(api.pages) == 1


def test_a_refused_write_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture):
    api, current, now = PageMaps(), list(rows([view("a")], [])), [0.0]
    page = page_on(api, current, now, [True])
    page.step()
    api.refused, current[:] = {CONFIG_MAP}, rows([view("a", replicas=5)], [])
    page.step()
    page.step()
    assert caplog.text.count("cannot write ConfigMap slicewise-system/slicewise-workloads") == 1
    api.refused = set()
    page.step()
    assert [one["workloads"][0]["desired"] for one in api.pages] == [4, 5]


def test_nothing_is_written_before_it_is_known_how_many_there_are(caplog: pytest.LogCaptureFixture):
    api = PageMaps()
    api.refused = {CONFIG_MAP}
    page = page_on(api, list(rows([view("a")], [])), [0.0], [True])
    page.step()
    page.step()
    assert caplog.text.count("cannot read ConfigMap slicewise-system/slicewise-workloads") == 1
    api.refused = set()
    page.step()
    assert len(api.pages) == 1


def test_a_policy_without_a_decision_is_told_with_where_the_reason_stands():
    def config_map(name: str, target: str) -> ConfigMap:
        text = f"kind: AutoscalingPolicy\ntarget: {{name: {target}}}\nmaxReplicas: 2\ninFlight: {{}}\n"
        return ConfigMap(ObjectMeta(name=name, namespace="n"), {"policy.yaml": text})

    broken = ConfigMap(ObjectMeta(name="broken", namespace="n"), {})
    maps = [config_map("a-policy", "a"), config_map("gone-policy", "gone"), broken]
    told = undecided(maps, rows([view("a")], []))
    assert told == [
        "policy n/broken is refused; kubectl slicewise policy validate says why",
        "policy n/gone-policy: nothing is decided about Deployment gone; see: kubectl -n n get events "
        "--field-selector involvedObject.name=gone-policy",
    ]


def test_what_was_written_can_be_read():
    api = PageMaps()
    page_on(api, list(rows([view("a", placeable=4)], [])), [0.0], [True]).step()
    found = look(api.api, "slicewise-system", CONFIG_MAP)
    assert read_page(found, "here").workloads == rows([view("a", placeable=4)], [])
    for broken in ("{", '{"workloads": []}'):
        with pytest.raises(NotFound, match=r"here, workloads.json: .*update the older"):
            read_page(Found(1, {0: {KEY: broken}}, {}), "here")


def test_a_thousand_workloads_fit_into_a_config_map():
    long = Reason(LIMITED.code, "x" * 1000)
    api = PageMaps()
    many = rows([view(f"{'name-' * 8}{index}", why=long) for index in range(1000)], [])
    page_on(api, list(many), [0.0], [True]).step()
    assert len(json.dumps(api.pages[0])) < 2**20


def test_a_large_page_is_written_less_often():
    api, now = PageMaps(), [0.0]
    long = Reason(LIMITED.code, "x" * 1000)
    current: list[Row] = []
    page = page_on(api, current, now, [True])
    for second in range(0, 120, 5):
        now[0] = float(second)
        current[:] = rows([view(f"w{index}", replicas=second, why=long) for index in range(1000)], [])
        page.step()
    assert 3 <= len(api.pages) <= 6


def test_ten_thousand_workloads_are_read_back_from_several_config_maps():
    api = PageMaps()
    many = rows([view(f"llm-{index}", why=Reason(LIMITED.code, "x" * 200)) for index in range(10_000)], [])
    page_on(api, list(many), [0.0], [True]).step()
    assert 4 <= len(api.data) <= 8
    assert all(len(data[KEY]) < 2**20 for data in api.data.values())
    found = look(api.api, "slicewise-system", CONFIG_MAP)
    page = read_page(found, "here")
    assert (page.workloads, page.written_at) == (many, "1970-01-01T00:00:00Z")
    assert absent(found, "slicewise-system") == []


def test_only_config_maps_with_news_are_written_and_all_now_and_then():
    api, now = PageMaps(), [0.0]
    why = Reason(LIMITED.code, "x" * 240)
    views = [view(f"{'long-' * 20}{index}", why=why) for index in range(4000)]
    current = list(rows(views, []))
    page = page_on(api, current, now, [True])
    page.step()
    first, *others = map_names(CONFIG_MAP)[: len(api.data)]
    assert others
    api.written.clear()
    now[0] += LONGEST_SECONDS
    page.step()
    assert api.written == [first], "when it was written"
    del api.data[others[-1]]
    now[0] += HEALING_SECONDS
    page.step()
    assert read_page(look(api.api, "slicewise-system", CONFIG_MAP), "here").workloads == tuple(current)


def test_a_config_map_that_is_missing_is_told_with_what_is_not_shown():
    api = PageMaps()
    many = rows([view(f"{'long-' * 20}{index}") for index in range(6000)], [])
    page_on(api, list(many), [0.0], [True]).step()
    _, one, other, *_ = sorted(api.data)
    del api.data[one]
    api.refused = {other}
    found = look(api.api, "slicewise-system", CONFIG_MAP)
    shown = read_page(found, "here").workloads
    assert 0 < len(shown) < len(many)
    gone, unread = absent(found, "slicewise-system")
    assert gone.startswith(f"ConfigMap slicewise-system/{one} is gone")
    assert unread.startswith(f"ConfigMap slicewise-system/{other} cannot be read: ")
    assert unread.endswith("its workloads are missing here")


def test_whoever_leads_next_goes_on_with_the_config_maps_there_are():
    api = PageMaps()
    many = rows([view(f"{'long-' * 20}{index}") for index in range(6000)], [])
    page_on(api, list(many), [0.0], [True]).step()
    assert len(api.data) > 1
    page_on(api, list(many[:10]), [0.0], [True]).step()
    assert sorted(api.data) == [CONFIG_MAP]
    assert read_page(look(api.api, "slicewise-system", CONFIG_MAP), "here").workloads == many[:10]
