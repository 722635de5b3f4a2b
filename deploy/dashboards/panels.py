"""Panels and dashboards in Grafana's classic JSON model, which every Grafana since 10 imports.

A panel of one of our own metrics follows from the metric: counters as rates, histograms as quantiles, gauges
as they are, units from the end of the name, the description from its help. Pure: values in, JSON-ready dicts
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from metrics.metric import Metric

SCHEMA_VERSION: Final = 41
RATE_WINDOW: Final = "$__rate_interval"
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
_SPELLED: Final = {"gpus": "GPUs", "mig": "MIG"}
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 24


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how Grafana names each series of the answer."""

    promql: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph over time. ``unit`` is Grafana's id of a unit."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One file. ``namespaces``: a metric by whose ``namespace`` the reader may choose (empty: no choice)."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    namespaces: str = ""


def panel(metric: Metric, *, over: str = "max", where: str = "") -> Panel:
    """The graph of one of our metrics. ``over``: how gauges of several replicas become one; ``where``: label
    matchers.
    """
    selector = f"{{{where}}}" if where else ""
    by = f" by ({', '.join(metric.labels)})" if metric.labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or _words(metric)
    if metric.kind == "counter":
        promql = f"sum{by} (rate({metric.name}{selector}[{RATE_WINDOW}]))"
        # Seconds a second are a share of the time.
        spent = metric.name.endswith("_seconds_total")
        title = f"{_words(metric)}, share of the time" if spent else f"{_words(metric)} a second"
        unit = "percentunit" if spent else "massg" if metric.name.endswith("_grams_total") else "cps"
        return Panel(title, metric.help, (Query(promql, legend),), unit)
    if metric.kind == "histogram":
        first = metric.labels[:1]
        grouped = ", ".join(("le", *first))
        named = "".join(f" {{{{{label}}}}}" for label in first)
        buckets = f"sum by ({grouped}) (rate({metric.name}_bucket{selector}[{RATE_WINDOW}]))"
        queries = tuple(
            Query(f"histogram_quantile({share}, {buckets})", name + named) for name, share in _QUANTILES
        )
        return Panel(_words(metric), metric.help, queries, "s")
    if metric.name.endswith("_timestamp_seconds"):
        query = Query(f"time() - {over}{by} ({metric.name}{selector})", legend)
        return Panel(f"Seconds since {_words(metric).lower()}", metric.help, (query,), "s")
    return Panel(
        _words(metric), metric.help, (Query(f"{over}{by} ({metric.name}{selector})", legend),), _unit(metric)
    )


def as_json(board: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in board.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _ACROSS, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        for index, one in enumerate(row.panels):
            x = index * _WIDTH % _ACROSS
            y += _HEIGHT if index and not x else 0
            panels.append(_graph(one, len(panels) + 1, x, y))
        y += _HEIGHT
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["slicewise"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(board)},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _graph(one: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": one.title,
        "description": one.description,
        "datasource": _DATASOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": query.promql,
                "legendFormat": query.legend,
                "range": True,
            }
            for index, query in enumerate(one.queries)
        ],
    }


def _variables(board: Dashboard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    ]
    if board.namespaces:
        query = f"label_values({board.namespaces}, namespace)"
        found.append(
            {
                "name": "namespace",
                "label": "Namespace",
                "type": "query",
                "datasource": _DATASOURCE,
                "query": {"query": query, "refId": "namespaces"},
                "definition": query,
                "includeAll": True,
                "allValue": ".*",
                "multi": True,
                "refresh": 2,
                "sort": 1,
            }
        )
    return found


def expressions(boards: Sequence[Dashboard]) -> list[str]:
    """All PromQL of some dashboards, in order."""
    return [
        query.promql for board in boards for row in board.rows for one in row.panels for query in one.queries
    ]


def _words(metric: Metric) -> str:
    name = metric.name.removeprefix("slicewise_")
    for end in ("_total", "_timestamp_seconds", "_seconds", "_grams", "_ratio", "_grams_per_kilowatt_hour"):
        name = name.removesuffix(end)
    words = " ".join(_SPELLED.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:]


def _unit(metric: Metric) -> str:
    if metric.name.endswith("_seconds"):
        return "s"
    if metric.name.endswith("_ratio"):
        return "percentunit"
    if metric.name.endswith("_grams_per_kilowatt_hour"):
        return "suffix: g/kWh"
    return "short"
