"""From the count that is wanted to the count that is set: placeability, windows, step limits, bounds.

What cannot be placed is not asked for: desired = min(wanted, placeable), where replicas that serve or start
are never taken away for it. Raising waits for the scale-up window (a panic does not) and for replicas of the
last raise that are still starting (``steps``); lowering waits for the scale-down window and for the end of a
panic. One reason a clamp. With an objective the scale-down window is at least ``COLD_STARTS_KEPT`` start-ups:
what is given up must be worth the time it takes to get it back; it grows with the variation of the load,
where the level of now says little about the next minutes. At most ``MOST_TURNS`` times in ``TURNS_SECONDS`` a
raise is followed by a lowering: who had to come back so often was wrong to go. And the load is already what
the arrivals ask for, so that starting replicas answer it once by being counted.
"""

from __future__ import annotations

from typing import Final

from autoscaler import capacity, reasons, steps
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.sizing import DEFAULT_PER_REPLICA
from autoscaler.state import State
from cluster.autoscaling_policy import AutoscalingPolicy
from metrics.samples import NoData

COLD_STARTS_KEPT: Final = 3.0
# Each turn down makes one turn up later: less than six changes of direction an hour, over some hours.
MOST_TURNS: Final = 11
TURNS_SECONDS: Final = 4.0 * 3600.0
# From so much variation on, the level of now says ever less about the next minutes.
_BURSTY: Final = 0.5
_LONGER_PER_VARIATION: Final = 2.0
_LONGEST_FACTOR: Final = 4.0

Shaped = tuple[int, tuple[Reason, ...]]


def lower_window_seconds(policy: AutoscalingPolicy, state: State, cold_start_seconds: float) -> float:
    """Return the length of the scale-down window; with an objective the longer, the burstier the load."""
    window = policy.scale_down.stabilisation_seconds
    if policy.slo is None:
        return window
    if state.learned is not None:
        excess = state.learned.forecast.variation - _BURSTY
        window *= min(_LONGEST_FACTOR, max(1.0, 1.0 + _LONGER_PER_VARIATION * excess))
    return max(window, COLD_STARTS_KEPT * cold_start_seconds)


def shaped(
    policy: AutoscalingPolicy,
    signals: Signals,
    in_flight: float,
    wanted: int,
    state: State,
    cold_start_seconds: float,
    now: float,
) -> Shaped:
    """Apply placeability, windows and step limits to what is wanted."""
    withdrawn = _withdrawn(signals, wanted)
    if withdrawn is not None:
        return withdrawn
    if wanted > signals.current:
        return _shaped_up(policy, signals, in_flight, wanted, state, cold_start_seconds, now)
    if wanted < signals.current:
        return _shaped_down(policy, signals, wanted, state, cold_start_seconds, now)
    return wanted, ()


def _withdrawn(signals: Signals, wanted: int) -> Shaped | None:
    """Take back the replicas that cannot be placed; None while all that is asked for can be."""
    if isinstance(signals.placeable, NoData) or not signals.unschedulable:
        return None
    most = max(signals.placeable, signals.ready + signals.starting)
    if most >= signals.current or wanted < most:
        return None
    sentence = (
        f"{wanted} replicas are wanted, {signals.placeable} can be placed: "
        f"taking back {signals.current - most} that the scheduler refuses"
    )
    return most, (Reason(reasons.NOT_PLACEABLE, sentence),)


def _shaped_up(
    policy: AutoscalingPolicy,
    signals: Signals,
    in_flight: float,
    wanted: int,
    state: State,
    cold_start_seconds: float,
    now: float,
) -> Shaped:
    current, up = signals.current, policy.scale_up
    if signals.unschedulable and isinstance(signals.placeable, NoData):
        sentence = (
            f"{wanted} replicas are wanted, but {signals.unschedulable} of {current} cannot be placed: "
            "not asking for more until they are"
        )
        return current, (Reason(reasons.UNSCHEDULABLE, sentence),)
    clamps: list[Reason] = []
    target = wanted
    if not in_panic(state, now):
        target = max(current, min(wanted, state.windows.lowest))
    if target < wanted:
        frees = state.windows.raise_free_at(up.stabilisation_seconds) - now
        window = f"the last {up.stabilisation_seconds:.0f} s"
        sentence = f"{wanted} were not wanted all through {window}; higher in {frees:.0f} s at the earliest"
        clamps.append(Reason(reasons.STABILISING, sentence))
    limit = None
    if policy.slo is None or isinstance(signals.waiting, NoData):
        limit = steps.raise_limit(
            current=current,
            ready=signals.ready,
            in_flight=in_flight,
            per_replica=_per_replica(policy, state),
            headroom=state.headroom,
            tolerance=up.tolerance,
            last_raise=state.last_raise,
            cold_start_seconds=cold_start_seconds,
            now=now,
        )
    if limit is not None and limit[0] < target:
        target = limit[0]
        clamps.append(limit[1])
    step = steps.step_up_to(current, up.max_step_percent, up.max_step_replicas)
    if step < target:
        clamps.append(Reason(reasons.STEP_LIMITED, f"{target} replicas are wanted, one step reaches {step}"))
        target = step
    if not isinstance(signals.placeable, NoData) and signals.placeable < target:
        sentence = (
            f"{target} replicas are wanted, {signals.placeable} can be placed: not asking for the others"
        )
        clamps.append(Reason(reasons.NOT_PLACEABLE, sentence))
        target = max(current, signals.placeable)
    return target, tuple(clamps)


