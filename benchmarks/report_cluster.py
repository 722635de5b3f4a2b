"""What the report says of the runs on a real control plane: demo, extender, planned road, arrivals, sync."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def extender(found: Json) -> list[str]:
    """The webhook, on its own and on the real scheduler."""
    server, scheduler = found["server"], found["scheduler"]
    objects = server["objects"]
    lines = [
        "## The extender",
        "",
        "`python -m benchmarks.extender`",
        "",
        f"{objects['nodes']:,} nodes of 8 GPUs from a snapshot "
        f"({objects['resourceSlices']:,} ResourceSlices, "
        f"{objects['pods']:,} pods), every node named in each request, one core; time in the server:",
        "",
        "| verb | p50, ms | p99, ms | requests |",
        "|---|---|---|---|",
    ]
    for verb in ("filter", "prioritize"):
        times = server["server_milliseconds"][verb]
        lines.append(f"| {verb} | {times['p50']:.2f} | {times['p99']:.2f} | {times['requests']} |")
    means = scheduler["mean_milliseconds"]
    return [
        *lines,
        "",
        f"Resident memory: {server['resident_mebibytes']['now']:.0f} MiB.",
        "",
        f"On the real kube-scheduler, {scheduler['nodes']:,} nodes, every node scored, mean of "
        "`scheduler_scheduling_algorithm_duration_seconds`:",
        "",
        "| no extender | an extender that echoes | Slicewise | Slicewise over echo |",
        "|---|---|---|---|",
        f"| {means['none']:.2f} ms | {means['echo']:.2f} ms | {means['ours']:.2f} ms "
        f"| {scheduler['ours_over_echo']:.2f} |",
    ]


def planned_road(found: Json) -> list[str]:
    """Nominations against the scheduler as it ships."""
    lines = [
        "## The planned road",
        "",
        "`python -m benchmarks.planned_road`",
        "",
        "Pods wait, then the scheduler starts. *Plain*: kube-scheduler as it ships, default sampling, "
        "no extender. "
        "*Planned*: the planner has nominated a node for each pod, the extender is configured.",
        "",
        "| nodes | pods | plain, mean ms | planned, mean ms | ratio | bound where nominated |",
        "|---|---|---|---|---|---|",
    ]
    for run in found["runs"]:
        lines.append(
            f"| {run['nodes']:,} | {run['pods']:,} | {run['plain_mean_milliseconds']:.2f} "
            f"| {run['planned_mean_milliseconds']:.2f} | {run['ratio']:.2f} "
            f"| {run['bound_where_nominated']:,} |"
        )
    return lines


def sync(found: Json) -> list[str]:
    """From nothing to ready, and from a change to the prices."""
    change = found["change_to_price_milliseconds"]
    return [
        "## Keeping up with the cluster",
        "",
        "`python -m benchmarks.sync`",
        "",
        f"{found['nodes']:,} nodes and {found['pods']:,} pods on a real kube-apiserver: ready "
        f"{found['seconds_to_ready']:.1f} s after the process start, "
        f"{found['resident_mib']:.0f} MiB resident (peak {found['peak_resident_mib']:.0f}). "
        "From the API server's answer to a change until the prices know it: "
        f"p50 {change['p50']:.1f} ms, p99 {change['p99']:.1f} ms over {change['changes']} changes.",
    ]


def demo(found: Json) -> list[str]:
    """The same arrivals with and without."""
    settings = found["settings"]
    lines = [
        "## The demo",
        "",
        f"`make demo`, seed {settings['seed']}: {settings['nodes']} nodes, {settings['gpus']} GPUs, "
        f"{settings['pods']} pods of the openb trace in {settings['window_seconds']:.0f} s, and the Azure "
        "conversation trace on an LLM service.",
        "",
        "| | unit | plain kube-scheduler | Slicewise | better |",
        "|---|---|---|---|---|",
    ]
    for line in found["lines"]:
        plain, ours = (number(line[side]) for side in ("plain", "slicewise"))
        lines.append(f"| {line['name']} | {line['unit']} | {plain} | {ours} | {line['verdict'] or '–'} |")
    return lines


def arrivals(found: Json) -> list[str]:
    """Pods that keep coming, side by side."""
    lines = [
        "## Pods that keep arriving",
        "",
        "`python -m benchmarks.arrivals`",
        "",
        "Pods of 1, 2, 4 and 8 GPUs are created on a running cluster, at the rate named or as fast as the "
        "API server takes them. *plain*: kube-scheduler as it ships; *sampled*: our profile with the "
        "scheduler's own sampling of nodes; *webhook*: our profile; *ranked*: our profile with "
        "`extender.oneNode: never`; *planned*: the same, each pod behind the "
        "plan gate. Stranded: Fragmentation Gradient Descent's measure, % of the free GPUs. CPU: of all "
        "servers together; they share the machine, so that where they fill it the API server's part decides.",
        "",
        "| nodes | a second | side | pods/s | created to bound p50, ms | p99, ms | algorithm, ms "
        "| stranded, % | nodes used | CPU a pod, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in found["runs"]:
        rate = f"{run['rate']:.0f}" if run["rate"] else "any"
        for side, seen in run["sides"].items():
            bound = seen["created_to_bound_milliseconds"]
            lines.append(
                f"| {run['nodes']:,} | {rate} | {side} | {seen['pods_per_second']:.0f} | {bound['p50']:,.0f} "
                f"| {bound['p99']:,.0f} | {seen['algorithm_mean_milliseconds']:.2f} "
                f"| {seen['stranded_percent']:.1f} | {seen['nodes_used']:,} "
                f"| {sum(seen['cpu_milliseconds_per_pod'].values()):.1f} |"
            )
    return lines


def number(value: float | None) -> str:
    """Four digits, thousands with a comma, a dash for what was not measured."""
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
