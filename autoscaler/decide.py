"""How many replicas a workload should have: the pure core of the autoscaler.

In-flight requests size the workload (``capacity``); p95 latency and GPU utilisation may ask for one more and
may forbid fewer (``latency``, ``gpu_guard``); missing numbers hold it (``outage``); stabilisation windows,
step limits tied to the start-up time and the policy's bounds shape what is left (``windows``, ``steps``).
Replicas that are starting are supply. Replicas that the scheduler refuses are not asked for a second time.

Every clamp leaves a reason, and the reason that settled the count comes first. Deterministic: the time is
passed in, the state is passed in and handed back. It does not forecast and it does not learn its headroom
(``State.headroom`` is where that would enter), and it never lowers to zero: with no pod left nothing inside
the pods could ask for the first one back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from autoscaler import capacity, outage, reasons, steps
from autoscaler.gpu_guard import gpu_opinion
from autoscaler.latency import latency_opinion
from autoscaler.reasons import Opinion, Reason
from autoscaler.signals import Signals
from autoscaler.state import Raise, State
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData


@dataclass(frozen=True, slots=True)
class Decision:
    """``replicas`` to set, ``reasons`` (never empty, the decisive one first), ``state`` for next time."""

    replicas: int
    reasons: tuple[Reason, ...]
    state: State


def decide(policy: AutoscalingPolicy, signals: Signals, state: State | None, now: float) -> Decision:
    """Decide the replica count; ``state`` is None for a workload not seen before (or after a restart).

    ``now`` is in seconds of any clock that never runs backwards; the same clock every time.
    """
    if state is None:
        state = State.begun(signals.current, now)
    if signals.current == 0:
        return _at_zero(policy, state)
    missing = _missing(policy, signals)
    if missing is not None:
        wanted, why, state = outage.hold(
            signals,
            missing,
            state,
            fallback_replicas=policy.outage.fallback_replicas,
            fallback_after_seconds=policy.outage.fallback_after_seconds,
            now=now,
        )
        state = _remember(policy, state, max(wanted, signals.current), now)
        bounded, clamps = _bounded(policy, wanted)
        return Decision(bounded, _ordered(signals.current, bounded, why, clamps), state)
    in_flight = 0.0 if isinstance(signals.in_flight, NoData) else signals.in_flight
    return _seeing(policy, signals, in_flight, replace(state, blind_since_seconds=None), now)


def _missing(policy: AutoscalingPolicy, signals: Signals) -> NoData | None:
    """Return the absence of the signal that sizes this workload, None when it is there."""
    if policy.in_flight is not None:
        return signals.in_flight if isinstance(signals.in_flight, NoData) else None
    return signals.p95_seconds if isinstance(signals.p95_seconds, NoData) and not signals.idle else None


def _seeing(
    policy: AutoscalingPolicy, signals: Signals, in_flight: float, state: State, now: float
) -> Decision:
    """Decide with the sizing signal known (``in_flight`` counts only where the policy sizes by it)."""
    wanted, why = _wanted(policy, signals, in_flight, state, now)
    state = _remember(policy, state, wanted, now)
    target, clamps = _shaped(policy, signals, in_flight, wanted, state, now)
    bounded, bounds = _bounded(policy, target)
    if bounded > signals.current:
        state = replace(state, last_raise=Raise(now, in_flight))
    elif bounded < signals.current:
        state = replace(state, last_lower_seconds=now)
    return Decision(bounded, _ordered(signals.current, bounded, why, clamps + bounds), state)


def _wanted(
    policy: AutoscalingPolicy, signals: Signals, in_flight: float, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    """What the signals ask for, before windows, steps and bounds."""
    if policy.in_flight is None:
        return _wanted_by_latency(policy, signals, state, now)
    current, per_replica = signals.current, policy.in_flight.per_replica
    load = capacity.load_in_replicas(in_flight, per_replica, state.headroom)
    fullest = capacity.load_in_replicas(in_flight + signals.silent * per_replica, per_replica, state.headroom)
    margin = policy.scale_down.margin
    survivors = capacity.survivors_for(fullest, margin)
    holds = f"{in_flight:.4g} requests in flight at {per_replica:.4g} a replica"
    runs = f"{current} are there ({signals.ready} ready, {signals.starting} starting)"
    opinions = _opinions(policy, signals, load, state, now)
    forbidding = tuple(r for o in opinions if o.forbids_lowering for r in o.reasons)
    asking = [o for o in opinions if o.raise_to is not None]

    if capacity.above(load, current, policy.scale_up.tolerance):
        needed = capacity.replicas_for(load)
        return needed, (Reason(reasons.IN_FLIGHT_NEEDS_MORE, f"{holds} need {needed}; {runs}"),)
    if asking:
        return max(o.raise_to or 0 for o in asking), tuple(r for o in asking for r in o.reasons)
    if not capacity.below(fullest, current, policy.scale_down.tolerance):
        if capacity.below(load, current, policy.scale_down.tolerance):
            sentence = f"{holds}, but {signals.silent} ready replicas report nothing and count as full"
            return current, (Reason(reasons.SILENT_PODS, sentence), *forbidding)
        code = reasons.STEADY if capacity.replicas_for(load) == current else reasons.WITHIN_TOLERANCE
        return current, (Reason(code, f"{holds} suit the {current} that are there"), *forbidding)
    if survivors >= current:
        sentence = f"{holds}: {current - 1} would not hold them with a margin of {margin:.0%}"
        return current, (Reason(reasons.SURVIVORS_TOO_FEW, sentence), *forbidding)
    if forbidding:
        return current, forbidding
    sentence = f"{holds}: {survivors} hold them with a margin of {margin:.0%}; {runs}"
    return survivors, (Reason(reasons.IN_FLIGHT_NEEDS_FEWER, sentence),)


def _wanted_by_latency(
    policy: AutoscalingPolicy, signals: Signals, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    """What a policy without ``inFlight`` asks for: more by latency, fewer only when idle."""
    opinions = _opinions(policy, signals, math.inf, state, now)
    asking = [o for o in opinions if o.raise_to is not None]
    if asking:
        return max(o.raise_to or 0 for o in asking), tuple(r for o in asking for r in o.reasons)
    forbidding = tuple(r for o in opinions if o.forbids_lowering for r in o.reasons)
    if signals.idle and not forbidding:
        sentence = "nothing is in flight and nothing was finished: the workload is idle"
        return 0, (Reason(reasons.IN_FLIGHT_NEEDS_FEWER, sentence),)
    sentence = "latency alone never lowers; give inFlight.perReplica to let the load do it"
    return signals.current, (*forbidding, Reason(reasons.STEADY, sentence))


def _opinions(
    policy: AutoscalingPolicy, signals: Signals, load: float, state: State, now: float
) -> tuple[Opinion, ...]:
    """Ask the secondary signals that the policy names."""
    cold_start = cold_start_seconds(policy, signals)
    opinions: list[Opinion] = []
    window_seconds = 0.0
    if policy.latency is not None:
        window_seconds = policy.latency.window_seconds
        opinions.append(
            latency_opinion(
                signals,
                target_seconds=policy.latency.p95_seconds,
                window_seconds=window_seconds,
                raise_tolerance=policy.scale_up.tolerance,
                lower_tolerance=policy.scale_down.tolerance,
                load=load,
                last_raise=state.last_raise,
                cold_start_seconds=cold_start,
                now=now,
            )
        )
    if policy.gpu_utilisation is not None:
        opinions.append(
            gpu_opinion(
                signals,
                lower_below=policy.gpu_utilisation.scale_down_below,
                raise_above=policy.gpu_utilisation.scale_up_above,
                settle_seconds=cold_start + window_seconds,
                last_raise=state.last_raise,
                now=now,
            )
        )
    return tuple(opinions)


def _shaped(
    policy: AutoscalingPolicy, signals: Signals, in_flight: float, wanted: int, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    """Apply placeability, windows and step limits to what is wanted; one reason a clamp."""
    if wanted > signals.current:
        return _shaped_up(policy, signals, in_flight, wanted, state, now)
    if wanted < signals.current:
        return _shaped_down(policy, signals, wanted, state, now)
    return wanted, ()


def _shaped_up(
    policy: AutoscalingPolicy, signals: Signals, in_flight: float, wanted: int, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    current, up = signals.current, policy.scale_up
    if signals.unschedulable:
        sentence = (
            f"{wanted} replicas are wanted, but {signals.unschedulable} of {current} cannot be placed: "
            "not asking for more until they are"
        )
        return current, (Reason(reasons.UNSCHEDULABLE, sentence),)
    clamps: list[Reason] = []
    target = max(current, min(wanted, state.windows.lowest))
    if target < wanted:
        frees = state.windows.raise_free_at(up.stabilisation_seconds) - now
        window = f"the last {up.stabilisation_seconds:.0f} s"
        sentence = f"{wanted} were not wanted all through {window}; higher in {frees:.0f} s at the earliest"
        clamps.append(Reason(reasons.STABILISING, sentence))
    limit = steps.raise_limit(
        current=current,
        ready=signals.ready,
        in_flight=in_flight,
        per_replica=None if policy.in_flight is None else policy.in_flight.per_replica,
        headroom=state.headroom,
        tolerance=up.tolerance,
        last_raise=state.last_raise,
        cold_start_seconds=cold_start_seconds(policy, signals),
        now=now,
    )
    if limit is not None and limit[0] < target:
        target = limit[0]
        clamps.append(limit[1])
    step = steps.step_up_to(current, up.max_step_percent, up.max_step_replicas)
    if step < target:
        clamps.append(Reason(reasons.STEP_LIMITED, f"{target} replicas are wanted, one step reaches {step}"))
        target = step
    return target, tuple(clamps)


def _shaped_down(
    policy: AutoscalingPolicy, signals: Signals, wanted: int, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    current, down = signals.current, policy.scale_down
    clamps: list[Reason] = []
    target = min(current, max(wanted, state.windows.highest))
    if target > wanted:
        frees = state.windows.lower_free_at(down.stabilisation_seconds) - now
        window = f"the last {down.stabilisation_seconds:.0f} s"
        sentence = f"{state.windows.highest} were wanted in {window}; lower in {frees:.0f} s at the earliest"
        clamps.append(Reason(reasons.STABILISING, sentence))
    left = steps.lower_pause(state.last_lower_seconds, down.stabilisation_seconds, now)
    if target < current and left > 0:
        sentence = f"the last lowering must show in the survivors first: {left:.0f} s left"
        return current, (*clamps, Reason(reasons.STEP_WAIT, sentence))
    step = steps.step_down_to(current, down.max_step_percent, down.max_step_replicas)
    if step > target:
        clamps.append(
            Reason(reasons.STEP_LIMITED, f"{target} replicas would do, one step goes down to {step}")
        )
        target = step
    return target, tuple(clamps)


def _bounded(policy: AutoscalingPolicy, target: int) -> tuple[int, tuple[Reason, ...]]:
    """Keep the count between the policy's bounds, and above zero."""
    if target > policy.max_replicas:
        sentence = f"{target} replicas are wanted, maxReplicas is {policy.max_replicas}"
        return policy.max_replicas, (Reason(reasons.AT_MAXIMUM, sentence),)
    if target < policy.min_replicas:
        sentence = f"{target} replicas would do, minReplicas is {policy.min_replicas}"
        return policy.min_replicas, (Reason(reasons.AT_MINIMUM, sentence),)
    if target < 1:
        sentence = "no replica is needed; one stays, since nothing outside the pods could ask for it back"
        return 1, (Reason(reasons.ZERO_NEEDS_QUEUE, sentence),)
    return target, ()


