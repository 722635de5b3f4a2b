"""The demo's result: both sides side by side, as JSON and as a table. Only measured numbers; nothing is
filled in.

``build/demo.json``::

    schema 1 · settings{seed, window_seconds, nodes, gpus, pods, …} · sides{plain, slicewise: measured numbers
    and series} lines[{name, unit, plain, slicewise, better: "lower"|"higher"|null, verdict:
    "slicewise"|"plain"|"level"|null}]

A number that could not be measured is null in JSON and "–" in the table. Two numbers within ``LEVEL``
(waiting times: ``LEVEL_OF_LATENCY``) of each other count as level. Pure: results in, dictionary or text out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean
from typing import Any, Literal

from deploy.demo.fleet import DemoNode
from deploy.demo.measure import FleetSample, PodRecord, percentile, served_seconds, time_average
from deploy.demo.plan import DemoPlan
from deploy.demo.side import SideResult
from deploy.demo.workload import TTFT_GOAL_SECONDS

SCHEMA = 1
LEVEL = 0.01
# Two runs of the plain side alone, on an idle machine, differ by up to a tenth in their median waiting times.
LEVEL_OF_LATENCY = 0.10
_PERIOD_SECONDS = 10.0

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: where the number is in a side's summary, and how it is shown."""

    key: str
    name: str
    unit: str
    better: Better | None
    digits: int = 1
    factor: float = 1.0
    level: float = LEVEL


LINES = (
    Line("pods_placed", "pods placed", "pods", "higher", 0),
    Line("gpu_time_served_share", "GPU time served, of what was asked", "%", "higher", 1, 100),
    Line("mig_time_served_share", "MIG time served, of what was asked", "%", "higher", 1, 100),
    Line("stranded_mig_share", "stranded MIG capacity, of all MIG units", "%", "lower", 2, 100),
    Line("stranded_of_free_share", "stranded, of the free MIG units", "%", "lower", 1, 100),
    Line("nvlink_share", "NVLink bandwidth of multi-GPU pods, of full", "%", "higher", 1, 100),
    Line("nvlink_delivered_share", "the same, over all GPU time they asked for", "%", "higher", 1, 100),
    Line("multi_gpu_pods_placed", "multi-GPU pods placed", "pods", "higher", 0),
    Line("grams_per_hour", "GPU emissions of all work, idle GPUs included", "gCO2e/h", None, 0),
    Line("grams_per_busy_gpu_hour", "GPU emissions per GPU-hour served", "gCO2e", "lower", 1),
    Line("algorithm_mean_seconds", "scheduling algorithm, mean", "ms", "lower", 2, 1000, LEVEL_OF_LATENCY),
    # Shown, not judged: read from a histogram whose buckets double, it is known to a factor of two only.
    Line("algorithm_p99_seconds", "scheduling algorithm, p99 (to a factor of two)", "ms", None, 0, 1000),
    Line(
        "planned_median_seconds",
        "created to bound, median, with plan gate",
        "ms",
        "lower",
        0,
        1000,
        LEVEL_OF_LATENCY,
    ),
    Line(
        "planned_p99_seconds",
        "created to bound, p99, with plan gate",
        "ms",
        "lower",
        0,
        1000,
        LEVEL_OF_LATENCY,
    ),
    Line(
        "webhook_median_seconds",
        "created to bound, median, without gate",
        "ms",
        "lower",
        0,
        1000,
        LEVEL_OF_LATENCY,
    ),
    Line(
        "webhook_p99_seconds", "created to bound, p99, without gate", "ms", "lower", 0, 1000, LEVEL_OF_LATENCY
    ),
    Line("llm_mean_replicas", "LLM replicas, mean", "", None, 2),
    Line("llm_within_goal_share", "LLM first tokens within the goal", "%", "higher", 1, 100),
    Line("llm_ttft_p95_seconds", "LLM time to first token, p95", "s", "lower", 3),
    Line("llm_e2e_p95_seconds", "LLM whole request, p95", "s", "lower", 2),
    Line("llm_worst_ttft_p95_seconds", "LLM time to first token, p95 of the worst 10 s", "s", "lower", 3),
)


