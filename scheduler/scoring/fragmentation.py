"""Price of the capacity that a placement destroys for the expected demand.

    price = fragmentationDual × (V(before) − V(after)) + fragmentationGradient × gpu_hour × (F(after) −
    F(before))

V is the value, in money per hour, that the packing LP's duals give to a node's free space
(``scheduler.packing``): W(number of entirely free GPUs) plus V(mask) of each partly used GPU. F is
Fragmentation Gradient Descent's fragment measure in GPUs (Weng et al., ATC'23), the tie-breaker where duals
are flat. A fixed MIG instance serves one profile only, so it costs that class's own net price. A shared
replica competes with nothing else and costs nothing here.

Without tables (the first LP is not solved yet, or a model is new) the term is absent for all rows: a node
must not look cheap for being unknown.
"""

from __future__ import annotations

import numpy as np

from metrics.samples import NoData
from scheduler.columns import Columns, Masks
from scheduler.scoring.context import Floats, Price, TermContext, World


def price(context: TermContext) -> Price:
    """Money per hour on each row; NoData before the first prices."""
    world = context.world
    if not world.tables.gpu_value:
        return NoData("the packing prices have not been solved yet", "empty")
    prices = world.policy.prices
    columns = context.columns
    lost = node_value(world, columns, context.before) - node_value(world, columns, context.after)
    for profile, instances in context.static_instances.items():
        lost += instances * _class_price(context, profile)
    values = world.values
    index = values.offset[columns.model_id]
    keep = values.keep[columns.model_id]
    growth = (
        values.gradient[index + (context.after & keep)] - values.gradient[index + (context.before & keep)]
    )
    hours = world.hour_by_model[columns.model_id]
    result: Floats = prices.fragmentation_dual * lost + prices.fragmentation_gradient * (growth * hours).sum(
        axis=1
    )
    return result


def node_value(world: World, columns: Columns, masks: Masks) -> Floats:
    """V of each row's free space with ``masks`` occupied, money per hour."""
    values = world.values
    index = values.offset[columns.model_id] + (masks & values.keep[columns.model_id])
    total: Floats = values.value[index].sum(axis=1)
    free = masks == 0
    if not columns.mixed.any():
        # One model a node: all its free GPUs are looked up at once.
        cut = columns.order_id[:, 0] > 0
        count = free.sum(axis=1)
        model = columns.row_model
        total += np.where(cut, values.free_value[model, count], values.whole_value[model, count])
        return total
    cuttable = columns.order_id > 0
    for model_id in np.unique(columns.model_id[columns.model_id >= 0]).tolist():
        own = free & (columns.model_id == model_id)
        total += values.free_value[model_id, (own & cuttable).sum(axis=1)]
        total += values.whole_value[model_id, (own & ~cuttable).sum(axis=1)]
    return total


def _class_price(context: TermContext, profile: str) -> float:
    tables = context.world.tables.class_price
    name = f"mig:{profile}"
    models = context.demand.models
    if models is not None:
        name = f"{name}@{','.join(sorted(models))}"
    return tables.get(name, tables.get(f"mig:{profile}", 0.0))
