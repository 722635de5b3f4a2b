"""Less in reserve while the grid is dirty, where the policy says so: the objective relaxes within its bound.

    attainment = stated − (stated − least) × clip((grams − above) / (fully at − above), 0, 1)

The headroom follows the objective (``headroom``), so that fewer replicas idle in dirty hours, and what that
costs is measured and bounded as ever: the late share stays what the relaxed objective allows. A clean grid,
or one whose intensity is not known, leaves the stated objective. Pure.
"""

from __future__ import annotations

from cluster.autoscaling_policy import AutoscalingPolicy
from cluster.carbon_trade_policy import CarbonTrade
from metrics.samples import NoData


def traded(policy: AutoscalingPolicy, grid_grams_per_kwh: float | NoData) -> AutoscalingPolicy:
    """Return the policy in force at this intensity: itself, or with a relaxed objective."""
    if policy.carbon is None or policy.slo is None or isinstance(grid_grams_per_kwh, NoData):
        return policy
    relaxed = attainment(policy.carbon, policy.slo.attainment, grid_grams_per_kwh)
    if relaxed == policy.slo.attainment:
        return policy
    return policy.model_copy(update={"slo": policy.slo.model_copy(update={"attainment": relaxed})})


def attainment(trade: CarbonTrade, stated: float, grams_per_kwh: float) -> float:
    """The share of requests that is kept in time at this intensity."""
    above, full = trade.above_grams_per_kwh, trade.fully_at_grams_per_kwh
    if grams_per_kwh < above:
        return stated
    share = 1.0 if full is None else min(1.0, (grams_per_kwh - above) / (full - above))
    return stated - (stated - min(stated, trade.least_attainment)) * share
