"""The control loop: read every scale, collect once, decide each workload, write what changed.

One period for all workloads: the shortest that a policy asks for; a burst brings the next round sooner
(``pace``). Workloads are isolated: a target that is gone, a policy with an unknown server, a refused write or
a defect in one decision leaves all others untouched. Only the leader decides and writes, and looks at its
lease again before each write; a replica that loses the lead forgets its windows, since they no longer
describe what was done. What was learned is handed to a store, from which the next leader takes it up.

A policy with ``actuator: advise`` is decided and not written: HPA or KEDA follow it through ``doors``.

Decides nothing itself (``decide``) and talks to nothing itself (``targets``, ``collect``, ``learned_store``,
the Event recorder).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from autoscaler.announce import announcement
from autoscaler.case import Case
from autoscaler.collect import Collector, Workload
from autoscaler.decide import Decision
from autoscaler.following import followed
from autoscaler.other_writer import Rivals
from autoscaler.pace import Pace
from autoscaler.placeable import NOTHING_ASKED, NodeRequest, Placed
from autoscaler.placement import Placement
from autoscaler.ports import Recorder, Scales, Store, Victims
from autoscaler.reasons import ReasonClass
from autoscaler.replacing import replace
from autoscaler.round_times import RoundTimes
from autoscaler.scale_reads import PARALLEL_READS, read_all
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.state import State
from autoscaler.targets import Cause, ScaleSight, Target, TargetRefused, in_words
from autoscaler.undisturbed import Held, Undisturbed
from autoscaler.variant_offers import Settled, Variants
from autoscaler.view import View
from autoscaler.windows import Windows
from cluster import event_reasons
from cluster.api_errors import ApiError
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.samples import NoData

log = logging.getLogger(__name__)

DEFAULT_PERIOD_SECONDS: Final = 5.0
SHORTEST_PERIOD_SECONDS: Final = 0.5

T = TypeVar("T")
PolicyKey = tuple[str, str]
Policies = Mapping[PolicyKey, AutoscalingPolicy]


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is kept of a workload between two rounds."""

    state: State | None = None
    reason_class: ReasonClass | None = None
    failure: str | None = None
    view: View | None = None


