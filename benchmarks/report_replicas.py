"""Sections of docs/benchmarks.md about batch in time, real model servers and the length of a round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_NAMES = {
    "immediate": "started at once",
    "threshold": "below a fixed threshold",
    "green-hours": "the day's usual green hours",
    "slicewise": "Slicewise",
    "slicewise-told": "Slicewise, told durations and intensities",
    "perfect": "perfect forecast",
}


def batch(found: Json) -> list[str]:
    """Emissions of batch jobs with completion windows, beside simple rules and a perfect forecast."""
    cases = len(found["zones"]) * len(found["seeds"])
    short = "" if found["finished_cases"] >= cases else f" ({found['finished_cases']} of {cases} cases run)"
    lines = [
        "## Batch in time",
        "",
        f"`{found['command']}`",
        "",
        f"{found['jobs']} jobs over {found['days']:g} days with completion windows of "
        f"{found['window_hours']:g} hours, {found['gpus']:g} GPUs, {len(found['zones'])} grid zones of 2023, "
        f"{len(found['seeds'])} seeds{short}. Slicewise forecasts intensity and durations from the past.",
        "",
        "| rule | kg CO2e | saved, % | of a perfect forecast's, % | deadlines missed | mean delay, h |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found["policies"].items():
        lines.append(
            f"| {_NAMES.get(name, name)} | {one['kilograms']:.0f} | {100 * one['saving_ratio']:.1f} "
            f"| {100 * one['of_perfect']:.1f} | {one['missed_deadlines']} | {one['mean_delay_hours']:.1f} |"
        )
    return lines


def model_servers(found: Json) -> list[str]:
    """A step to five times the load on three real servers as pods of a real kubelet."""
    lines = [
        "## Real model servers",
        "",
        f"`{found['command']}`",
        "",
        "Each from PyPI, as pods on the real kubelet, scraped by the real Prometheus, recognised by what "
        "they export, scaled by the real controller under open-loop load; then five times the load at once. "
        f"Back: p95 within the objective again, in start-up times (target {found['target_starts']:g}).",
        "",
        "| server | start, s | p95 before, s | worst p95, s | p95 after, s | objective, s | back after, s "
        "| starts | most replicas | failed requests |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found["servers"]:
        cells = (
            one["server"],
            _number(one["start_seconds"]),
            _number(one["p95_before_seconds"]),
            _number(one["p95_worst_seconds"]),
            _number(one["p95_after_seconds"]),
            _number(one["objective_seconds"]),
            _number(one["recovered_after_seconds"]),
            _number(one["starts_to_recover"]),
            str(one["most_replicas"]),
            str(one["failed_requests"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def control_round(found: Json) -> list[str]:
    """Time and questions of a control round at many workloads."""
    parts = {
        "whole round, s": "wall_seconds",
        "processor time, s": "processor_seconds",
        "queries to Prometheus in a period": "queries",
    }
    lines = [
        "## One control round",
        "",
        "`python -m benchmarks.control_round`",
        "",
        f"{found['workloads']:,} workloads, {found['pods']:,} pods, {found['series']:,} series in a real "
        f"Prometheus; the real controller against a real API server, {found['rounds']} rounds. Every pod is "
        f"also asked directly (a sample above 64 a workload); {found['decided_with_a_load']:,} workloads "
        "were decided with a load.",
        "",
        "| | median | p95 | largest |",
        "|---|---|---|---|",
    ]
    for words, name in parts.items():
        if name in found:
            one = found[name]
            lines.append(f"| {words} | {one['median']:.3g} | {one['p95']:.3g} | {one['max']:.3g} |")
    return lines


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–" if value is None else str(value)
