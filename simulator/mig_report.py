"""What a MIG study says: per policy mean and spread over seeds, and Slicewise against each, paired by seed.

    {"load", "seeds", "grid", "model", "cards", "jobs", "mix",
     "policies": {NAME: {MEASURE: {"mean", "sd"}}},
     "order": {NAME: "urgency" | "arrival"},
     "paired": {"slicewise-vs-NAME": {MEASURE: {"mean", "ci95"}}}}    (and slicewise-webhook-vs-NAME, …)

``sd`` is the sample standard deviation over seeds. A paired value is slicewise − NAME on the same arrivals:
its mean, and as ``ci95`` the two ends of the 95 % interval of that mean (Student's t).

``order`` says how the queue goes. ``slicewise`` also chooses which waiting pod starts first; the others keep
kube-scheduler's order (arrival, backfill), ``slicewise-webhook`` too: it shows what placing alone is worth.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from simulator.mig_run import MigRun
from simulator.mig_study import MigStudy
from simulator.paired import difference

OURS = "slicewise"
PLACING = "slicewise-webhook"
NOTE = (
    f"{OURS} also chooses which waiting pod starts first; all others keep kube-scheduler's order (arrival, "
    "backfill)."
)

MEASURES: Mapping[str, Callable[[MigRun], float]] = MappingProxyType(
    {
        "gpc_utilisation_percent": lambda run: run.gpc_utilisation_percent,
        "gpc_utilisation_makespan_percent": lambda run: run.gpc_utilisation_makespan_percent,
        "stranded_percent": lambda run: run.stranded_percent,
        "stranded_cells_percent": lambda run: run.stranded_cells_percent,
        "mean_wait_seconds": lambda run: float(np.mean(run.waits)),
        "p95_wait_seconds": lambda run: float(np.quantile(run.waits, 0.95)),
        "accepted_percent": lambda run: run.accepted_percent,
    }
)
PAIRED = (
    "mean_wait_seconds",
    "p95_wait_seconds",
    "gpc_utilisation_percent",
    "stranded_percent",
    "accepted_percent",
)


def as_json(study: MigStudy) -> dict[str, Any]:
    """The study as JSON-ready values, rounded to 1/1000."""
    setting = study.setting
    return {
        "load": setting.load,
        "seeds": len(study.seeds),
        "grid": setting.grid,
        "model": setting.model,
        "cards": setting.nodes * setting.gpus,
        "jobs": setting.jobs,
        "mix": dict(zip(setting.profiles, setting.weights, strict=True)),
        "policies": {
            name: {measure: _spread([value(run) for run in runs]) for measure, value in MEASURES.items()}
            for name, runs in study.runs.items()
        },
        "order": {name: "urgency" if name == OURS else "arrival" for name in study.runs},
        "paired": {
            f"{ours}-vs-{name}": {
                measure: paired(
                    [MEASURES[measure](run) for run in study.runs[ours]],
                    [MEASURES[measure](run) for run in runs],
                )
                for measure in PAIRED
            }
            for ours in study.runs
            if ours.startswith(OURS)
            for name, runs in study.runs.items()
            if not name.startswith(OURS)
        },
    }


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean of the differences ours − theirs and the ends of its 95 % interval; None with one seed."""
    found = difference([a - b for a, b in zip(ours, theirs, strict=True)])
    ends = None if found.ends is None else [round(end, 3) for end in found.ends]
    return {"mean": round(found.mean, 3), "ci95": ends}


def as_text(study: MigStudy) -> str:
    """The table, shortest wait first."""
    report = as_json(study)
    shown = [ours for ours in (OURS, PLACING) if ours in report["policies"]]
    rows = [
        (
            "POLICY",
            "MEAN WAIT s",
            "SD s",
            "P95 WAIT s",
            "GPC USE %",
            "STRANDED %",
            *(f"{ours.upper()} − IT, s [95 %]" for ours in shown),
        )
    ]
    for name, found in sorted(
        report["policies"].items(), key=lambda item: item[1]["mean_wait_seconds"]["mean"]
    ):
        pairs = [report["paired"].get(f"{ours}-vs-{name}", {}).get("mean_wait_seconds") for ours in shown]
        rows.append(
            (
                name,
                f"{found['mean_wait_seconds']['mean']:.0f}",
                f"{found['mean_wait_seconds']['sd'] or 0:.0f}",
                f"{found['p95_wait_seconds']['mean']:.0f}",
                *(f"{found[m]['mean']:.2f}" for m in ("gpc_utilisation_percent", "stranded_percent")),
                *("-" if p is None else f"{p['mean']:+.0f}{_interval(p['ci95'])}" for p in pairs),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = "\n".join(
        "   ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return f"{table}\n{NOTE}" if OURS in shown else table


def _interval(ends: list[float] | None) -> str:
    return "" if ends is None else f" [{ends[0]:+.0f}, {ends[1]:+.0f}]"


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": round(float(np.mean(values)), 3), "sd": None if spread is None else round(spread, 3)}
