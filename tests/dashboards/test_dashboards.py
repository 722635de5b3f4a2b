"""The dashboards name metrics that exist, in PromQL that Prometheus reads."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from deploy.dashboards.__main__ import FOLDER, main, texts
from deploy.dashboards.boards import BOARDS, DCGM_METRICS, KUBE_METRICS
from deploy.dashboards.panels import expressions
from deploy.local import binaries
from metrics import names

QUERIES = expressions(tuple(BOARDS.values()))
FOREIGN = {*DCGM_METRICS, *KUBE_METRICS}
SERIES = re.compile(r"\b(slicewise_\w+|DCGM_\w+|kube_\w+)")
PARTS = ("_bucket", "_count", "_sum")


def named(promql: str) -> set[str]:
    found = set(SERIES.findall(promql))
    histograms = {metric.name for metric in names.ALL if metric.kind == "histogram"}
    return {
        next(
            (name[: -len(end)] for end in PARTS if name.endswith(end) and name[: -len(end)] in histograms),
            name,
        )
        for name in found
    }


def test_the_committed_files_are_what_the_names_make_them():
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == texts(), "run `python -m deploy.dashboards` and commit the files"


@pytest.mark.parametrize("promql", QUERIES)
def test_a_query_names_only_metrics_that_exist(promql):
    assert named(promql)
    assert named(promql) <= {*names.BY_NAME, *FOREIGN}


def test_every_metric_of_the_product_stands_on_a_dashboard():
    shown = set().union(*(named(promql) for promql in QUERIES))
    missing = sorted(names.BY_NAME.keys() - shown)
    assert missing == [], "give them a panel in deploy/dashboards/boards.py"


def test_labels_that_panels_group_by_are_labels_of_the_metric():
    for promql in QUERIES:
        (name, *others) = named(promql)
        metric = names.BY_NAME.get(name)
        if metric is not None and not others:
            grouped = re.search(r" by \(([^)]*)\)", promql)
            labels = set(grouped[1].split(", ")) if grouped else set()
            assert labels - {"le"} <= set(metric.labels), promql


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap_and_have_ids_of_their_own(name):
    board = json.loads(texts()[name])
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_prometheus_reads_every_query(tmp_path):
    prometheus = binaries.find("prometheus")
    if prometheus is None:
        pytest.skip("no Prometheus of the pinned version here: `python -m deploy.local up` builds one")
    # What Grafana puts in before it asks.
    asked = [query.replace("$__rate_interval", "5m").replace("$namespace", ".*") for query in QUERIES]
    assert not any("$" in query for query in asked)
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(asked)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run(
        [prometheus.with_name("promtool"), "check", "rules", "--lint=none", path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(asked)} rules found" in done.stdout


def test_the_command_writes_the_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deploy.dashboards.__main__.FOLDER", tmp_path)
    assert main([]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BOARDS)
    assert len(capsys.readouterr().out.splitlines()) == len(BOARDS)
