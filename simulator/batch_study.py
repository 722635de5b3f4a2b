"""Batch jobs on many grid zones: what each policy saves of the carbon of starting at once.

Every zone and seed is a case of its own: a span of days drawn from the year (after the weeks that a
forecast needs to have seen), jobs drawn anew, all policies on the same. ``saving_ratio`` is 1 − carbon /
carbon of ``immediate``; ``of_perfect`` is the saving over that of ``perfect``, summed over the cases before
dividing, so that a grid without ups and downs, where nothing is to be had, does not decide the figure.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoscaler.batch.curve import Floats
from autoscaler.batch.grid_forecast import KEPT_HOURS
from metrics.carbon.file import HourlyTable, TableRefused, parse_table
from simulator.batch_policy import batch_policies
from simulator.batch_run import BatchOutcome, replay
from simulator.batch_work import batch_runs
from simulator.workers import workers

FIRST_SEED: Final = 42
DEFAULT_FILE: Final = Path(__file__).with_name("data") / "carbon" / "hourly-2023-lifecycle.csv.gz"
POLICIES: Final = ("immediate", "threshold", "green-hours", "slicewise", "slicewise-told", "perfect")
_AFTER_HOURS: Final = 96
"""What a case may need of the file beyond its span: windows that reach past it, and two days of forecast."""


@dataclass(frozen=True, slots=True)
class BatchAsked:
    """What to study; hours by zone are read from ``file``."""

    file: str
    zones: tuple[str, ...]
    seeds: tuple[int, ...]
    policies: tuple[str, ...] = POLICIES
    jobs: int = 1000
    days: float = 28.0
    window_hours: float = 24.0
    gpus: float = 24.0
    effort: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One zone and seed: outcomes by policy."""

    zone: str
    seed: int
    first_hour: int
    outcomes: Mapping[str, BatchOutcome]


def read_zones(path: Path) -> HourlyTable:
    """Read an hourly table, gzipped or not. Raises TableRefused, also for a file that cannot be read."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        return parse_table(text, str(path))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as problem:
        got = getattr(problem, "strerror", None) or problem
        raise TableRefused(
            f"{path}: {got}; expected a table of hourly intensities, CSV, gzipped or not"
        ) from None


def check(asked: BatchAsked, table: HourlyTable) -> None:
    """Raise TableRefused where the table cannot serve what is asked for."""
    unknown = [zone for zone in asked.zones if zone not in table.columns]
    if unknown:
        known = ", ".join(sorted(table.columns))
        raise TableRefused(f"{asked.file}: no zone {', '.join(unknown)}; it has: {known}")
    needed = KEPT_HOURS + int(asked.days * 24) + _AFTER_HOURS + int(asked.window_hours)
    if table.hours < needed:
        raise TableRefused(
            f"{asked.file}: got {table.hours} hours, expected {needed} or more for {asked.days:g} days after "
            f"{KEPT_HOURS} hours of history; give a longer file or fewer --days"
        )
    for zone in asked.zones:
        if not np.isfinite(table.columns[zone]).all():
            raise TableRefused(f"{asked.file}: zone {zone} has empty cells; the replay needs every hour")


def study(
    asked: BatchAsked,
    table: HourlyTable,
    *,
    processes: int = 1,
    done: Callable[[Case], None] = lambda case: None,
) -> list[Case]:
    """Run every case; ``done`` is told of each that is finished, seed by seed."""
    orders = [
        (asked, zone, seed, np.asarray(table.columns[zone])) for seed in asked.seeds for zone in asked.zones
    ]
    found: dict[tuple[str, int], Case] = {}

    def finished(case: Case) -> None:
        found[case.zone, case.seed] = case
        done(case)

    if processes <= 1 or len(orders) == 1:
        for order in orders:
            finished(_case(*order))
    else:
        with workers(processes) as pool:
            for future in as_completed([pool.submit(_case, *order) for order in orders]):
                finished(future.result())
    return [found[zone, seed] for _, zone, seed, _ in orders]


def _case(asked: BatchAsked, zone: str, seed: int, truth: Floats) -> Case:
    last = len(truth) - int(asked.days * 24) - int(asked.window_hours) - _AFTER_HOURS
    first_hour = int(np.random.default_rng([seed, *zone.encode()]).integers(KEPT_HOURS, last + 1))
    runs = batch_runs(asked.jobs, asked.days, asked.window_hours, seed)
    known = batch_policies(asked.effort)
    outcomes = {name: replay(runs, truth, first_hour, asked.gpus, known[name]) for name in asked.policies}
    return Case(zone, seed, first_hour, outcomes)


def totals(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """By policy, over some cases together: saving, share of the perfect saving, misses, delay."""
    if not cases:
        return {}
    kilograms = {name: sum(case.outcomes[name].kilograms for case in cases) for name in cases[0].outcomes}
    at_once, perfect = kilograms.get("immediate"), kilograms.get("perfect")
    found: dict[str, dict[str, Any]] = {}
    for name in kilograms:
        outcomes = [case.outcomes[name] for case in cases]
        saved = None if at_once is None else at_once - kilograms[name]
        most = None if at_once is None or perfect is None else at_once - perfect
        found[name] = {
            "kilograms": kilograms[name],
            "saving_ratio": None if saved is None or not at_once else saved / at_once,
            "of_perfect": None if saved is None or not most else saved / most,
            "missed_deadlines": sum(one.missed for one in outcomes),
            "mean_delay_hours": float(np.mean([one.delay_hours for one in outcomes])),
            "least_slack_hours": min(one.least_slack_hours for one in outcomes),
        }
    return found


def as_json(asked: BatchAsked, cases: Sequence[Case]) -> dict[str, Any]:
    """The document of a study: totals over all cases and by zone, and every case."""
    return {
        **{key: value for key, value in asdict(asked).items() if key not in ("file", "policies")},
        "file": Path(asked.file).name,
        "policies": totals(cases),
        "by_zone": {zone: totals([case for case in cases if case.zone == zone]) for zone in asked.zones},
        "cases": [asdict(case) for case in cases],
    }


def as_rows(cases: Sequence[Case]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the totals."""
    header = ("policy", "kg CO2e", "saved", "of perfect", "missed", "mean delay h", "least slack h")
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{one['kilograms']:.1f}",
            _percent(one["saving_ratio"]),
            _percent(one["of_perfect"]),
            str(one["missed_deadlines"]),
            f"{one['mean_delay_hours']:.1f}",
            f"{one['least_slack_hours']:.1f}",
        )
        for name, one in totals(cases).items()
    ]
    return header, rows


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100.0 * ratio:.1f} %"
