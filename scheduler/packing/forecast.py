"""How many more pods of each class are on their way: a mean and a standard deviation.

The autoscaler knows three things that no pod shows yet: replicas it wants but that do not exist, how far it
may still go (``maxReplicas``), and what its own forecast says. ``expected_more`` puts them together for one
workload. The controller writes the sums over all workloads as text into one ConfigMap of the add-on's own
namespace, and whoever solves prices reads it there (``scheduler.forecasts``):

    metadata.annotations:
      slicewise.io/valid-until: "1795252800"         Unix seconds: that of a dead controller ends
    data:
      classes: "whole:1/8000m/65536Mi 3.5±1.2"       a class a line, how many more of it than exist now, mean
                                                     ± standard deviation

Prices want no more than the sums, so it grows with the classes of demand and not with the workloads: ten
thousand classes fit into the 1 MiB of a ConfigMap. Of more, those of which least is expected are left out.
Keys do not count: several are added up, as earlier versions wrote one a workload.

One object of ours, and not annotations on the policies of users: those come out of repositories, and tools
that keep them so would fight over it. What is absent or unreadable is told and left out, never read as 0.
Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from metrics.samples import NoData

FORECAST_CONFIG_MAP = "slicewise-forecast"
VALID_UNTIL_ANNOTATION = "slicewise.io/valid-until"

KEY = "classes"
MOST_BYTES = 1_000_000

_LINE = re.compile(r"(\S+)\s+(\d{1,9}(?:\.\d+)?)(?:\s*(?:±|\+-|\+/-)\s*(\d{1,9}(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Requests that are on their way: ``mean`` ≥ 0 and standard deviation ``spread`` ≥ 0."""

    mean: float
    spread: float = 0.0

    def __str__(self) -> str:
        return f"{self.mean:.4f}±{self.spread:.4f}"

    def __add__(self, other: Forecast) -> Forecast:
        """Both together, as independent of one another."""
        return Forecast(self.mean + other.mean, math.hypot(self.spread, other.spread))


def expected_more(current: int, wanted: int, most: int, predicted: Forecast | NoData) -> Forecast:
    """Replicas beyond the ``current`` ones, between those wanted already and ``most`` in all.

    ``predicted``: the autoscaler's forecast of replicas in all at the end of its horizon; without one, what
    is wanted and missing is all that is expected. The deviation is cut where it reaches beyond the bounds.
    """
    headroom = max(0, most - current)
    missing = min(max(0, wanted - current), headroom)
    if isinstance(predicted, NoData) or not math.isfinite(predicted.mean):
        return Forecast(float(missing))
    mean = min(max(predicted.mean - current, float(missing)), float(headroom))
    return Forecast(mean, min(max(0.0, predicted.spread), float(headroom - missing)))


def write_forecasts(by_class: Mapping[str, Forecast]) -> tuple[dict[str, str], int]:
    """``data`` of the ConfigMap, and how many classes it has no room for."""
    lines = {name: f"{name} {forecast}" for name, forecast in by_class.items()}
    size, kept = 0, set()
    for name in sorted(lines, key=lambda name: (-by_class[name].mean - by_class[name].spread, name)):
        size += len(lines[name].encode()) + 1
        if size > MOST_BYTES:
            break
        kept.add(name)
    return {KEY: "\n".join(lines[name] for name in sorted(kept))}, len(lines) - len(kept)


def read_forecasts(data: Mapping[str, str]) -> tuple[dict[str, Forecast], list[str]]:
    """Sum up all forecasts by class name; and a sentence for each line that is left out."""
    total: dict[str, Forecast] = {}
    problems: list[str] = []
    for key, text in sorted(data.items()):
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                problems.append(
                    f"{key}, line {number}: got {line.strip()[:60]!r}, expected a class, a mean and a "
                    "deviation such as whole:1/8000m/65536Mi 3.5±1.2"
                )
                continue
            forecast = Forecast(float(found[2]), float(found[3] or 0.0))
            total[found[1]] = total.get(found[1], Forecast(0.0)) + forecast
    return total, problems


def still_valid(valid_until: str | None, now: float) -> NoData | None:
    """Why a forecast that says it holds until then must not be used, or None. ``now``: Unix seconds."""
    try:
        until = float(valid_until or "")
    except ValueError:
        until = math.nan
    if not math.isfinite(until):
        return NoData(
            f"{VALID_UNTIL_ANNOTATION}: got {valid_until!r}, expected Unix seconds such as 1795252800",
            "malformed",
        )
    if until < now:
        return NoData(
            f"the forecast ended {now - until:.0f} s ago; the controller has not renewed it", "stale"
        )
    return None
