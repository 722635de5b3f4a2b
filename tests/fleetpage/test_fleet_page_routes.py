from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from autoscaler.fleetpage.page import fleet_routes
from scheduler.bill import Bill
from tests.fleetpage.picture import demo_bills, demo_view


def bills(namespace: str, pod: str) -> list[Bill]:
    if pod != "waiting-0":
        raise LookupError("no such pod")
    return demo_bills(demo_view())


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(fleet_routes(demo_view, bills))
    with TestClient(app) as client:
        yield client


def test_the_page_and_its_files_come_from_here_and_allow_nothing_foreign(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("static/fleet.js", "static/fleet.css"):
        assert name in page.text
        assert client.get(f"/{name}").status_code == 200
    for scheme in ("http://", "https://"):
        assert scheme not in page.text
        assert scheme not in client.get("/static/fleet.js").text
        assert scheme not in client.get("/static/fleet.css").text


@pytest.mark.parametrize("name", ["page.py", "..%2Fpage.py", "index.html.bak"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_the_fleet_lists_every_node_with_spans_over_all_units(client: TestClient) -> None:
    fleet = client.get("/api/fleet").json()
    assert fleet["totals"]["nodes"] == len(fleet["nodes"]) == len(demo_view().nodes)
    assert "pods" not in fleet
    for node in fleet["nodes"]:
        for gpu in node["gpus"]:
            assert sum(span["size"] for span in gpu["spans"]) == gpu["units"]


def test_pods_are_listed_apart(client: TestClient) -> None:
    pods = client.get("/api/pods").json()["pods"]
    assert {"namespace": "team-b", "name": "waiting-0", "node": "", "request": "1 × 3g.40gb"} in pods


def test_bills_come_cheapest_first_and_those_that_do_not_fit_last_without_a_total(client: TestClient) -> None:
    answer = client.get("/api/bills", params={"namespace": "team-b", "pod": "waiting-0"}).json()["bills"]
    fits = [bill["total"] for bill in answer if bill["feasible"]]
    assert fits == sorted(fits)
    assert [bill["feasible"] for bill in answer] == sorted(
        (bill["feasible"] for bill in answer), reverse=True
    )
    assert {bill["total"] for bill in answer if not bill["feasible"]} == {None}


def test_a_pod_that_is_not_known_is_404_with_its_name(client: TestClient) -> None:
    answer = client.get("/api/bills", params={"namespace": "team-b", "pod": "gone"})
    assert answer.status_code == 404
    assert "team-b/gone" in answer.json()["detail"]


@pytest.mark.parametrize("query", [{}, {"namespace": "a"}, {"namespace": "", "pod": ""}])
def test_a_question_without_a_pod_is_refused(client: TestClient, query: dict[str, str]) -> None:
    assert client.get("/api/bills", params=query).status_code == 422
