"""The page of all workloads: what stands in it, when it is written, and how kubectl prints it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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
from autoscaler.workload_page import LONGEST_SECONDS, Row, WorkloadPage, rows
from cluster.api_errors import ApiRefused
from cluster.wire import ConfigMap, ObjectMeta
from kubectl_slicewise.policy_files import NotFound
from kubectl_slicewise.workloads import as_table, read_page, undecided
from scheduler.demand import Demand, GpuRequest
from scheduler.planner.admission import Constraints

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


@dataclass
class Maps:
    """An API server that takes one ConfigMap."""

    written: list[dict[str, Any]] = field(default_factory=list)
    refuse: bool = False

    def patch(self, path: str, body: Any) -> bytes:
        if self.refuse:
            raise ApiRefused(403, "Forbidden", "no", where=path)
        self.written.append(json.loads(body["data"]["workloads.json"]))
        return b"{}"


def page_of(api: Maps, current: list[Row], now: list[float], leads: list[bool]) -> WorkloadPage:
    return WorkloadPage(
        api,  # type: ignore[arg-type]
        "slicewise-system",
        lambda: tuple(current),
        active=lambda: leads[0],
        clock=lambda: now[0],
    )


def test_the_page_is_written_when_something_changes_and_when_it_grows_old():
    api, current, now, leads = Maps(), list(rows([view("a")], [])), [0.0], [True]
    page = page_of(api, current, now, leads)
    page.step()
    current[:] = rows([view("a", why=Reason(LIMITED.code, "other words"))], [])
    page.step()
    assert len(api.written) == 1  # words alone are no news
    current[:] = rows([view("a", replicas=5)], [])
    page.step()
    assert [one["workloads"][0]["desired"] for one in api.written] == [4, 5]
    now[0] = LONGEST_SECONDS
    page.step()
    assert [one["writtenAt"] for one in api.written[1:]] == ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"]


def test_only_who_leads_writes():
    api, leads = Maps(), [False]
    page = page_of(api, list(rows([view("a")], [])), [0.0], leads)
    page.step()
    assert api.written == []
    leads[0] = True
    page.step()
    assert len(api.written) == 1


def test_a_refused_write_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture):
    api = Maps(refuse=True)
    page = page_of(api, list(rows([view("a")], [])), [0.0], [True])
    page.step()
    page.step()
    assert caplog.text.count("cannot write ConfigMap slicewise-system/slicewise-workloads") == 1
    api.refuse = False
    page.step()
    assert len(api.written) == 1


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
    api = Maps()
    page_of(api, list(rows([view("a", placeable=4)], [])), [0.0], [True]).step()
    assert read_page(json.dumps(api.written[0]), "here").workloads == rows([view("a", placeable=4)], [])
    with pytest.raises(NotFound, match=r"here, workloads.json: .*update the older"):
        read_page("{", "here")


def test_a_thousand_workloads_fit_into_a_config_map():
    long = Reason(LIMITED.code, "x" * 1000)
    api = Maps()
    many = rows([view(f"{'name-' * 8}{index}", why=long) for index in range(1000)], [])
    page_of(api, list(many), [0.0], [True]).step()
    assert len(json.dumps(api.written[0])) < 2**20


def test_a_large_page_is_written_less_often():
    api, now = Maps(), [0.0]
    long = Reason(LIMITED.code, "x" * 1000)
    current: list[Row] = []
    page = page_of(api, current, now, [True])
    for second in range(0, 120, 5):
        now[0] = float(second)
        current[:] = rows([view(f"w{index}", replicas=second, why=long) for index in range(1000)], [])
        page.step()
    assert 3 <= len(api.written) <= 6
