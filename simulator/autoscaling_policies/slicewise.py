"""Slicewise itself: ``autoscaler.decide.decide`` with a default policy, exactly the product's code.

The policy gives what a user must give: the most replicas, the requests in flight that a replica should carry,
and the objective (the share of requests in time). Nothing in it depends on the trace. The requests in flight
come from the pods themselves every 2 s, the misses and rates from Prometheus; the cold start has been
measured. After a restart the controller reads what it had written down (``State.remembered``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from autoscaler.decide import decide
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.autoscaling_policy import AutoscalingPolicy
from metrics.samples import NoData
from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen
from simulator.autoscaling_trace import Floats

MISSING: Final = NoData("the source did not answer", "outage")
NOTHING_SERVED: Final = NoData("no request was answered in the last minute", "empty")


def policy_for(bounds: Bounds, objective: float, latency_seconds: float) -> AutoscalingPolicy:
    """The default policy: ``objective`` is the share of requests whose first token shall be there within
    ``latency_seconds``.
    """
    return AutoscalingPolicy.model_validate(
        {
            "target": {"name": "simulated"},
            "minReplicas": bounds.least,
            "maxReplicas": bounds.most,
            "inFlight": {"perReplica": float(bounds.slots)},
            "slo": {"attainment": objective, "latencySeconds": latency_seconds, "measure": "ttft"},
        }
    )


class Slicewise:
    """One product decision a run, by the policy of that run; all policies have one ``period_seconds``."""

    scrape_seconds = 2.0
    direct = True

    def __init__(self, policies: Sequence[AutoscalingPolicy], startup_seconds: Floats) -> None:
        self._policies = tuple(policies)
        self._startup_seconds = startup_seconds.tolist()
        self._states: list[State | None] = [None] * len(policies)
        self._written = [""] * len(policies)
        self.period_seconds = self._policies[0].period_seconds

    @classmethod
    def asked(
        cls, bounds: Bounds, objective: Floats, latency_seconds: float, startup_seconds: Floats
    ) -> Slicewise:
        """The default policy, with the share of requests in time that each run's ``objective`` names."""
        by_objective = {
            share: policy_for(bounds, share, latency_seconds) for share in set(objective.tolist())
        }
        return cls([by_objective[share] for share in objective.tolist()], startup_seconds)

    def decide(self, seen: Seen, now: float) -> Ints:
        replicas = np.empty_like(seen.current)
        metrics = seen.metrics
        rows = zip(
            seen.current.tolist(),
            seen.ready.tolist(),
            seen.starting.tolist(),
            metrics.silent.tolist(),
            metrics.in_flight.tolist(),
            metrics.served_rps.tolist(),
            metrics.slo_missed.tolist(),
            metrics.waiting.tolist(),
            strict=True,
        )
        for run, (current, ready, starting, silent, in_flight, served, missed, waiting) in enumerate(rows):
            signals = Signals(
                current=current,
                ready=ready,
                starting=starting,
                silent=silent,
                in_flight=_known(in_flight, MISSING),
                waiting=_known(waiting, MISSING),
                request_rate=_known(served, MISSING),
                slo_missed=_known(missed, NOTHING_SERVED),
                cold_start_seconds=self._startup_seconds[run],
                unix_seconds=now,
                other_writer=seen.second_writer,
            )
            state = self._states[run]
            if state is None and self._written[run]:
                state = State.recalled(self._written[run], current, now)
            decision = decide(self._policies[run], signals, state, now)
            self._states[run] = decision.state
            replicas[run] = decision.replicas
        return replicas

    def restarted(self) -> None:
        # What was learned is written down; windows and pending steps are not.
        self._written = ["" if state is None else state.remembered() for state in self._states]
        self._states = [None] * len(self._states)


def _known(value: float, otherwise: NoData) -> float | NoData:
    return otherwise if math.isnan(value) else value
