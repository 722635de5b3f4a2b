"""What the report says of packing: openb, MIG, plans, gangs, the cost of one decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def packing(found: Json) -> list[str]:
    """GPUs left unallocated on the openb lists."""
    seeds = found["seeds"]
    lists: Json = found["lists"]
    shown = ("fgd", "slicewise", "slicewise-repack")
    lines = [
        "## Packing: GPUs left unallocated",
        "",
        f"`python -m benchmarks.packing --seeds {len(seeds)}`, seeds {seeds[0]} to {seeds[-1]}",
        "",
        "1,213 nodes, 6,212 GPUs of the openb trace; pods come one by one until as many GPUs have "
        "been asked for as there are; mean ± standard deviation, % of all GPUs. *Bound*: nobody leaves "
        "fewer. *Closed*: the share of the distance of FGD (Fragmentation Gradient Descent) to the bound "
        "that is gained. See [packing.md](packing.md).",
        "",
        "| list | bound | FGD | slicewise | closed | slicewise-repack | closed | pods moved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, report in lists.items():
        policies = report["policies"]
        cells = [f"{name} | {report['bound']['unallocated_percent']:.2f}"]
        for policy in shown:
            item = policies.get(policy)
            if item is None:
                cells.append("–" if policy == "fgd" else "– | –")
                continue
            left = item["unallocated_percent"]
            cells.append(f"{left['mean']:.2f} ± {left['sd']:.2f}")
            if policy != "fgd":
                cells.append(f"{item['closed_percent_of_fgd_to_bound']:.0f} %")
        moved = policies.get("slicewise-repack", {}).get("moved_percent", 0.0)
        lines.append(f"| {' | '.join(cells)} | {moved:.1f} % |")
    means = [
        f"{policy} {_mean_closed(lists, policy):.1f} %"
        for policy in shown[1:]
        if any(policy in report["policies"] for report in lists.values())
    ]
    off = [
        (abs(item["from_published"]), name, policy)
        for name, report in lists.items()
        for policy, item in report["policies"].items()
        if "from_published" in item
    ]
    lines += ["", f"Closed on average: {', '.join(means)}."]
    if off:
        worst, name, policy = max(off)
        lines.append(
            f"The {len(off)} published means of FGD, BestFit, DotProd, GpuPacking, GpuClustering and "
            f"Random are reproduced within {worst:.2f} points ({policy} on {name} is the farthest)."
        )
    return [*lines, "", "![Allocation against arrivals](plots/openb-allocation.svg)"]


def _mean_closed(lists: Json, policy: str) -> float:
    closed = [
        report["policies"][policy]["closed_percent_of_fgd_to_bound"]
        for report in lists.values()
        if policy in report["policies"]
    ]
    return float(sum(closed) / len(closed)) if closed else float("nan")


def mig(found: Json) -> list[str]:
    """Waits and stranded capacity under MIGBench's protocol."""
    first = found["studies"][0]
    names = [
        name
        for name in ("slicewise", "slicewise-webhook", "hami", "fullest-hami", "first-fit")
        if name in first["policies"]
    ]
    lines = [
        "## MIG: waits and stranded capacity",
        "",
        f"`{found['command']}`",
        "",
        f"MIGBench's protocol: {first['jobs']} jobs, {first['cards']} {first['model']} cards, "
        f"{first['seeds']} paired seeds. *slicewise*: placement by value tables and the planner's choice of "
        "who starts first; *slicewise-webhook*: placement alone, pods tried in order of arrival as all "
        "others. "
        "Differences are slicewise minus the other, with their 95 % interval. See [mig.md](mig.md).",
        "",
        "| grid | load | policy | mean wait, s | p95, s | GPC use, % | stranded, % | slicewise − it, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in found["studies"]:
        for name in names:
            seen = study["policies"][name]
            pair = study["paired"].get(f"slicewise-vs-{name}")
            difference = "–"
            if pair is not None:
                low, high = pair["mean_wait_seconds"]["ci95"]
                difference = f"{pair['mean_wait_seconds']['mean']:+.0f} [{low:+.0f}, {high:+.0f}]"
            lines.append(
                f"| {study['grid']} | {study['load']} | {name} | {seen['mean_wait_seconds']['mean']:,.0f} "
                f"| {seen['p95_wait_seconds']['mean']:,.0f} | {seen['gpc_utilisation_percent']['mean']:.2f} "
                f"| {seen['stranded_percent']['mean']:.1f} | {difference} |"
            )
    return lines


def planner(found: Json) -> list[str]:
    """Plans against greedy and against their bound."""
    lines = [
        "## Plans",
        "",
        "`python -m benchmarks.planner`",
        "",
        f"{found['pods']} waiting pods on {found['nodes']:,} nodes, deadline "
        f"{found['deadline_seconds']:.0f} s, {found['seeds']} seeds a mix. The gap is to a bound that no "
        "plan beats.",
        "",
        "| mix | worst gap, % | mean gap, % | most pods proved | slowest, s | never worse than greedy |",
        "|---|---|---|---|---|---|",
    ]
    for name, mix in found["mixes"].items():
        lines.append(
            f"| {name} | {mix['worst_gap_percent']:.3f} | {mix['mean_gap_percent']:.3f} "
            f"| {mix['placed_proved']} of {found['seeds']} | {mix['slowest_seconds']:.2f} "
            f"| {'yes' if mix['never_worse_than_greedy'] else 'no'} |"
        )
    return lines


def gangs(found: Json) -> list[str]:
    """All or nothing, in a small world and on the real scheduler."""
    small, real = found["simulated"], found["real"]
    return [
        "## Gangs",
        "",
        "`python -m benchmarks.gangs`",
        "",
        f"{small['sets']:,} random sets of gangs with contention in a small world: "
        f"{len(small['broken_seeds'])} with a gang partly bound, starved or over capacity. On the real "
        f"kube-scheduler: {real['sets']} sets, {real['gangs']} gangs, {real['pods']} pods; "
        f"{len(real['partly_bound'])} sets with a partly bound gang, {len(real['starved'])} with a starved "
        "one.",
    ]


def decision(found: Json) -> list[str]:
    """One decision and one price update at openb's size."""
    lines = [
        "## One decision, one price update",
        "",
        "`python -m benchmarks.decision`",
        "",
        "Nodes and pods of the openb trace, many shapes of pods in turn (each must first hear of what the "
        "others took). *Both verbs*: filter and prioritize, for pods that a ReplicaSet spreads; *filter "
        "alone*: pods that get the one best node. Processor time of the answering thread; then of the whole "
        "server for a decision, with what is priced ahead after the answer. Price update: processor time on "
        "one core.",
        "",
        "| nodes | in use | both verbs p50, ms | p99, ms | filter alone p50, ms | p99, ms "
        "| whole server, ms | price update p50, s | max, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cluster in found["clusters"]:
        both, one = cluster["decision_processor_milliseconds"], cluster["one_node_processor_milliseconds"]
        update = cluster["price_update"]
        lines.append(
            f"| {cluster['nodes']:,} | {100 * cluster['used_share']:.0f} % | {both['p50']:.2f} "
            f"| {both['p99']:.2f} | {one['p50']:.2f} | {one['p99']:.2f} "
            f"| {cluster['decision_server_processor_milliseconds']:.1f} | {update['p50_seconds']:.2f} "
            f"| {update['max_seconds']:.2f} |"
        )
    return lines
