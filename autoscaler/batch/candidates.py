"""Every start that a job may have, and what each costs: a grid of half-hours from now on.

    cost = kW × (grams of carbon × price of a tonne + price of the energy), integrated from start to
    expected end
           + delay_hour × hours of delay

A job may start at any grid point up to its latest start, in any pool it may use. A zone whose forecast is
not known costs what the mean of the known ones costs: it must not win for not being measured. Where none is
known, now is as good as any other time, and ties go to the earlier start. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoscaler.batch.curve import DAY_SECONDS, HOUR_SECONDS, Curve, Floats
from autoscaler.batch.work import HeldJob, Pool
from metrics.samples import NoData

SLOT_SECONDS: Final = 1800.0
HORIZON_SLOTS: Final = 7 * 48
"""A window may be longer; its end comes into sight in time."""
_GRAMS_PER_TONNE: Final = 1_000_000.0
_JOULES_PER_KILOWATT_HOUR: Final = 3.6e6
_EARLIER_IS_BETTER: Final = 1e-9
_LONGEST_OCCUPIED: Final = 1.5

Forecasts = Mapping[str, "Curve | NoData"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """One job's choices: ``costs`` float64[pools, slots] (infinite: not allowed), rows as in ``pools``;
    ``occupied_slots``: how many slots it keeps its GPUs.
    """

    job: HeldJob
    pools: tuple[int, ...]
    costs: Floats
    occupied_slots: int

    @property
    def best(self) -> tuple[int, int]:
        """Row and slot of the cheapest, the earliest of equals."""
        row, slot = np.unravel_index(int(np.argmin(self.costs.T)), self.costs.T.shape)[::-1]
        return int(row), int(slot)


def candidates(
    jobs: Sequence[HeldJob],
    intensities: Forecasts,
    prices: Forecasts,
    pools: Sequence[Pool],
    now: float,
    *,
    carbon_tonne: float,
    delay_hour: float,
) -> list[Candidates]:
    """List the choices of each job whose latest start is not before ``now``; ``intensities`` (g/kWh) and
    ``prices`` (money per kWh) by zone.
    """
    latest = max((job.latest_start_seconds for job in jobs), default=now)
    slots = min(HORIZON_SLOTS, max(1, int((latest - now) // SLOT_SECONDS) + 1))
    starts: Floats = now + SLOT_SECONDS * np.arange(slots, dtype=np.float64)
    longest = max((job.expected_seconds for job in jobs), default=0.0)
    until = float(starts[-1]) + longest + SLOT_SECONDS
    money = _money(intensities, prices, pools, now, until, carbon_tonne)
    found: list[Candidates] = []
    for job in jobs:
        usable = tuple(
            index for index, pool in enumerate(pools) if job.pools is None or pool.name in job.pools
        )
        allowed = starts <= max(now, job.latest_start_seconds)
        delay = (delay_hour + _EARLIER_IS_BETTER) * (starts - now) / HOUR_SECONDS
        rows = []
        for index in usable:
            watts = job.base_watts + job.gpus * pools[index].watts
            energy_money = money[index](starts, job.expected_seconds) * watts / _JOULES_PER_KILOWATT_HOUR
            rows.append(np.where(allowed, energy_money + delay, np.inf))
        occupied = max(1, int(np.ceil(occupied_seconds(job) / SLOT_SECONDS)))
        found.append(Candidates(job, usable, np.array(rows).reshape(len(usable), slots), occupied))
    return found


def occupied_seconds(job: HeldJob) -> float:
    """For how long a job's GPUs are planned with: half way to its longest run, since the next one waits if it
    overruns, and at most half as long again as expected.
    """
    return min((job.expected_seconds + job.longest_seconds) / 2.0, _LONGEST_OCCUPIED * job.expected_seconds)


class _Money:
    """Money per kilowatt-hour of one zone, summed over time: intensity and price together."""

    def __init__(self, parts: Sequence[tuple[Curve, float]]) -> None:
        self._parts = parts

    def __call__(self, starts: Floats, seconds: float) -> Floats:
        total: Floats = np.zeros(len(starts))
        for curve, factor in self._parts:
            total += factor * (curve.integral(starts + seconds) - curve.integral(starts))
        return total


def _money(
    intensities: Forecasts,
    prices: Forecasts,
    pools: Sequence[Pool],
    now: float,
    until: float,
    carbon_tonne: float,
) -> list[_Money]:
    zones = sorted({pool.zone for pool in pools})
    carbon = _known(intensities, zones, now, until)
    price = _known(prices, zones, now, until)
    return [
        _Money(
            [(curve, carbon_tonne / _GRAMS_PER_TONNE) for curve in carbon.get(pool.zone, ())]
            + [(curve, 1.0) for curve in price.get(pool.zone, ())]
        )
        for pool in pools
    ]


def _known(
    forecasts: Forecasts, zones: Sequence[str], now: float, until: float
) -> Mapping[str, tuple[Curve, ...]]:
    """The curve of each zone; that of the mean for a zone without one."""
    until = max(until, now + DAY_SECONDS)
    found = {
        zone: curve.reaching(until)
        for zone, curve in ((zone, forecasts.get(zone)) for zone in zones)
        if isinstance(curve, Curve)
    }
    if not found:
        return {}
    mean = (mean_curve(list(found.values()), now, until),) if len(found) < len(zones) else ()
    return {zone: (found[zone],) if zone in found else mean for zone in zones}


def mean_curve(curves: Sequence[Curve], begin: float, end: float) -> Curve:
    """The mean of several curves from ``begin`` to ``end``."""
    edges = np.unique(
        np.concatenate([np.asarray(curve.edges) for curve in curves] + [np.array([begin, end])])
    )
    edges = edges[(edges >= begin) & (edges <= end)]
    values: NDArray[np.float64] = np.mean([curve.at(edges[:-1]) for curve in curves], axis=0)
    return Curve(tuple(edges.tolist()), tuple(values.tolist()))
