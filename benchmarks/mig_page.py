"""Write the numbers of docs/mig.md anew from build/bench/mig.json and the runs on the real control plane.

Only what stands between the marks ``<!-- numbers -->`` and ``<!-- end -->`` changes; nothing is typed by hand
there. Usage: python -m benchmarks.mig_page [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PAGE = Path("docs/mig.md")
STUDY = Path("build/bench/mig.json")
BOUND = Path("build/bench/mig_bound.json")
CLUSTER = (Path("build/bench/mig_on_cluster.json"), *sorted(STUDY.parent.glob("mig_orders*_on_cluster.json")))
BEGIN, END = "<!-- numbers -->", "<!-- end -->"
OURS = ("slicewise-webhook", "slicewise")
AGAINST = ("hami", "first-fit")

Json = dict[str, Any]


def numbers(study: Json, cluster: Sequence[Json], bound: Json | None = None) -> str:
    """The block as Markdown. ``cluster``: reports of ``benchmarks.mig_on_cluster``; ``bound``: that of
    ``benchmarks.mig_bound``.
    """
    lines = [f"`{study['command']}`", *_main(study), *_elsewhere(study), *_orders(study)]
    if bound is not None:
        lines += _bound(bound)
    if cluster:
        lines += ["", "### On the real control plane"]
    for report in cluster:
        lines += _cluster(report)
    return "\n".join(lines)


def _main(study: Json) -> Iterator[str]:
    for grid in dict.fromkeys(one["grid"] for one in study["studies"]):
        found = [one for one in study["studies"] if one["grid"] == grid]
        first = found[0]
        mix = " : ".join(f"{name.split('.')[0]} {weight:g}" for name, weight in first["mix"].items())
        loads = [f"{one['load']:g}" for one in found]
        what = f"{first['cards']} cards {first['model']}, {first['jobs']} jobs, {mix}, {first['seeds']} seeds"
        yield from ("", f"### {grid} grid, {what}", "")
        yield from ("Mean wait / P95 wait, s; GPC utilisation, %; stranded, %.", "")
        yield _row("policy", [f"load {load}" for load in loads])
        yield "|---" * (len(loads) + 1) + "|"
        for name in first["policies"]:
            yield _row(f"`{name}`", [_cell(one["policies"][name]) for one in found])
        pairs = [(a, b) for a in OURS for b in AGAINST if f"{a}-vs-{b}" in first["paired"]]
        if pairs:
            yield ""
            yield _row("paired difference of the mean wait, s [95 %]", [f"load {load}" for load in loads])
            yield "|---" * (len(loads) + 1) + "|"
            for ours, other in pairs:
                cells = [
                    _difference(one["paired"][f"{ours}-vs-{other}"]["mean_wait_seconds"]) for one in found
                ]
                yield _row(f"`{ours}` − `{other}`", cells)


def _elsewhere(study: Json) -> Iterator[str]:
    found = study.get("elsewhere", [])
    if not found:
        return
    yield from ("", f"### Elsewhere: other models, mixes and sizes, {found[0]['seeds']} seeds each", "")
    yield f"Of {len(found)} studies, in how many the mean wait is lower (surely so) / surely higher:"
    yield ""
    yield _row("", [f"than `{other}`" for other in AGAINST])
    yield "|---" * (len(AGAINST) + 1) + "|"
    for ours in OURS:
        cells = []
        for other in AGAINST:
            pairs = [one["paired"][f"{ours}-vs-{other}"]["mean_wait_seconds"] for one in found]
            lower = sum(pair["mean"] < 0 for pair in pairs)
            surely = sum(pair["ci95"] is not None and pair["ci95"][1] < 0 for pair in pairs)
            higher = sum(pair["ci95"] is not None and pair["ci95"][0] > 0 for pair in pairs)
            cells.append(f"{lower} ({surely}) / {higher}")
        yield _row(f"`{ours}`", cells)


def _orders(study: Json) -> Iterator[str]:
    found = study.get("orders", [])
    if not found:
        return
    yield from ("", f"### What the driver's order is worth, {found[0]['seeds']} seeds", "")
    yield "Without a queue: pods accepted, %; GPC utilisation, %. Then paired differences of accepted [95 %]."
    yield ""
    names = list(found[0]["policies"])
    others = [name for name in names if name.startswith("driver-")]
    heads = [*(f"`{name}`" for name in names), *(f"− `{name}`" for name in others)]
    yield _row("mix; cluster; load", heads)
    yield "|---" * (len(heads) + 1) + "|"
    for one in found:
        mix = " : ".join(f"{name.split('.')[0]} {weight:g}" for name, weight in one["mix"].items())
        cells = [
            f"{one['policies'][name]['accepted_percent']['mean']:.2f}; "
            f"{one['policies'][name]['gpc_utilisation_percent']['mean']:.2f}"
            for name in names
        ]
        pairs = [one["paired"].get(f"slicewise-installed-vs-{name}") for name in others]
        cells += [_difference(pair["accepted_percent"], 2) if pair else "" for pair in pairs]
        nodes = one.get("nodes", 1)
        yield _row(f"{mix}; {nodes} × {one['cards'] // nodes} GPUs; {one['load']:g}", cells)


def _bound(report: Json) -> Iterator[str]:
    yield from ("", "### What any order could accept: two cards, solved exactly", "")
    yield from (f"`{report['command']}`", "", "Pods accepted, %.", "")
    names = list(report["mixes"][0]["accepted_percent"])
    yield _row("mix; load", [f"`{name}`" for name in names])
    yield "|---" * (len(names) + 1) + "|"
    for one in report["mixes"]:
        accepted = one["accepted_percent"]
        yield _row(f"{one['mix']}; {one['load']:g}", [f"{accepted[name]:.2f}" for name in names])


def _cluster(report: Json) -> Iterator[str]:
    yield from ("", f"`{report['command']}`", "")
    heads = ("mean scheduling, ms", "P95, ms", "accepted, %", "mean wait, s", "slices published anew")
    yield _row("side", list(heads))
    yield "|---" * (len(heads) + 1) + "|"
    for name, side in report["sides"].items():
        keys = (
            "mean_scheduling_milliseconds",
            "p95_scheduling_milliseconds",
            "accepted_percent",
            "mean_wait_seconds",
            "republished_slices",
        )
        yield _row(f"`{name}`", [str(side.get(key, "")) for key in keys])
    if len(report.get("seeds", ())) > 1:
        yield from _seeds(report)


def _seeds(report: Json) -> Iterator[str]:
    """Accepted pods by seed; the table before is of the first one."""
    yield from (
        "",
        f"Accepted of {report['jobs']} pods by seed, and what `slicewise` accepts more [95 %]:",
        "",
    )
    yield _row("side", [*(f"seed {seed}" for seed in report["seeds"]), "`slicewise` − it"])
    yield "|---" * (len(report["seeds"]) + 2) + "|"
    for name, counts in report["accepted"].items():
        pair = report["paired"].get(name)
        yield _row(f"`{name}`", [*map(str, counts), _difference(pair, 2) if pair else ""])


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _cell(found: Json) -> str:
    wait, late = found["mean_wait_seconds"]["mean"], found["p95_wait_seconds"]["mean"]
    used, stranded = found["gpc_utilisation_percent"]["mean"], found["stranded_percent"]["mean"]
    return f"{wait:.0f} / {late:.0f}; {used:.2f}; {stranded:.1f}"


def _difference(pair: Json, digits: int = 0) -> str:
    ends = pair["ci95"]
    spread = f" [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]" if ends else ""
    return f"{pair['mean']:+.{digits}f}{spread}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; with --check only say whether it is up to date (exit status 1 where not)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mig_page", description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    cluster = [json.loads(path.read_text()) for path in CLUSTER if path.exists()]
    bound = json.loads(BOUND.read_text()) if BOUND.exists() else None
    block = numbers(json.loads(STUDY.read_text()), cluster, bound)
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    fresh = f"{before}{BEGIN}\n{block}\n{END}{after}"
    if options.check:
        print(f"{PAGE}: {'up to date' if fresh == text else 'differs from ' + str(STUDY)}")
        return int(fresh != text)
    PAGE.write_text(fresh, encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