def _shaped_down(
    policy: AutoscalingPolicy,
    signals: Signals,
    wanted: int,
    state: State,
    cold_start_seconds: float,
    now: float,
) -> Shaped:
    current, down = signals.current, policy.scale_down
    if in_panic(state, now):
        left = (state.panic_until_seconds or now) - now
        sentence = f"a burst forbids lowering for {left:.0f} s more"
        return current, (Reason(reasons.PANIC, sentence),)
    window_seconds = lower_window_seconds(policy, state, cold_start_seconds)
    clamps: list[Reason] = []
    target = min(current, max(wanted, state.windows.highest))
    if target > wanted:
        frees = state.windows.lower_free_at(window_seconds) - now
        window = f"the last {window_seconds:.0f} s"
        sentence = f"{state.windows.highest} were wanted in {window}; lower in {frees:.0f} s at the earliest"
        clamps.append(Reason(reasons.STABILISING, sentence))
    left = steps.lower_pause(state.last_lower_seconds, down.stabilisation_seconds, now)
    if target < current and left > 0:
        sentence = f"the last lowering must show in the survivors first: {left:.0f} s left"
        return current, (*clamps, Reason(reasons.STEP_WAIT, sentence))
    if target < current and policy.slo is not None and signals.starting:
        sentence = f"{signals.starting} replicas are starting: none is taken away before it served"
        return current, (*clamps, Reason(reasons.COLD_START_WAIT, sentence))
    turns = recent_turns(state, now)
    if target < current and policy.slo is not None and state.rising and len(turns) >= MOST_TURNS:
        left = turns[0] + TURNS_SECONDS - now
        within = f"within {TURNS_SECONDS / 3600.0:.0f} hours"
        sentence = f"a raise was taken back {len(turns)} times {within}: not lowering for {left:.0f} s"
        return current, (*clamps, Reason(reasons.TURNING, sentence))
    step = steps.step_down_to(current, down.max_step_percent, down.max_step_replicas)
    if step > target:
        clamps.append(
            Reason(reasons.STEP_LIMITED, f"{target} replicas would do, one step goes down to {step}")
        )
        target = step
    return target, tuple(clamps)


def recent_turns(state: State, now: float) -> tuple[float, ...]:
    """Return when, within the last ``TURNS_SECONDS``, a lowering followed a raise."""
    return tuple(at for at in state.turns_seconds if at > now - TURNS_SECONDS)


def in_panic(state: State, now: float) -> bool:
    """Tell whether a burst still forbids lowering."""
    return state.panic_until_seconds is not None and now < state.panic_until_seconds


def bounded(policy: AutoscalingPolicy, signals: Signals, target: int) -> Shaped:
    """Keep the count between the policy's bounds, and above zero unless a queue outside can wake it."""
    if target > policy.max_replicas:
        sentence = f"{target} replicas are wanted, maxReplicas is {policy.max_replicas}"
        return policy.max_replicas, (Reason(reasons.AT_MAXIMUM, sentence),)
    if target < policy.min_replicas:
        sentence = f"{target} replicas would do, minReplicas is {policy.min_replicas}"
        return policy.min_replicas, (Reason(reasons.AT_MINIMUM, sentence),)
    if target < 1 and isinstance(signals.waiting_outside, NoData):
        sentence = "no replica is needed; one stays, since nothing outside the pods could ask for it back"
        return 1, (Reason(reasons.ZERO_NEEDS_QUEUE, sentence),)
    return target, ()


def woken(policy: AutoscalingPolicy, signals: Signals, state: State) -> tuple[int, Reason]:
    """Return the count to wake to from zero (0: stay), by the queue outside the pods alone."""
    outside = signals.waiting_outside
    if isinstance(outside, NoData):
        sentence = f"0 replicas: only a queue outside the pods could ask for the first one ({outside.reason})"
        return 0, Reason(reasons.ZERO_NEEDS_QUEUE, sentence)
    if outside <= 0.0:
        return 0, Reason(reasons.STEADY, "0 replicas, and nothing waits outside the pods")
    per_replica = _per_replica(policy, state) or DEFAULT_PER_REPLICA
    needed = max(1, capacity.replicas_for(outside / per_replica))
    waits = f"{outside:.4g} requests wait outside the pods and need {needed}"
    if isinstance(signals.placeable, int) and signals.placeable < needed:
        needed = max(0, signals.placeable)
        waits = f"{waits}, {needed} can be placed"
        if needed == 0:
            return 0, Reason(reasons.NOT_PLACEABLE, waits)
    return min(needed, policy.max_replicas), Reason(reasons.QUEUE_OUTSIDE, waits)


def _per_replica(policy: AutoscalingPolicy, state: State) -> float | None:
    """What one replica carries: given, learned, or None where nothing says so."""
    if policy.in_flight is not None:
        return policy.in_flight.per_replica
    if state.learned is not None and state.learned.per_replica is not None:
        return state.learned.per_replica
    return None if policy.slo is None else DEFAULT_PER_REPLICA