def side_summary(result: SideResult, plan: DemoPlan) -> dict[str, Any]:
    """Every number of one side, and its series over time."""
    samples, pods = result.samples, result.pods
    placed = [record for record in pods if record.bound_seconds is not None]
    multi = [record for record in pods if record.arrival.tensor_parallel]
    shares = [
        (record.nvlink_share, record.arrival.request.count)
        for record in multi
        if record.nvlink_share is not None
    ]
    busy = _average(samples, lambda s: s.busy_gpus)
    grams = _average(samples, lambda s: s.grams_per_hour)
    free = _average(samples, lambda s: float(s.mig_units - s.used_mig_units))
    stranded = _average(samples, lambda s: s.stranded_units)
    units = float(samples[-1].mig_units) if samples else nan
    llm = result.llm
    load = [sample for sample in llm.load if 0 < sample.at_seconds <= plan.window_seconds]
    return {
        "pods_created": len(pods),
        "pods_placed": len(placed),
        "gpu_time_served_share": _served(pods, plan, lambda record: _gpu_equivalents(record, plan.nodes)),
        "mig_time_served_share": _served(
            [record for record in pods if record.arrival.request.profile is not None],
            plan,
            lambda record: _gpu_equivalents(record, plan.nodes),
        ),
        "stranded_mig_share": stranded / units if units else nan,
        "stranded_of_free_share": stranded / free if free else nan,
        "unusable_mig_share": _average(samples, lambda s: float(s.unusable_units)) / units if units else nan,
        "mig_used_share": _average(samples, lambda s: float(s.used_mig_units)) / units if units else nan,
        "multi_gpu_pods_placed": sum(1 for record in multi if record.bound_seconds is not None),
        "nvlink_share": (
            sum(share * gpus for share, gpus in shares) / sum(gpus for _, gpus in shares) if shares else nan
        ),
        "nvlink_measured_pods": len(shares),
        "nvlink_delivered_share": _delivered(multi, plan),
        "busy_gpus": busy,
        "grams_per_hour": grams,
        "grams_per_busy_gpu_hour": grams / busy if busy else nan,
        "waiting_pods_mean": _average(samples, lambda s: float(s.waiting_pods)),
        "algorithm_decisions": result.algorithm.count,
        "algorithm_mean_seconds": result.algorithm.mean,
        "algorithm_p99_seconds": result.algorithm.quantile(0.99),
        **latencies(pods, plan.end_seconds),
        "llm_requests_arrived": llm.arrived,
        "llm_requests_served": len(llm.served),
        "llm_mean_replicas": fmean(sample.replicas for sample in load) if load else nan,
        "llm_within_goal_share": _within_goal(result),
        "llm_ttft_p95_seconds": percentile([record.first_token for record in llm.served], 0.95),
        "llm_e2e_p95_seconds": percentile([record.total for record in llm.served], 0.95),
        "llm_worst_ttft_p95_seconds": _worst_period(result),
        "llm_static_replicas": result.llm_replicas,
        "setup_seconds": result.setup_seconds,
        "slices_republished": result.slices_republished,
        "nominations": dict(result.nominations),
        "problems": list(result.problems),
        "series": {
            "at_seconds": [round(s.at_seconds, 2) for s in samples],
            "mig_used_units": [s.used_mig_units for s in samples],
            "stranded_units": [round(s.stranded_units, 3) for s in samples],
            "unusable_units": [s.unusable_units for s in samples],
            "busy_gpus": [round(s.busy_gpus, 3) for s in samples],
            "grams_per_hour": [round(s.grams_per_hour, 1) for s in samples],
            "waiting_pods": [s.waiting_pods for s in samples],
            "llm_at_seconds": [round(s.at_seconds, 2) for s in load],
            "llm_replicas": [s.replicas for s in load],
            "llm_in_flight": [s.in_flight for s in load],
        },
    }


def document(plan: DemoPlan, plain: SideResult, slicewise: SideResult) -> dict[str, Any]:
    """The JSON document. Not-a-numbers become null."""
    sides = {"plain": side_summary(plain, plan), "slicewise": side_summary(slicewise, plan)}
    lines = [
        {
            "name": line.name,
            "key": line.key,
            "unit": line.unit,
            "plain": _scaled(sides["plain"][line.key], line),
            "slicewise": _scaled(sides["slicewise"][line.key], line),
            "better": line.better,
            "verdict": verdict(
                sides["plain"][line.key], sides["slicewise"][line.key], line.better, line.level
            ),
        }
        for line in LINES
    ]
    settings = {
        "seed": plan.seed,
        "window_seconds": plan.window_seconds,
        "end_seconds": plan.end_seconds,
        "nodes": len(plan.nodes),
        "gpus": sum(node.shape.gpus for node in plan.nodes),
        "pods": len(plan.arrivals),
        "peak_share": plan.peak_share,
        "expected_mix": plan.mix,
        "llm_static_replicas": plan.static_replicas,
        "llm_ttft_goal_seconds": TTFT_GOAL_SECONDS,
        "grams_per_kwh_are": "2023 means, life-cycle; contains data from Electricity Maps, ODbL",
    }
    clean: dict[str, Any] = _without_nan(
        {"schema": SCHEMA, "settings": settings, "sides": sides, "lines": lines}
    )
    return clean


