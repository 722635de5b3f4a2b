"""Search policy values on recorded days, judge them on later days that the search did not see.

A candidate is the product's own decision (``autoscaler.decide``) over the simulated server, on the same
arrivals as the policy that runs now. Its cost:

    cost = GPU-hours / GPU-hours of the present policy + PENALTY * max(0, late share / allowed - 1)

where ``allowed`` is what the objective allows, or what the present policy misses if that is more. The
search (optuna's Tree-structured Parzen Estimator, seeded) sees the first part of the history. The judgement
runs the whole history, so that what is learned in the first part is known in the second, and compares the
later blocks (days) pair by pair. Nothing is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cluster.autoscaling_policy import AutoscalingPolicy
from simulator.autoscaling_demand import Demand, Ints, demand_of
from simulator.autoscaling_faults import Faults
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_policies.slicewise import Slicewise
from simulator.autoscaling_policy import Bounds, Seen
from simulator.autoscaling_run import Steered, first_replicas, simulate
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats, RequestTrace, Trace, TraceRefused
from simulator.paired import Difference, difference
from simulator.tuning_space import changed, knobs_of, value_of

PENALTY = 5.0
AT_A_TIME = 4
# A change of the policy that lowers the cost by less is not proposed.
WORTH_A_CHANGE = 0.003
DAY_SECONDS = 86_400.0
# Fewer days than this to judge by are cut into quarters instead.
_FEWEST_DAYS, _BLOCKS_OF_FEWER = 3, 4
_SHORTEST_SEARCH_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class History:
    """``seen`` is what the search replays; ``judged`` is what candidates are judged on, from ``marks[0]`` on;
    two neighbouring marks (seconds) are a block.
    """

    seen: Trace
    judged: Trace
    marks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What had come by each mark: ``arrived``, ``missed`` requests and ``gpu_seconds``, (marks, seeds)."""

    arrived: Floats
    missed: Floats
    gpu_seconds: Floats

    def attainment(self) -> float:
        """The share in time between the first mark and the last, over all seeds."""
        arrived = float((self.arrived[-1] - self.arrived[0]).sum())
        return 1.0 - float((self.missed[-1] - self.missed[0]).sum()) / max(arrived, 1.0)

    def gpu_hours(self) -> float:
        """GPU-hours between the first mark and the last, the mean of the seeds."""
        return float((self.gpu_seconds[-1] - self.gpu_seconds[0]).mean()) / 3600.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The tuned policy against the present one on blocks that the search did not see; ``saved`` in percent of
    the present GPU-hours, ``attained`` in points of a hundred.
    """

    present: Tally
    tuned: Tally
    saved: Difference
    attained: Difference


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best policy found, from how many trials, and its judgement (None: the search found none better)."""

    policy: AutoscalingPolicy
    trials: int
    seen_present: Tally
    judgement: Judgement | None


@dataclass(frozen=True, slots=True)
class Setup:
    """What all candidates share; ``seeds`` draw the arrivals."""

    history: History
    server: ServerModel
    startup_seconds: float
    seeds: tuple[int, ...]


def split(trace: Trace, held_out: float) -> History:
    """Cut a history: its last share ``held_out`` is for judging, by days or, if short, by quarters.

    Raises TraceRefused for a history too short to be cut.
    """
    span = trace.span_seconds
    at = span * (1.0 - held_out)
    if min(at, span - at) < _SHORTEST_SEARCH_SECONDS:
        raise TraceRefused(
            f"{trace.name}: got {span / 60.0:.0f} minutes, of which {held_out:.0%} are for judging; expected "
            "at least 10 minutes on either side; give a longer history"
        )
    if isinstance(trace, RequestTrace):
        # Requests are moved round as a whole by each seed, so the two parts must be traces of their own.
        seen, judged = _requests(trace, 0.0, at), _requests(trace, at, span + 1.0)
        return History(seen, judged, _marks(0.0, judged.span_seconds))
    windows = max(1, round(at / trace.window_seconds))
    cut = {
        name: getattr(trace, name)[:windows] for name in ("rate_rps", "cv", "input_tokens", "output_tokens")
    }
    return History(replace(trace, **cut), trace, _marks(windows * trace.window_seconds, span))


def _requests(trace: RequestTrace, first: float, last: float) -> RequestTrace:
    kept = (trace.at_seconds >= first) & (trace.at_seconds < last)
    if int(kept.sum()) < 2:
        raise TraceRefused(f"{trace.name}: got no requests from second {first:.0f} on; give a longer history")
    at = trace.at_seconds[kept]
    return RequestTrace(trace.name, at - at[0], trace.input_tokens[kept], trace.output_tokens[kept])


def _marks(first: float, last: float) -> tuple[float, ...]:
    days = round((last - first) / DAY_SECONDS)
    blocks = days if days >= _FEWEST_DAYS else _BLOCKS_OF_FEWER
    return tuple(np.linspace(first, last, blocks + 1).tolist())


def run_policies(
    policies: Sequence[AutoscalingPolicy],
    demand: Demand,
    setup: Setup,
    marks: Sequence[float],
) -> list[Tally]:
    """Simulate ``policies`` side by side on the same arrivals."""
    seeds = demand.seeds
    bounds = Bounds(max(1, policies[0].min_replicas), policies[0].max_replicas, setup.server.slots)
    rows = np.tile(np.arange(seeds), len(policies))
    startup = np.full(len(rows), setup.startup_seconds)
    start = first_replicas(demand, bounds, setup.startup_seconds)[rows]
    fleet = Fleet(demand, setup.server, rows, startup, start)
    by_run = [policy for policy in policies for _ in range(seeds)]
    watched = _Watched(Slicewise(by_run, startup), fleet, marks)
    simulate(demand, setup.server, fleet, [Steered(watched, 0, len(rows))], Faults(frozenset(), 0.0))
    watched.note(fleet)
    arrived, missed, spent = (np.stack(values) for values in zip(*watched.noted, strict=True))
    return [
        Tally(*(part[:, place * seeds : (place + 1) * seeds] for part in (arrived, missed, spent)))
        for place in range(len(policies))
    ]


