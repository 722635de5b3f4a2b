"""The load of a workload in replicas: what the in-flight share, or the objective, makes of the signals.

Without an objective: ``load = in_flight * (1 + headroom) / per_replica`` with the headroom as it stands,
which is 0 unless a state says otherwise (``capacity``). With one (``slo``):

    load = max(floor of the forecast + learned allowance, offered) / per_replica

where ``offered`` is what the arrivals ask for and ``per_replica`` is the policy's, or is learned from a
queueing model of the server, ``DEFAULT_PER_REPLICA`` until that is fitted (``forecast``, ``headroom``,
``offered``, ``untold_queue``, ``queueing``). Ready pods that report nothing are then taken to carry what
the others carry: the headroom is already the margin, and a fifth of the pods counted as empty would be a
fifth of the load unseen. Everything learned goes into the state. Pure; decides no count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from autoscaler import capacity, queueing
from autoscaler.forecast import Forecast, Season
from autoscaler.headroom import Headroom, spread
from autoscaler.offered import Queue, offered_load
from autoscaler.replacing import replace
from autoscaler.shadows import Conditions, Shadows
from autoscaler.signals import Signals
from autoscaler.state import Learned, State
from autoscaler.untold_queue import Calm, beyond_chance
from cluster.autoscaling_policy import AutoscalingPolicy, Slo
from metrics.samples import NoData

DEFAULT_PER_REPLICA: Final = 16.0
# So many start-ups after it began, an estimated queue that still stands is taken for load.
_TRUSTED_LEADS: Final = 3.0
# The part of the bound that may be spent waiting; the rest is for being served.
PATIENCE_SHARE: Final = {"ttft": 0.5, "e2e": 0.25, "itl": 0.0}


@dataclass(frozen=True, slots=True)
class Load:
    """``replicas``: the load in full replicas; ``fullest``: the same if silent pods were full; ``margin``:
    what survivors keep spare; ``sentence``: how the load came about.
    """

    replicas: float
    fullest: float
    margin: float
    per_replica: float
    sentence: str


def sized(
    policy: AutoscalingPolicy,
    signals: Signals,
    in_flight: float,
    state: State,
    cold_start: float,
    lower_window: float,
    now: float,
) -> tuple[Load, State]:
    """Return the load and the state that has learned from this look.

    ``cold_start`` and ``lower_window``, the length of the scale-down window, in seconds.
    """
    if policy.slo is not None:
        return _by_objective(policy, policy.slo, signals, in_flight, state, cold_start, lower_window, now)
    per_replica = DEFAULT_PER_REPLICA if policy.in_flight is None else policy.in_flight.per_replica
    silent = signals.silent * per_replica
    return Load(
        capacity.load_in_replicas(in_flight, per_replica, state.headroom),
        capacity.load_in_replicas(in_flight + silent, per_replica, state.headroom),
        policy.scale_down.margin,
        per_replica,
        f"{in_flight:.4g} requests in flight at {per_replica:.4g} a replica",
    ), state


def _by_objective(
    policy: AutoscalingPolicy,
    slo: Slo,
    signals: Signals,
    in_flight: float,
    state: State,
    cold_start: float,
    lower_window: float,
    now: float,
) -> tuple[Load, State]:
    reports = _reporting_share(signals)
    seen = in_flight / reports
    learned = (
        _begun(state, slo, signals.current, seen, cold_start, now) if state.learned is None else state.learned
    )
    queue, calm, waits = _queued(policy, signals, seen, reports, learned, cold_start, now)
    offered = offered_load(seen, queue, signals.request_rate, cold_start_seconds=cold_start)
    unix = signals.unix_seconds
    forecast = learned.forecast.seen(offered, now, lead_seconds=cold_start, unix_seconds=unix)
    floor = forecast.floor(lead_seconds=cold_start, unix_seconds=unix)
    level = max(floor, forecast.burst_level)
    per_replica, _ = _share(policy, learned)
    full = seen >= signals.ready * per_replica
    # Where no queue is told, what runs is not told either: the mean of the last looks has less chance in it.
    told = not isinstance(signals.waiting, NoData)
    running = seen - waits if told or waits else min(seen, forecast.fast)
    service = _service_seconds(running, signals.request_rate)
    conditions = _conditions(policy, slo, signals, per_replica, cold_start, lower_window)
    learned = replace(
        learned,
        headroom=learned.headroom.looked(full, now - learned.forecast.at_seconds),
        forecast=forecast,
        queue=queue,
        calm=calm,
        shadows=learned.shadows.seen(
            floor, spread(level, forecast.dispersion), forecast.fast, service, conditions, now
        )
        if preventable(policy, signals)
        else learned.shadows.alike(signals.current, now),
    )
    learned = _corrected(policy, slo, signals, learned, cold_start, now)
    per_replica, whence = _share(policy, learned)
    allowance = learned.headroom.allowance(level, forecast.dispersion)
    ready_for = floor + allowance
    short_since = None
    if waits * service > conditions.patience_seconds * signals.ready * per_replica:
        short_since = now if learned.short_since_seconds is None else learned.short_since_seconds
        # A shortage is answered for what will be left of it, and one that outlasts a lead for what it is.
        # Below it, the noise of single looks is not paid for.
        outlasts = now - short_since > conditions.lead_seconds
        ready_for = max(ready_for, offered if outlasts else forecast.one_lead_later(offered))
    learned = replace(learned, short_since_seconds=short_since)
    load = ready_for / per_replica
    # One idle replica for each silent one at most: nobody knows what those do.
    fullest = load if reports < 1.0 or not signals.silent else load + signals.silent
    sentence = (
        f"{seen:.4g} requests in flight, {ready_for:.4g} to be ready for ({floor:.4g} and {allowance:.4g} "
        f"spare for {slo.attainment:.4g} in time) at {per_replica:.4g} a replica{whence}"
    )
    share = ready_for / offered - 1.0 if offered > 0.0 else 0.0
    state = replace(state, learned=learned, recalled_memory=None, headroom=max(0.0, share))
    return Load(load, fullest, 0.0, per_replica, sentence), state


def _reporting_share(signals: Signals) -> float:
    """The share of the ready replicas that report; 1 where none does, since nothing can be made of that."""
    if signals.silent <= 0 or signals.silent >= signals.ready:
        return 1.0
    return (signals.ready - signals.silent) / signals.ready


def _queued(
    policy: AutoscalingPolicy,
    signals: Signals,
    seen: float,
    reports: float,
    learned: Learned,
    cold_start: float,
    now: float,
) -> tuple[Queue | None, Calm, float]:
    """The queue as told, else as far as it can be estimated where the policy says what a replica serves at a
    time; the calm minutes, this look included; how many requests wait beyond chance.
    """
    before, calm = learned.queue, learned.calm
    if not isinstance(signals.waiting, NoData):
        waiting = signals.waiting / reports
        return _grown(before, waiting, cold_start, now), calm, waiting
    if policy.in_flight is None:
        return None, calm, 0.0
    held = signals.ready * policy.in_flight.per_replica
    estimate = calm.waiting(seen, held, signals.request_rate)
    lead = cold_start + policy.period_seconds
    if learned.short_since_seconds is not None and now - learned.short_since_seconds > _TRUSTED_LEADS * lead:
        # Replicas were asked for, serve, and have not cleared it: then it is no queue but longer requests.
        estimate = None
    calm = calm.seen(seen, held, signals.request_rate, now - learned.forecast.at_seconds)
    beyond = seen - held if estimate is None else estimate
    waits = beyond if beyond_chance(beyond, held) else 0.0
    return None if estimate is None else _grown(before, estimate, cold_start, now), calm, waits


def _grown(before: Queue | None, waiting: float, cold_start: float, now: float) -> Queue:
    return Queue(now, waiting) if before is None else before.seen(waiting, now, cold_start)


def _service_seconds(running: float, request_rate: float | NoData) -> float:
    """How long a request is served, by Little's law; a second where no rate is known."""
    if isinstance(request_rate, NoData) or request_rate <= 0.0:
        return 1.0
    return max(0.0, running) / request_rate


