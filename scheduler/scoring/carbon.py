"""Price of the carbon that the placement adds.

    price = watts added / 1000 × intensity of the node's grid zone (g/kWh) × price of a tonne / 1,000,000

Watts added: GPU equivalents × (peak − idle) of the model. Idle watts are not added: an idle GPU draws them
whether or not this pod comes, as long as nothing switches nodes off, and the policy has no such switch.
Peak is the model's rated power, so the term is an upper estimate; what counts is the comparison between
nodes.

Where the intensity of any GPU node's zone is unknown the term is absent for all rows, with the reason: a
zone must not win for not being measured. Average and marginal intensities are never mixed
(``metrics.carbon``).
"""

from __future__ import annotations

import numpy as np

from scheduler.scoring.context import Floats, Price, TermContext

_GRAMS_PER_TONNE = 1_000_000.0
_WATTS_PER_KILOWATT = 1000.0


def price(context: TermContext) -> Price:
    """Money per hour on each row; NoData when an intensity is missing."""
    world = context.world
    if world.intensity_gap is not None:
        return world.intensity_gap
    # Rows without a zone have no GPU here (else there would be a gap); they are priced 0 and never chosen.
    grams = np.array([world.grams_per_kwh.get(zone, 0.0) for zone in world.zones.values] + [0.0])
    per_kilowatt_hour = grams[context.columns.zone_id] / _GRAMS_PER_TONNE * world.policy.prices.carbon_tonne
    result: Floats = added_watts(context) / _WATTS_PER_KILOWATT * per_kilowatt_hour
    return result


def added_watts(context: TermContext) -> Floats:
    """Watts that the demand adds on each row."""
    spread = np.append(
        context.world.hardware.model_facts("watts", lambda model: model.peak_watts - model.idle_watts), 0.0
    )
    columns = context.columns
    by_gpu = (context.taken * spread[columns.model_id]).sum(axis=1)
    watts: Floats = by_gpu + context.counted * spread[columns.row_model]
    return watts
