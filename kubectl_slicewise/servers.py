"""``kubectl slicewise servers``: model servers that Prometheus sees, and which of their signals it has."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from kubectl_slicewise.prometheus_flags import add_access, no_answer, prometheus
from kubectl_slicewise.tables import table
from metrics.samples import NoData
from metrics.servers import PRESETS, Scope
from metrics.servers.check import Seen, check

_HEADER = ("NAMESPACE", "SERVER", "PODS", "IN-FLIGHT", "REQUESTS/S", "LATENCIES", "FINDINGS")


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The flags of the verb; the controller's own names."""
    flags.add_argument("--prometheus-url", required=True, metavar="URL", help="Prometheus query API")
    add_access(flags, timeout_seconds=5.0)
    flags.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what is seen; exit status 0 all signals there, 1 something is missing, 2 wrong flags."""
    try:
        source = prometheus(options)
    except ValueError as problem:
        print(f"kubectl slicewise servers: {problem}", file=sys.stderr)
        return 2
    with source:
        seen = check(source, time.time(), Scope(matchers=options.prometheus_matchers))
    if isinstance(seen, NoData):
        print(
            f"kubectl slicewise servers: {no_answer(seen.reason)}",
            file=sys.stderr,
        )
        return 1
    if options.output == "json":
        print(json.dumps([asdict(one) for one in seen], indent=2))
    else:
        print(as_table(seen))
    if not seen:
        print(_nothing(), file=sys.stderr)
    return 0 if seen and not any(signal.finding for one in seen for signal in one.signals) else 1


def as_table(seen: tuple[Seen, ...]) -> str:
    """One row a server and namespace; findings below one another in the last column."""
    rows: list[tuple[str, ...]] = []
    for one in seen:
        totals = {signal.name: signal.total for signal in one.signals}
        latencies = [s.name for s in one.signals if s.name not in ("in flight", "rate") and s.pods]
        findings = [f"{s.name} {s.finding}" for s in one.signals if s.finding]
        if one.others:
            findings.append(f"also marks of {', '.join(one.others)}")
        rows.append(
            (
                one.namespace,
                one.server,
                str(len(one.pods)),
                _number(totals.get("in flight")),
                _number(totals.get("rate")),
                ", ".join(latencies) or "none",
                findings[0] if findings else "-",
            )
        )
        rows += [("", "", "", "", "", "", finding) for finding in findings[1:]]
    return table(_HEADER, rows, right=frozenset({2, 3, 4}))


def _number(value: float | None) -> str:
    return "not told" if value is None else f"{value:.4g}"


def _nothing() -> str:
    return (
        "kubectl slicewise servers: no series of a known model server is scraped with the labels namespace "
        f"and pod. Known: {', '.join(PRESETS)}. Check that Prometheus scrapes the pods (PodMonitor, "
        "annotations) and keeps these labels."
    )