class _Watched:
    """Slicewise, with what had come by each mark written down on the way."""

    def __init__(self, inner: Slicewise, fleet: Fleet, marks: Sequence[float]) -> None:
        self.period_seconds, self.scrape_seconds = inner.period_seconds, inner.scrape_seconds
        self.direct = inner.direct
        self._inner, self._fleet, self._marks = inner, fleet, tuple(marks)
        self.noted: list[tuple[Floats, Floats, Floats]] = []
        if self._marks[0] <= 0.0:
            self.note(fleet)

    def decide(self, seen: Seen, now: float) -> Ints:
        # The last mark is the end of the run, which no decision sees.
        while len(self.noted) < len(self._marks) - 1 and now >= self._marks[len(self.noted)]:
            self.note(self._fleet)
        return self._inner.decide(seen, now)

    def restarted(self) -> None:
        self._inner.restarted()

    def note(self, fleet: Fleet) -> None:
        """Write down what has come so far."""
        self.noted.append((fleet.arrived.copy(), fleet.missed.copy(), fleet.gpu_seconds.copy()))


def tune(
    policy: AutoscalingPolicy,
    setup: Setup,
    trials: int,
    *,
    seed: int,
    told: Callable[[int, float], None] = lambda trial, cost: None,
) -> Tuned:
    """Search ``trials`` policies, judge the best. ``told`` gets (trials done, best cost so far; 1 is now)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    knobs = {knob.path: knob for knob in knobs_of(policy)}
    search: Any = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=False))
    search.enqueue_trial({path: value_of(policy, knob) for path, knob in knobs.items()})
    demand = demand_of(setup.history.seen, setup.server, setup.seeds)
    marks = (0.0, setup.history.seen.span_seconds)
    (present,) = run_policies([policy], demand, setup, marks)
    allowed = max(_allowed(policy), 1.0 - present.attainment())
    done = 0
    while done < trials:
        asked = [search.ask() for _ in range(min(AT_A_TIME, trials - done))]
        for trial in asked:
            for path, knob in knobs.items():
                trial.suggest_float(path, knob.low, knob.high, log=knob.log)
        found = run_policies([changed(policy, trial.params) for trial in asked], demand, setup, marks)
        for trial, tally in zip(asked, found, strict=True):
            search.tell(trial, cost(tally, present, allowed))
            done += 1
            told(done, float(search.best_value))
    best = search.best_trial
    if float(best.value) >= 1.0:
        return Tuned(policy, trials, present, None)
    values = _simplest(
        policy,
        dict(best.params),
        float(best.value),
        lambda candidates: run_policies(candidates, demand, setup, marks),
        lambda found: cost(found, present, allowed),
    )
    tuned = changed(policy, values)
    return Tuned(tuned, trials, present, judge(policy, tuned, setup))


def _simplest(
    policy: AutoscalingPolicy,
    values: Mapping[str, float],
    least: float,
    simulated: Callable[[Sequence[AutoscalingPolicy]], list[Tally]],
    cost_of: Callable[[Tally], float],
) -> Mapping[str, float]:
    """Take back each change that the gain does not need, so that a person has little to read and to doubt;
    ``least``: the cost with all of them.
    """
    most = least + WORTH_A_CHANGE
    without = [{path: value for path, value in values.items() if path != other} for other in values]
    found = simulated([changed(policy, fewer) for fewer in without])
    idle = {path for path, one in zip(values, found, strict=True) if cost_of(one) <= most}
    needed = {path: value for path, value in values.items() if path not in idle}
    (together,) = simulated([changed(policy, needed)])
    return needed if needed and cost_of(together) <= most else values


def cost(tally: Tally, present: Tally, allowed: float) -> float:
    """See the formula at the top; 1.0 is what runs now."""
    late = max(0.0, (1.0 - tally.attainment()) / allowed - 1.0)
    return tally.gpu_hours() / max(present.gpu_hours(), 1e-9) + PENALTY * late


def judge(
    policy: AutoscalingPolicy,
    tuned: AutoscalingPolicy,
    setup: Setup,
) -> Judgement:
    """Both policies over the whole history, compared on its later blocks."""
    demand = demand_of(setup.history.judged, setup.server, setup.seeds)
    now, then = run_policies([policy, tuned], demand, setup, setup.history.marks)
    spent = [np.diff(tally.gpu_seconds, axis=0).mean(axis=1) for tally in (now, then)]
    late = [_late_by_block(tally) for tally in (now, then)]
    return Judgement(
        now,
        then,
        difference((100.0 * (1.0 - spent[1] / np.maximum(spent[0], 1e-9))).tolist()),
        difference((100.0 * (late[0] - late[1])).tolist()),
    )


def _late_by_block(tally: Tally) -> Floats:
    arrived = np.diff(tally.arrived, axis=0).sum(axis=1)
    return np.asarray(np.diff(tally.missed, axis=0).sum(axis=1) / np.maximum(arrived, 1.0))


def _allowed(policy: AutoscalingPolicy) -> float:
    return 0.01 if policy.slo is None else 1.0 - policy.slo.attainment
