"""What a metric is, as far as its readers see it. Pure data; the product's own are listed in
``names.py``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

WORK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets for a piece of work: a round, a plan, a query."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's public face. ``name`` is as scraped (counters with ``_total``). ``initial``: the label sets
    that start at 0. ``starts_unknown``: NaN until first set.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()
    initial: tuple[tuple[str, ...], ...] = ()
    buckets: tuple[float, ...] = ()
    starts_unknown: bool = False


def each(*values: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Every set of labels with one of the values for each label."""
    return tuple(product(*values))