def _at_zero(policy: AutoscalingPolicy, state: State) -> Decision:
    """Leave a workload that someone set to zero alone, as the HorizontalPodAutoscaler does."""
    if policy.min_replicas > 0:
        sentence = "the target was set to 0 replicas: autoscaling is paused until it is set to 1 or more"
        return Decision(0, (Reason(reasons.PAUSED, sentence),), state)
    sentence = "0 replicas: only a queue outside the pods could ask for the first one"
    return Decision(0, (Reason(reasons.ZERO_NEEDS_QUEUE, sentence),), state)


def _remember(policy: AutoscalingPolicy, state: State, recommended: int, now: float) -> State:
    windows = state.windows.seen(
        recommended,
        now,
        lower_seconds=policy.scale_down.stabilisation_seconds,
        raise_seconds=policy.scale_up.stabilisation_seconds,
    )
    return replace(state, windows=windows)


def _ordered(
    current: int, replicas: int, why: tuple[Reason, ...], clamps: tuple[Reason, ...]
) -> tuple[Reason, ...]:
    """Put first what settled the count: the last clamp when a wish came to nothing, else the wish."""
    if clamps and replicas == current:
        return (clamps[-1], *why, *clamps[:-1])
    return (*why, *clamps)


def cold_start_seconds(policy: AutoscalingPolicy, signals: Signals) -> float:
    """Return the measured time from creation to Ready, or the policy's until something was measured."""
    measured = signals.cold_start_seconds
    return policy.cold_start_seconds if isinstance(measured, NoData) else measured
