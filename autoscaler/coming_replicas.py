"""How many more replicas of a workload are likely on their way, for those who price what they will need.

    predicted = floor of the in-flight forecast one start-up ahead / in-flight share of one replica
    spread    = sqrt(dispersion x level) / share                       the forecast's own error
    coming    = between those wanted and missing, and maxReplicas      (``packing.forecast.expected_more``)

A workload without an objective has no forecast: of it only what is wanted and missing is coming. Pure.
"""

from __future__ import annotations

import math

from autoscaler.decide import Decision, cold_start_seconds
from autoscaler.signals import Signals
from autoscaler.sizing import DEFAULT_PER_REPLICA
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData
from scheduler.packing.forecast import Forecast, expected_more


def coming_replicas(policy: AutoscalingPolicy, signals: Signals, decision: Decision) -> Forecast:
    """Return how many replicas more than ``signals.current`` are expected one start-up from now."""
    predicted: Forecast | NoData = NoData("the workload states no objective, so nothing is forecast", "empty")
    learned = decision.state.learned
    if learned is not None:
        lead = cold_start_seconds(policy, signals)
        level = learned.forecast.floor(lead_seconds=lead, unix_seconds=signals.unix_seconds)
        given = None if policy.in_flight is None else policy.in_flight.per_replica
        share = given or learned.per_replica or DEFAULT_PER_REPLICA
        spread = math.sqrt(max(0.0, learned.forecast.dispersion * level))
        predicted = Forecast(max(0.0, level) / share, spread / share)
    return expected_more(signals.current, decision.replicas, policy.max_replicas, predicted)
