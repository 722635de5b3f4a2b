"""What a plan's states cost, in the decider's own money: the state of GPUs by table, the other terms by pod.

The first pod on a node costs what the decider says; taking its state change out of that leaves what the other
terms ask, which the plan keeps as it stands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Columns
from scheduler.demand import Demand
from scheduler.packing.plan_problem import GpuValue
from scheduler.prediction import expected, predict
from scheduler.pricing import priced
from scheduler.scoring.context import World
from scheduler.scoring.fragmentation import node_value

Floats = NDArray[np.float64]


def first_pods(demand: Demand, world: World, columns: Columns) -> Floats:
    """The price of the first pod less what its state change costs; infinite where it cannot run now."""
    total = priced(demand, world, columns, lambda text, unresolvable: 1).total
    before = expected(columns)
    after = predict(columns, before, demand, world.hardware, world.profiles).after
    lost = _worth(world, columns, before.masks) - _worth(world, columns, after)
    result: Floats = np.where(np.isfinite(total), total - lost, np.inf)
    return result


def factors(world: World) -> tuple[float, float]:
    """By what the policy multiplies the tables' value and their gradient; 0 while there are no tables."""
    multiplier = world.policy.terms.fragmentation if world.tables.gpu_value else 0.0
    prices = world.policy.prices
    return multiplier * prices.fragmentation_dual, multiplier * prices.fragmentation_gradient


def _worth(world: World, columns: Columns, masks: NDArray[np.uint16]) -> Floats:
    dual, gradient = factors(world)
    index = world.values.offset[columns.model_id] + (masks & world.values.keep[columns.model_id])
    hours = world.hour_by_model[columns.model_id]
    result: Floats = dual * node_value(world, columns, masks) - gradient * (
        world.values.gradient[index] * hours
    ).sum(axis=1)
    return result


def gpu_values(world: World) -> tuple[GpuValue, ...]:
    """What each state of a GPU is worth, in order of the models."""
    dual, gradient = factors(world)
    found = []
    for index, model in enumerate(world.hardware.models):
        start = int(world.values.offset[index])
        own = slice(start, start + (1 << model.units))
        worth = (
            dual * world.values.value[own]
            - gradient * world.hour_by_model[index] * world.values.gradient[own]
        )
        found.append(GpuValue(model.units, tuple(worth.tolist())))
    return tuple(found)