class Controller:
    """Runs rounds; ``run`` until told to stop, or ``round`` by hand."""

    def __init__(
        self,
        policies: Callable[[], Policies],
        scales: Scales,
        collector: Collector,
        recorder: Recorder,
        metrics: AutoscalerMetrics,
        *,
        is_leader: Callable[[], bool] = lambda: True,
        dry_run: bool = False,
        store: Store | None = None,
        placement: Placement | None = None,
        rivals: Rivals | None = None,
        victims: Victims | None = None,
        variants: Variants | None = None,
        pace: Pace | None = None,
        beside: Sequence[Held] = (),
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` never runs backwards and times decisions; ``wall_clock`` is Unix time, for Prometheus
        and pods. With ``dry_run`` everything happens except writes and Events about changes. Without a
        ``store`` a restart begins to learn anew; without ``placement`` all that is wanted is asked for,
        without ``rivals`` nobody else is looked out for, without ``victims`` the pods to go are not chosen,
        without ``variants`` each variant of a model is decided alone; ``pace`` waits between rounds,
        ``beside`` is held while one runs.
        """
        self.last_round_seconds: float | None = None
        self.node_requests: tuple[NodeRequest, ...] = ()
        self._policies = policies
        self._scales = scales
        self._collector = collector
        self._recorder = recorder
        self._metrics = metrics
        self._is_leader = is_leader
        self._dry_run = dry_run
        self._store, self._placement, self._rivals, self._victims = store, placement, rivals, victims
        self._variants = variants
        self._clock, self._wall_clock = clock, wall_clock
        self._pace = Pace(clock) if pace is None else pace
        self._undisturbed = Undisturbed((*collector.beside, *beside))
        self.times = RoundTimes(lambda _phase: self._undisturbed.hold())
        self._pool = ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="scale")
        self._memories: dict[Target, _Memory] = {}
        self._lacking: dict[Target, int] = {}
        self._contradicting: set[Target] = set()

    @property
    def views(self) -> tuple[View, ...]:
        """The newest decision of every workload, by target."""
        views = (memory.view for memory in list(self._memories.values()))
        return tuple(sorted((view for view in views if view is not None), key=lambda view: str(view.target)))

    def period_seconds(self) -> float:
        """The shortest period that a policy asks for, seconds."""
        shortest = min((p.period_seconds for p in self._policies().values()), default=DEFAULT_PERIOD_SECONDS)
        return max(SHORTEST_PERIOD_SECONDS, shortest)

    def run(self, stop: threading.Event) -> None:
        """Run rounds until ``stop`` is set; a round that fails as a whole is logged, the next follows."""
        try:
            while not stop.is_set():
                began = self._clock()
                try:
                    self.round()
                except Exception:
                    log.exception("a round of the autoscaler failed; the next one follows")
                self._pace.wait(stop, began, self.period_seconds())
        finally:
            self.close()

    def close(self) -> None:
        """End the threads that read and write."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    def round(self) -> None:
        """Decide once about every workload that a policy names."""
        if not self._is_leader():
            for target in list(self._memories):
                self._forget(target)
            if self._store is not None:
                self._store.forget()
            self._collector.forget()
            self.node_requests = ()
            self.last_round_seconds = self._clock()
            return
        self.times.begin()
        with self._undisturbed:  # all of it: at its end everybody wants the interpreter at once
            self._decide_all()
            self._keep_learned()
            self._metrics.round_took(self.times.end(self.period_seconds()))
            self.last_round_seconds = self._clock()

    def _decide_all(self) -> None:
        enter = self.times.enter
        enter("scales")
        wanted = {Target.of(policy, key[0]): (key, policy) for key, policy in self._policies().items()}
        for target in set(self._memories) - set(wanted):
            self._forget(target)
        for target in set(wanted) - set(self._memories):
            self._adopt(target)
        for target in () if self._store is None else self._store.begin(self._memories):
            # Rounds that could not read it began to learn anew: what is kept is worth more than theirs.
            self._memories[target] = replace(self._memories[target], state=None)
        workloads = self._read(wanted)
        signals_of = self._collector.ask(workloads, self._wall_clock(), enter)
        enter("decisions")
        begun = [self._isolated(w, partial(self._begin, w, signals_of)) for w in workloads]
        cases = [case for case in begun if case is not None]
        enter("room")
        placed = self._place(cases)
        self.node_requests = placed.requests
        self._lacking = {request.target: request.replicas for request in placed.requests}
        enter("outcome")
        writing = []
        for case, signals, decision in self._settle(cases, placed):
            finish = partial(self._isolated, case.workload, partial(self._finish, case, signals, decision))
            if decision.replicas == signals.current:
                finish()
            else:  # a write takes milliseconds, and a burst may take many
                writing.append(self._pool.submit(finish))
        enter("writes")
        for written in writing:
            written.result()
        enter("memory")

    def _read(self, wanted: Mapping[Target, tuple[PolicyKey, AutoscalingPolicy]]) -> list[Workload]:
        """Read all scales, a few at a time; what cannot be read is reported and left out."""
        workloads: list[Workload] = []
        sights = read_all(list(wanted), lambda target: self._read_one(target, wanted[target][1]), self._pool)
        for target, sight in sights.items():
            (namespace, name), policy = wanted[target]
            if isinstance(sight, ScaleSight):
                workloads.append(Workload(policy, sight))
            else:
                # The target itself may not exist, so the policy's own ConfigMap carries the news.
                about = ObjectReference(api_version="v1", kind="ConfigMap", namespace=namespace, name=name)
                self._failed(target, about, *in_words(sight))
        return workloads

    def _read_one(self, target: Target, policy: AutoscalingPolicy) -> ScaleSight:
        try:
            self._collector.check(policy)
        except ValueError as error:
            raise TargetRefused("policy", f"{target}: {error}") from None
        return self._scales.read(target)

    def _isolated(self, workload: Workload, do: Callable[[], T]) -> T | None:
        """Do something about one workload; whatever goes wrong stays with it, and gives None."""
        target, about = workload.sight.target, workload.sight.reference
        try:
            return do()
        except (TargetRefused, ApiError) as error:
            self._failed(target, about, *in_words(error))
        except Exception as error:
            log.exception("%s: no decision", target)
            self._failed(target, about, "other", f"no decision: {type(error).__name__}: {error}")
        return None

    def _begin(self, workload: Workload, signals_of: Callable[[Workload], Signals]) -> Case:
        signals = signals_of(workload)
        target, sight, now = workload.sight.target, workload.sight, self._clock()
        memory, state = self._memories[target], self._memories[target].state
        if state is None and self._store is not None:
            state = State.recalled(self._store.text_of(target), signals.current, now)
        if workload.policy.actuator == "advise":
            if state is not None and memory.view is not None:
                state = followed(state, memory.view.signals, signals.current, now)
        elif self._rivals is not None and not self._dry_run:
            look = self._rivals.look(sight, now)
            if look.rival is not None:
                signals = replace(signals, other_writer=look.rival)
            if look.change is not None and look.rival is None:
                self._recorder.record(
                    sight.reference,
                    event_reasons.REPLICAS_TAKEN_OVER,
                    look.change.sentence,
                    event_reasons.NORMAL,
                    "Scale",
                )
                self._metrics.foreign_changes.labels(*_labels(target)).inc()
                if state is not None:
                    state = replace(state, windows=Windows.begun_with(signals.current, now))
        return Case.of(workload, signals, state, now)

    def _place(self, cases: Sequence[Case]) -> Placed:
        """Ask the fleet what there is room for; without an answer nothing is known about it."""
        wishes = [wish for case in cases if (wish := case.wish) is not None]
        if self._placement is None or not wishes:
            return NOTHING_ASKED
        try:
            return self._placement.ask(wishes, self._pool)
        except Exception as error:
            log.exception("the fleet could not be asked for room")
            unknown = NoData(f"the fleet could not be asked: {type(error).__name__}: {error}")
            return Placed({wish.sight.target: unknown for wish in wishes})

    def _settle(self, cases: Sequence[Case], placed: Placed) -> list[Settled]:
        """Decide with the room there is; then variants of a model share its load at the least price."""
        settled = []
        for case in cases:
            target = case.workload.sight.target
            answer = NOT_ASKED if self._placement is None else placed.answers.get(target)
            if (decided := self._isolated(case.workload, partial(case.decided, answer))) is not None:
                settled.append((case, *decided))
        if self._variants is None:
            return settled
        try:
            return self._variants.bought(settled, self._clock(), self._pool)
        except Exception:
            log.exception("variants could not be compared; each workload keeps its own decision")
            return settled

    def _finish(self, case: Case, signals: Signals, decision: Decision) -> None:
        target, sight, policy = case.workload.sight.target, case.workload.sight, case.workload.policy
        memory, state = self._memories[target], decision.state
        changes = decision.replicas != signals.current
        if changes:  # this stands when the write fails
            state = state.without_change(case.state)
            self._memories[target] = replace(memory, state=state)
        if policy.actuator == "advise":
            written = False
            self._mark(sight, signals.current - decision.replicas)  # whoever lowers, these shall go
        else:
            written = self._write(sight, signals.current, decision)
        news = announcement(signals.current, decision, memory.reason_class)
        if news is not None and (written or not changes):
            self._recorder.record(sight.reference, news.reason, news.note, news.type, "Scale")
        self._memories[target] = _Memory(
            decision.state if written else state,
            decision.reasons[0].reason_class,
            view=View(target, signals, decision, written, case.now, self._collector.server_of(target) or ""),
        )
        self._count(target, signals, decision)
        room = None if isinstance(signals.placeable, NoData) else signals.placeable
        self._metrics.room(*_labels(target), room, self._lacking.get(target, 0))
        self._contradicted(sight)

    def _contradicted(self, sight: ScaleSight) -> None:
        """Say it once when the pods and Prometheus have contradicted each other for long."""
        sentence = self._collector.contradiction(sight.target)
        if (sentence is not None) == (sight.target in self._contradicting):
            return
        gauge = self._metrics.signals_contradict.labels(*_labels(sight.target))
        gauge.set(0 if sentence is None else 1)
        if sentence is None:
            self._contradicting.discard(sight.target)
            return
        self._contradicting.add(sight.target)
        self._recorder.record(
            sight.reference, event_reasons.SIGNALS_CONTRADICT, sentence, event_reasons.WARNING, "Scale"
        )

    def _write(self, sight: ScaleSight, current: int, decision: Decision) -> bool:
        if decision.replicas == current:
            return False
        sentence = decision.reasons[0].sentence
        if self._dry_run:
            log.info("%s: would go %d -> %d: %s", sight.target, current, decision.replicas, sentence)
            return False
        if not self._is_leader():
            raise TargetRefused("conflict", f"{sight.target}: the lead was lost before the write")
        self._mark(sight, current - decision.replicas)
        self._scales.write(sight, decision.replicas)
        if self._rivals is not None:
            self._rivals.wrote(sight.target, decision.replicas)
        log.info("%s: %d -> %d: %s", sight.target, current, decision.replicas, sentence)
        return True

    def _mark(self, sight: ScaleSight, going: int) -> None:
        if self._victims is not None and going > 0 and not self._dry_run and self._is_leader():
            self._victims.mark(sight, going)

    def _keep_learned(self) -> None:
        if self._store is None or self._dry_run or not self._is_leader() or not self._store.due:
            return
        states = {target: memory.state for target, memory in self._memories.items()}
        self._store.keep(states, lambda target: "" if (s := states[target]) is None else s.remembered())

    def _failed(self, target: Target, about: ObjectReference, cause: Cause, sentence: str) -> None:
        """Count a failure; say it once, and again when it becomes another one."""
        memory = self._memories[target]
        self._metrics.target_errors.labels(*_labels(target), cause).inc()
        if memory.failure != cause:
            log.warning("%s", sentence)
            self._recorder.record(
                about, event_reasons.SCALING_REFUSED, sentence, event_reasons.WARNING, "Scale"
            )
        self._memories[target] = replace(memory, failure=cause)

    def _adopt(self, target: Target) -> None:
        self._memories[target] = _Memory()
        self._metrics.adopt(*_labels(target))

    def _forget(self, target: Target) -> None:
        del self._memories[target]
        self._contradicting.discard(target)
        for part in (self._placement, self._rivals):
            if part is not None:
                part.forget(target)
        self._metrics.forget(*_labels(target))

    def _count(self, target: Target, signals: Signals, decision: Decision) -> None:
        seen = {
            "in_flight": signals.in_flight,
            "request_rate": signals.request_rate,
            "latency": signals.p95_seconds,
            "gpu_utilisation": signals.gpu_utilisation,
            "slo_missed": signals.slo_missed,
            "waiting": signals.waiting,
        }
        self._metrics.decision(
            _labels(target),
            current=signals.current,
            desired=decision.replicas,
            reason=decision.reasons[0].code,
            available={signal: not isinstance(value, NoData) for signal, value in seen.items()},
        )


def _labels(target: Target) -> tuple[str, str, str]:
    return target.namespace, target.kind, target.name
