"""Section of docs/benchmarks.md about the autoscaling study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_REACTIVE = ("hpa-gpu", "hpa-inflight", "keda-queue", "kpa", "wva", "ray-serve")


def autoscaling(found: Json) -> list[str]:
    """Slicewise untuned beside each rival's best target, found with hindsight."""
    lines = [
        "## Autoscaling",
        "",
        f"`{found['command']}`",
        "",
        f"Simulation with the product's own decision. {found['server_model']['name']}; a request counts "
        f"when its first token comes within {found['server_model']['ttft_seconds']:.0f} s; refused and "
        "unfinished ones are misses. Slicewise runs with one default policy on all traces. A rival's best: "
        "the fewest GPU-hours at which it reaches what Slicewise attained (99 % at most), over all targets "
        "tried, chosen with hindsight; a dash where no target does. Static: so many replicas all the time. "
        "The clairvoyant knows demand one start-up ahead.",
        "",
        "| trace | start-up, s | attained, % | GPU-hours | turns an hour | best rival | static "
        "| clairvoyant |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in found["studies"]:
        if study["faults"]:
            continue
        own = study["policies"]["slicewise"]["default"]
        wanted = min(own["slo_attainment"], 0.99)
        rivals = {name: _least(study, name, wanted) for name in _REACTIVE if name in study["policies"]}
        told = [(hours, name) for name, hours in rivals.items() if hours is not None]
        best = min(told) if told else None
        beside = [_least(study, name, wanted) for name in ("static", "clairvoyant")]
        lines.append(
            f"| {study['trace']} | {study['startup_seconds']} | {100 * own['slo_attainment']:.2f} "
            f"| {own['gpu_hours']:.4g} | {own['reversals_per_hour']:.1f} "
            f"| {'–' if best is None else f'{best[0]:.4g} ({best[1]})'} "
            + " ".join("| –" if hours is None else f"| {hours:.4g}" for hours in beside)
            + " |"
        )
    return lines + _faults(found)


def held_out(found: Json) -> list[str]:
    """Slicewise on loads that no constant was chosen on, by family and in all."""
    lines = [
        "## Autoscaling on held-out loads",
        "",
        f"`{found['command']}`",
        "",
        "Loads made by seeds and later parts of the recordings; a case is a load at one start-up time. "
        "Ratio: GPU-hours over those of the rival that attains as much (99 % at most) for the fewest, over "
        "all rivals and targets, chosen with hindsight; its 95 % interval is over loads. Short: below 99 % "
        "where some rival reaches it at some target, at whatever cost.",
        "",
        "| loads | cases | ratio | attained, mean % | least % | cases at 99 % | short | over the clairvoyant "
        "| turns an hour, most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in (found["by_family"] | {"all": found["summary"]}).items():
        over, ends = one["over_best_rival"], one["over_best_rival_interval"]
        ratio = "–" if over is None else f"{over:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")
        seer = one["over_clairvoyant"]
        lines.append(
            f"| {name} | {one['cases']} | {ratio} | {100 * one['mean_attainment']:.2f} "
            f"| {100 * one['least_attainment']:.2f} | {round(one['share_at_objective'] * one['cases'])} "
            f"| {one['short_where_a_rival_is_not']} | {'–' if seer is None else f'{seer:.2f}'} "
            f"| {one['most_reversals_per_hour']:.1f} |"
        )
    return lines


def _faults(found: Json) -> list[str]:
    """Slicewise under each fault, beside what the best rival attains without any."""
    verdict = found.get("faults_verdict")
    if not verdict:
        return []
    without = verdict[0]
    near, best = without["rival_no_dearer"], without["rival"]
    beside = "no rival costs no more"
    if near is not None:
        beside = f"the best rival that costs no more attains {_point(near)}"
    lines = [
        "",
        "Faults at the peak (deepseek-r1, 12 h, start-up 120 s), Slicewise as shipped. Without any fault "
        f"{beside}, the best at any cost {_point(best)}.",
        "",
        "| fault | attained, % | GPU-hours | turns an hour | killed before serving |",
        "|---|---|---|---|---|",
    ]
    for one in verdict:
        own = one["slicewise"]
        lines.append(
            f"| {' + '.join(one['faults']) or 'none'} | {100 * own['slo_attainment']:.2f} "
            f"| {own['gpu_hours']:.4g} | {own['reversals_per_hour']:.1f} "
            f"| {own['killed_before_serving']:.0f} |"
        )
    return lines


def _point(rival: Json) -> str:
    return f"{100 * rival['slo_attainment']:.2f} % ({rival['policy']}, {rival['gpu_hours']:.4g} GPU-h)"


def _least(study: Json, policy: str, attainment: float) -> float | None:
    """GPU-hours of the cheapest point of a frontier that attains as much."""
    points = study["policies"].get(policy, {}).get("frontier", ())
    enough = [point["gpu_hours"] for point in points if point["slo_attainment"] >= attainment]
    return min(enough) if enough else None
