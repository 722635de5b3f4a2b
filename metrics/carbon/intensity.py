"""The value every carbon provider gives, and what a provider promises.

Units: grams of CO2 equivalent per kilowatt-hour; times in Unix seconds. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from metrics.samples import NoData

Kind: TypeAlias = Literal["average", "marginal"]


@dataclass(frozen=True, slots=True)
class Intensity:
    """Intensity of ``zone`` from ``at_seconds`` on. After ``valid_until_seconds`` it must not be used any
    more. ``estimated``: a forecast or the provider's own estimate rather than a measurement.
    """

    zone: str
    grams_per_kwh: float
    kind: Kind
    at_seconds: float
    valid_until_seconds: float
    source: str
    estimated: bool


class CarbonProvider(Protocol):
    """Where intensities come from. Methods never raise for an outage or a bad answer: they return ``NoData``.
    They may block on the network (bounded by the provider's timeout): call them off the request path."""

    @property
    def source(self) -> str:
        """Short name for labels and bills."""

    @property
    def kind(self) -> Kind:
        """Average or marginal: the same for every answer of this provider."""

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        """Intensity in force at ``now``."""

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        """Intensities from ``now`` on, in time order, as far as the provider sees."""
