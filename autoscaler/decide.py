"""How many replicas a workload should have: the pure core of the autoscaler.

In-flight requests size the workload (``sizing``: as they are, or with the headroom learned from a stated
objective); p95 latency and GPU utilisation may ask for one more and may forbid fewer (``latency``,
``gpu_guard``); missing numbers hold it (``outage``); stabilisation windows, step limits tied to the start-up
time and the policy's bounds shape what is left (``shaping``). Replicas that are starting are supply. Replicas
that the scheduler refuses are not asked for a second time.

Every clamp leaves a reason, and the reason that settled the count comes first. Deterministic: the time is
passed in, the state is passed in and handed back. It lowers to zero only while a queue outside the pods is
watched: nothing inside the pods could ask for the first one back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoscaler import capacity, outage, reasons
from autoscaler.carbon_trade import traded
from autoscaler.gpu_guard import gpu_opinion
from autoscaler.latency import latency_opinion
from autoscaler.reasons import Opinion, Reason
from autoscaler.replacing import replace
from autoscaler.shaping import bounded, lower_window_seconds, recent_turns, shaped, woken
from autoscaler.signals import Signals
from autoscaler.sizing import Load, sized
from autoscaler.state import Raise, State
from autoscaler.stream_lag import sized_by_lag, woken_by_lag
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
    policy = traded(policy, signals.grid_grams_per_kwh)
    if policy.lag is not None and not isinstance(signals.stream, NoData):
        signals = replace(signals, waiting_outside=signals.stream.messages)
    if signals.other_writer is not None:
        return _left_to(signals.other_writer, policy, signals, state, now)
    if signals.current == 0:
        return _at_zero(policy, signals, state, now)
    signals = _with_outside(signals)
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
        state = _unlearned(policy, state, now)
        state = _remember(
            policy, state, max(wanted, signals.current), cold_start_seconds(policy, signals), now
        )
        kept, clamps = bounded(policy, signals, wanted)
        return Decision(kept, _ordered(signals.current, kept, why, clamps), state)
    in_flight = 0.0 if isinstance(signals.in_flight, NoData) else signals.in_flight
    if state.blind_since_seconds is not None:
        state = replace(state, blind_since_seconds=None)
    return _seeing(policy, signals, in_flight, state, now)


def _with_outside(signals: Signals) -> Signals:
    """Count requests that are held before the pods as waiting; with no replica ready they are all."""
    outside = signals.waiting_outside
    if isinstance(outside, NoData) or outside <= 0.0:
        return signals
    if isinstance(signals.in_flight, NoData):
        return replace(signals, in_flight=outside) if signals.ready == 0 else signals
    waiting = signals.waiting if isinstance(signals.waiting, NoData) else signals.waiting + outside
    return replace(signals, in_flight=signals.in_flight + outside, waiting=waiting)


def _unlearned(policy: AutoscalingPolicy, state: State, now: float) -> State:
    """Nothing is learned from a time in which nothing was seen."""
    if policy.slo is None or state.learned is None:
        return state
    headroom = state.learned.headroom.spoiled(now, policy.slo.period_seconds)
    return replace(state, learned=replace(state.learned, headroom=headroom))


def _missing(policy: AutoscalingPolicy, signals: Signals) -> NoData | None:
    """Return the absence of the signal that sizes this workload, None when it is there."""
    if policy.lag is not None:
        return signals.stream if isinstance(signals.stream, NoData) else None
    if policy.in_flight is not None or policy.slo is not None:
        return signals.in_flight if isinstance(signals.in_flight, NoData) else None
    return signals.p95_seconds if isinstance(signals.p95_seconds, NoData) and not signals.idle else None


def _seeing(
    policy: AutoscalingPolicy, signals: Signals, in_flight: float, state: State, now: float
) -> Decision:
    """Decide with the sizing signal known (``in_flight`` counts only where the policy sizes by it)."""
    load: Load | None = None
    cold_start = cold_start_seconds(policy, signals)
    if policy.lag is not None and not isinstance(signals.stream, NoData):
        load, state = sized_by_lag(policy.lag, signals.stream, signals, state)
        state = _alarmed(policy, signals, load, state, now)
    elif policy.in_flight is not None or policy.slo is not None:
        window = lower_window_seconds(policy, state, cold_start)
        load, state = sized(policy, signals, in_flight, state, cold_start, window, now)
        state = _alarmed(policy, signals, load, state, now)
    if load is None:
        wanted, why = _wanted_by_latency(policy, signals, state, now)
    else:
        wanted, why = _wanted(policy, signals, load, state, now)
    state = _remember(policy, state, wanted, cold_start, now)
    target, clamps = shaped(policy, signals, in_flight, wanted, state, cold_start, now)
    settled, bounds = bounded(policy, signals, target)
    if settled > signals.current:
        state = replace(state, last_raise=Raise(now, in_flight))
    elif settled < signals.current:
        turns = recent_turns(state, now)
        turns = (*turns, now) if state.rising else turns
        state = replace(state, last_lower_seconds=now, turns_seconds=turns)
    return Decision(settled, _ordered(signals.current, settled, why, clamps + bounds), state)


def _alarmed(policy: AutoscalingPolicy, signals: Signals, load: Load, state: State, now: float) -> State:
    """Enter or prolong panic: the load is a multiple of what the ready replicas hold."""
    panic = policy.panic
    if panic is None or load.replicas < panic.threshold * max(1, signals.ready):
        return state
    window = lower_window_seconds(policy, state, cold_start_seconds(policy, signals))
    return replace(state, panic_until_seconds=now + window)


def _wanted(
    policy: AutoscalingPolicy, signals: Signals, sizes: Load, state: State, now: float
) -> tuple[int, tuple[Reason, ...]]:
    """What the signals ask for, before windows, steps and bounds."""
    current, load, fullest, margin = signals.current, sizes.replicas, sizes.fullest, sizes.margin
    holds = sizes.sentence
    opinions = _opinions(policy, signals, load, state, now)
    forbidding = tuple(r for o in opinions if o.forbids_lowering for r in o.reasons)
    asking = [o for o in opinions if o.raise_to is not None]

    # With an objective the headroom is the tolerance: what it leaves free for long is not needed.
    slack = policy.scale_down.tolerance if policy.slo is None else 0.0

    if capacity.above(load, current, policy.scale_up.tolerance):
        needed = capacity.replicas_for(load)
        return needed, (Reason(reasons.IN_FLIGHT_NEEDS_MORE, f"{holds} need {needed}; {_there(signals)}"),)
    if asking:
        return max(o.raise_to or 0 for o in asking), tuple(r for o in asking for r in o.reasons)
    if not capacity.below(fullest, current, slack):
        if capacity.below(load, current, slack):
            sentence = f"{holds}, but {signals.silent} ready replicas report nothing and count as full"
            return current, (Reason(reasons.SILENT_PODS, sentence), *forbidding)
        code = reasons.STEADY if capacity.replicas_for(load) == current else reasons.WITHIN_TOLERANCE
        return current, (Reason(code, f"{holds} suit the {current} that are there"), *forbidding)
    survivors = capacity.survivors_for(fullest, margin)
    spare = f" with a margin of {margin:.0%}" if margin else ""
    if survivors >= current:
        sentence = f"{holds}: {current - 1} would not hold them{spare}"
        return current, (Reason(reasons.SURVIVORS_TOO_FEW, sentence), *forbidding)
    if forbidding:
        return current, forbidding
    sentence = f"{holds}: {survivors} hold them{spare}; {_there(signals)}"
    return survivors, (Reason(reasons.IN_FLIGHT_NEEDS_FEWER, sentence),)


def _there(signals: Signals) -> str:
    return f"{signals.current} are there ({signals.ready} ready, {signals.starting} starting)"


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
    if policy.latency is None and policy.gpu_utilisation is None:
        return ()
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


def _at_zero(policy: AutoscalingPolicy, signals: Signals, state: State, now: float) -> Decision:
    """Wake on a queue outside the pods; leave a workload that someone set to zero alone, as the HPA does."""
    if policy.min_replicas > 0:
        sentence = "the target was set to 0 replicas: autoscaling is paused until it is set to 1 or more"
        return Decision(0, (Reason(reasons.PAUSED, sentence),), state)
    if policy.lag is not None:
        replicas, reason = woken_by_lag(policy.lag, signals, state, most=policy.max_replicas)
    else:
        replicas, reason = woken(policy, signals, state)
    if replicas:
        state = replace(state, last_raise=Raise(now, 0.0))
        state = _remember(policy, state, replicas, cold_start_seconds(policy, signals), now)
    return Decision(replicas, (reason,), state)


def _left_to(writer: str, policy: AutoscalingPolicy, signals: Signals, state: State, now: float) -> Decision:
    """Stop while somebody else sets the replicas: two writers would undo each other's work for ever."""
    sentence = (
        f"{writer} sets the replicas of this target as well: not writing until only one of the two does"
    )
    state = _unlearned(policy, state, now)
    state = _remember(policy, state, signals.current, cold_start_seconds(policy, signals), now)
    return Decision(signals.current, (Reason(reasons.OTHER_WRITER, sentence),), state)


def _remember(
    policy: AutoscalingPolicy, state: State, recommended: int, cold_start: float, now: float
) -> State:
    windows = state.windows.seen(
        recommended,
        now,
        lower_seconds=lower_window_seconds(policy, state, cold_start),
        raise_seconds=policy.scale_up.stabilisation_seconds,
    )
    return replace(state, windows=windows)


def _ordered(
    current: int, replicas: int, why: tuple[Reason, ...], clamps: tuple[Reason, ...]
) -> tuple[Reason, ...]:
    """Put first what settled the count: the last clamp when a wish came to nothing, else the wish."""
    taken_back = replicas < current and any(r.code == reasons.NOT_PLACEABLE for r in clamps)
    if clamps and (replicas == current or taken_back):
        return (clamps[-1], *why, *clamps[:-1])
    return (*why, *clamps)


def cold_start_seconds(policy: AutoscalingPolicy, signals: Signals) -> float:
    """Return the measured time from creation to Ready, or the policy's until something was measured."""
    measured = signals.cold_start_seconds
    return policy.cold_start_seconds if isinstance(measured, NoData) else measured
