"""How many more pods of a workload are on their way: a mean and a standard deviation.

The autoscaler knows three things that no pod shows yet: replicas it wants but that do not exist, how far it
may still go (``maxReplicas``), and what its own forecast says. ``expected_more`` puts them together; the
controller writes the answer as text on the workload's policy ConfigMap, and whoever solves prices reads it
there (``scheduler.forecasts``):

    slicewise.io/forecast-replicas: "3.5±1.2"        more replicas than exist now: mean ± standard deviation
    slicewise.io/forecast-class: "whole:1/8000m/65536Mi"     what one of them asks for (``packing.mix``)

Absent or unreadable text is NoData, never 0 replicas. Pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from metrics.samples import NoData

FORECAST_ANNOTATION = "slicewise.io/forecast-replicas"
FORECAST_CLASS_ANNOTATION = "slicewise.io/forecast-class"

_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:(?:±|\+-|\+/-)\s*(\d+(?:\.\d+)?))?\s*")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Requests that are on their way: ``mean`` ≥ 0 and standard deviation ``spread`` ≥ 0."""

    mean: float
    spread: float = 0.0

    def __str__(self) -> str:
        return f"{self.mean:.6g}±{self.spread:.6g}"


def read_forecast(text: str | None) -> Forecast | NoData:
    """Read ``mean±sd`` (also ``mean`` alone, ``mean+-sd``)."""
    if text is None:
        return NoData("the autoscaler has written no forecast", "empty")
    found = _TEXT.fullmatch(text) if len(text) <= 64 else None
    if found is None:
        return NoData(
            f"{FORECAST_ANNOTATION}: got {text[:40]!r}, expected mean±deviation such as 3.5±1.2", "malformed"
        )
    return Forecast(float(found[1]), float(found[2] or 0.0))


def expected_more(current: int, wanted: int, most: int, predicted: Forecast | NoData) -> Forecast:
    """Replicas beyond the ``current`` ones, between those wanted already and ``most`` in all.

    ``predicted``: the autoscaler's forecast of replicas in all at the end of its horizon; without one, what
    is wanted and missing is all that is expected. The deviation is cut where it reaches beyond the bounds.
    """
    missing, headroom = max(0, wanted - current), max(0, most - current)
    missing = min(missing, headroom)
    if isinstance(predicted, NoData) or not math.isfinite(predicted.mean):
        return Forecast(float(missing))
    mean = min(max(predicted.mean - current, float(missing)), float(headroom))
    return Forecast(mean, min(predicted.spread, headroom - missing))