def verdict(plain: float, slicewise: float, better: Better | None, level: float = LEVEL) -> str | None:
    """Who did better; None where there is nothing to compare."""
    if better is None or not (isfinite(plain) and isfinite(slicewise)):
        return None
    if abs(plain - slicewise) <= level * max(abs(plain), abs(slicewise)):
        return "level"
    return "slicewise" if (slicewise < plain) == (better == "lower") else "plain"


def table(result: dict[str, Any]) -> str:
    """The lines as text, for a terminal."""
    rows = [("", "plain", "slicewise", "", "better")]
    for line, shape in zip(result["lines"], LINES, strict=True):
        cells = [_cell(line[side], shape.digits) for side in ("plain", "slicewise")]
        rows.append((line["name"], cells[0], cells[1], line["unit"], line["verdict"] or "–"))
    wide = [max(len(row[i]) for row in rows) for i in range(5)]
    text = [
        f"{name:<{wide[0]}}  {plain:>{wide[1]}}  {ours:>{wide[2]}} {unit:<{wide[3]}}  {better}".rstrip()
        for name, plain, ours, unit, better in rows
    ]
    text.insert(1, "-" * (sum(wide) + 7))
    return "\n".join(text)


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _scaled(value: float, line: Line) -> float:
    return round(value * line.factor, 6)


def _average(samples: Sequence[FleetSample], value: Callable[[FleetSample], float]) -> float:
    return time_average(samples, {sample.at_seconds: value(sample) for sample in samples})


def _gpu_equivalents(record: PodRecord, nodes: Sequence[DemoNode]) -> float:
    """GPUs that the pod asks for; a part of a GPU counts by its memory units."""
    request = record.arrival.request
    if request.profile is None:
        return float(request.count)
    units = next(node.model.units for node in nodes if node.model.profile(request.profile) is not None)
    return request.units * request.count / units


def _served(pods: Sequence[PodRecord], plan: DemoPlan, weight: Callable[[PodRecord], float]) -> float:
    got = asked = 0.0
    for record in pods:
        served, wanted = served_seconds(record, plan.end_seconds)
        got += served * weight(record)
        asked += wanted * weight(record)
    return got / asked if asked else nan


def latencies(pods: Sequence[PodRecord], end_seconds: float) -> dict[str, float]:
    """Waiting times by road. A pod that never got a node counts with the time it waited until it left: with
    the placed ones alone, a side would look quicker the more pods it leaves waiting.
    """
    found: dict[str, float] = {}
    for road in ("planned", "webhook"):
        waited = [record for record in pods if record.road == road]
        seconds = [
            (
                min(record.arrival.leaves_seconds, end_seconds)
                if record.bound_seconds is None
                else record.bound_seconds
            )
            - record.created_seconds
            for record in waited
        ]
        found[f"{road}_pods"] = sum(record.bound_seconds is not None for record in waited)
        found[f"{road}_median_seconds"] = percentile(seconds, 0.5)
        found[f"{road}_p99_seconds"] = percentile(seconds, 0.99)
    return found


def _delivered(multi: Sequence[PodRecord], plan: DemoPlan) -> float:
    """NVLink share × GPU time served, over the GPU time asked for: a pod that never ran delivers nothing."""
    got = asked = 0.0
    for record in multi:
        served, wanted = served_seconds(record, plan.end_seconds)
        got += served * record.arrival.request.count * (record.nvlink_share or 0.0)
        asked += wanted * record.arrival.request.count
    return got / asked if asked else nan


def _within_goal(result: SideResult) -> float:
    """Of the requests that arrived; one that was not served in the run is not within the goal."""
    arrived = result.llm.arrived
    good = sum(1 for record in result.llm.served if record.first_token <= TTFT_GOAL_SECONDS)
    return good / arrived if arrived else nan


def _worst_period(result: SideResult) -> float:
    """The highest p95 of the time to first token over periods of ten seconds, by arrival."""
    periods: dict[int, list[float]] = {}
    for record in result.llm.served:
        periods.setdefault(int(record.arrived / _PERIOD_SECONDS), []).append(record.first_token)
    return max((percentile(values, 0.95) for values in periods.values()), default=nan)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
