"""What a metric is, as far as its readers see it. Pure data; the product's own are in ``names.py``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal


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