def _conditions(
    policy: AutoscalingPolicy,
    slo: Slo,
    signals: Signals,
    per_replica: float,
    cold_start: float,
    lower_window: float,
) -> Conditions:
    """What the shadow fleets live under: what this workload does."""
    most = policy.max_replicas
    if not isinstance(signals.placeable, NoData):
        most = min(most, max(signals.placeable, signals.ready, 1))
    return Conditions(
        per_replica=per_replica,
        least=max(1, policy.min_replicas),
        most=most,
        raise_tolerance=policy.scale_up.tolerance,
        window_seconds=lower_window,
        lead_seconds=cold_start + policy.period_seconds,
        patience_seconds=PATIENCE_SHARE[slo.measure] * slo.latency_seconds,
    )


def _begun(state: State, slo: Slo, current: int, in_flight: float, cold_start: float, now: float) -> Learned:
    """A safe start, or what was remembered of the time before a restart."""
    headroom = Headroom.begun(cold_start, slo.attainment, slo.worth, now)
    forecast, shadows = Forecast.begun(in_flight, now), Shadows.begun(current, now)
    memory = state.recalled_memory
    if memory is None:
        return Learned(headroom, forecast, shadows)
    season = Season(memory.season) if memory.season else forecast.season
    return Learned(
        replace(
            headroom,
            deviations=memory.deviations,
            surplus=memory.surplus,
            usual_rps=memory.usual_rps,
            answered=memory.answered,
            late=memory.late,
        ),
        replace(forecast, dispersion=memory.dispersion, season=season).recalled(memory.persistence),
        shadows.recalled(
            memory.shadows_late, memory.shadows_cost, memory.shadows_answered, memory.shadows_seconds
        ),
        per_replica=memory.per_replica,
    )


