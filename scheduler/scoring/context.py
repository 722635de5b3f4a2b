"""What every term is given: the rows, the state before and after the placement, prices and intensities.

``before`` and ``after`` are the occupied masks around the placement that first-fit would make
(``scheduler.prediction``). ``equivalents`` measures the demand in GPUs: units taken over units of the
model; a fixed MIG instance counts its profile's units, a shared replica its part of the node's GPUs. Rows
on which the demand does not fit have ``after == before``; what a term answers there is not used.

Units: money per hour, watts, grams per kWh. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cluster.policy import ClusterPolicy
from metrics.samples import NoData
from scheduler.columns import Columns, Masks
from scheduler.demand import Demand
from scheduler.hardware import Hardware
from scheduler.interning import Interner
from scheduler.packing.prices import PriceTables
from scheduler.prediction import Prediction
from scheduler.scoring.interference import NOTHING_KNOWN, Rates
from scheduler.scoring.tables import StateValues

Floats: TypeAlias = NDArray[np.float64]
Price: TypeAlias = "Floats | NoData"


@dataclass(frozen=True, slots=True)
class World:
    """What is the same for all rows and demands until a policy, a price table or an intensity changes.

    ``grams_per_kwh`` holds the intensities in force by zone; ``intensity_gap`` says why the carbon term is
    absent, if it is. ``hour_by_model``: float64[models + 1], the last entry (0) answers for "no model".
    """

    policy: ClusterPolicy
    tables: PriceTables
    values: StateValues
    grams_per_kwh: Mapping[str, float]
    intensity_gap: NoData | None
    hour_by_model: Floats
    hardware: Hardware
    profiles: Interner[str]
    zones: Interner[str]
    assets: Interner[str]
    interference: Rates | NoData = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class TermContext:
    """One demand on k rows. float64[k, G] ``taken`` (GPU equivalents by GPU), float64[k] ``counted`` (those
    taken as counts), ``equivalents`` (all of them), float64[k, G] ``gpu_hour`` and float64[k] ``row_hour``
    (money per GPU-hour there), int64[k] ``shares`` (replicas of shared GPUs), ``cpu_milli``, ``memory_mib``
    (what the pod asks for; by row, as rows may stand for different pods: ``demand`` is then empty).
    """

    demand: Demand
    world: World
    columns: Columns
    before: Masks
    after: Masks
    static_instances: Mapping[str, NDArray[np.int64]]
    taken: Floats
    counted: Floats
    equivalents: Floats
    gpu_hour: Floats
    row_hour: Floats
    shares: NDArray[np.int64]
    cpu_milli: NDArray[np.int64]
    memory_mib: NDArray[np.int64]


def term_context(
    demand: Demand,
    world: World,
    columns: Columns,
    before: Masks,
    prediction: Prediction,
    *,
    cpu_milli: NDArray[np.int64] | None = None,
    memory_mib: NDArray[np.int64] | None = None,
) -> TermContext:
    """Work out the shares and hourly prices that several terms need. ``cpu_milli``, ``memory_mib``: by row,
    where rows stand for different pods; else the demand's.
    """
    hardware = world.hardware
    units = np.append(hardware.model_facts("units", lambda model: model.units), 1.0)
    added = np.bitwise_count(prediction.after & ~before)
    taken = np.where(columns.model_id >= 0, added, 0) / units[columns.model_id]
    counted = _counted(world, columns, prediction)
    hour = world.hour_by_model
    gpu_hour, row_hour = hour[columns.model_id], hour[columns.row_model]
    classes = world.policy.nodes
    if classes:
        own = np.array([np.nan if c.gpu_hour is None else c.gpu_hour for c in classes] + [np.nan])
        class_hour = own[columns.class_id]
        priced = ~np.isnan(class_hour)
        row_hour = np.where(priced, class_hour, row_hour)
        gpu_hour = np.where(priced[:, None], class_hour[:, None], gpu_hour)
    return TermContext(
        demand=demand,
        world=world,
        columns=columns,
        before=before,
        after=prediction.after,
        static_instances=prediction.static_instances,
        taken=taken,
        counted=counted,
        equivalents=taken.sum(axis=1) + counted,
        gpu_hour=gpu_hour,
        row_hour=row_hour,
        shares=prediction.shares,
        cpu_milli=np.full(len(columns), demand.cpu_milli) if cpu_milli is None else cpu_milli,
        memory_mib=np.full(len(columns), demand.memory_mib) if memory_mib is None else memory_mib,
    )


def hour_by_model(policy: ClusterPolicy, hardware: Hardware) -> Floats:
    """Money per hour of a whole GPU of each model, and 0 for "no model" at the end."""
    prices = policy.prices
    return np.array(
        [prices.gpu_hour_by_model.get(model.name, prices.gpu_hour) for model in hardware.models] + [0.0]
    )


def _counted(world: World, columns: Columns, prediction: Prediction) -> Floats:
    counted = np.zeros(len(columns))
    if prediction.shares.any():
        counted += prediction.shares * columns.shared_gpus / np.maximum(columns.shared_total, 1)
    for profile, instances in prediction.static_instances.items():
        sizes = [
            spec.size / model.units if (spec := model.profile(profile)) is not None else 1.0 / model.units
            for model in world.hardware.models
        ]
        counted += instances * np.array([*sizes, 0.0])[columns.row_model]
    return counted