def _corrected(
    policy: AutoscalingPolicy, slo: Slo, signals: Signals, learned: Learned, cold_start: float, now: float
) -> Learned:
    """Correct headroom and server model once a period; take note of misses that no replica can prevent."""
    headroom = learned.headroom
    if not preventable(policy, signals):
        headroom = headroom.spoiled(now, slo.period_seconds)
    if not headroom.due(slo.period_seconds, now):
        return learned if headroom is learned.headroom else replace(learned, headroom=headroom)
    headroom = headroom.corrected(
        signals.slo_missed,
        signals.request_rate,
        learned.shadows,
        attainment=slo.attainment,
        learning_rate=slo.learning_rate,
        least=slo.least_headroom,
        most=slo.most_headroom,
        cold_start_seconds=cold_start,
        worth=slo.worth,
        now=now,
    )
    learned = replace(learned, headroom=headroom)
    return learned if policy.in_flight is not None else _fitted(slo, signals, learned)


def preventable(policy: AutoscalingPolicy, signals: Signals) -> bool:
    """Tell whether one more replica could be had: not at the maximum, and not waiting for a place."""
    if signals.current >= policy.max_replicas or signals.unschedulable:
        return False
    return isinstance(signals.placeable, NoData) or signals.placeable > signals.current


def _fitted(slo: Slo, signals: Signals, learned: Learned) -> Learned:
    """Take one observation of the server into its model, and the share of one replica from that."""
    pods = signals.ready - signals.silent
    if pods <= 0 or isinstance(signals.in_flight, NoData):
        return learned
    waiting = 0.0 if isinstance(signals.waiting, NoData) else signals.waiting
    running = max(0.0, signals.in_flight - waiting)
    iteration = queueing.iteration_seconds_of(
        running=running,
        rate_rps=signals.request_rate,
        tokens_out=signals.tokens_out,
        token_seconds=signals.token_seconds,
    )
    tokens = signals.tokens_out
    if isinstance(iteration, NoData) or isinstance(tokens, NoData) or running <= 0.0:
        return learned
    fit = learned.fit.seen(running / pods, iteration, tokens, waiting / pods)
    serving = fit.serving()
    if isinstance(serving, NoData):
        return replace(learned, fit=fit)
    share = queueing.share_of_one_replica(serving, bound_seconds=slo.latency_seconds, measure=slo.measure)
    return replace(learned, fit=fit, per_replica=learned.per_replica if isinstance(share, NoData) else share)


def _share(policy: AutoscalingPolicy, learned: Learned) -> tuple[float, str]:
    """What one replica carries, and where that number is from when the policy does not give it."""
    if policy.in_flight is not None:
        return policy.in_flight.per_replica, ""
    if learned.per_replica is not None:
        return learned.per_replica, " (learned from the server)"
    return DEFAULT_PER_REPLICA, " (until it is learned from the tokens that the server counts)"
