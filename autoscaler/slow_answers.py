"""Answers over long windows: asked beside the control rounds, used until newer ones have come.

Histograms, means and GPU use look back a minute of scrapes; a round that waited for them would only be later
for what is urgent. At most ``MOST_AT_ONCE`` of them are asked a round, those first that have waited longest,
one after the other, so that Prometheus is never asked for everything at once. Without an executor they are
asked in the round itself (tests, simulations).

Of a latency histogram only the buckets next to the objective's bound are fetched once its bounds are known
(``metrics.bucket_choice``); when a pod comes that has other bounds, and every ten minutes, all of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Final

from autoscaler.answers import Answer
from autoscaler.questions import Question
from metrics.bucket_choice import neighbours
from metrics.samples import NoData, Vector
from metrics.servers import Scope

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 8
# Beyond so many times its time an answer tells of another hour.
_STALE: Final = 4.0
_BOUNDS_GOOD_FOR_SECONDS: Final = 600.0


class _Kept:
    """The last answer to one question, when it was asked, and the bounds of its histogram."""

    def __init__(self, answer: Answer, at: float) -> None:
        self.answer, self.at = answer, at
        self.spelled: tuple[str, ...] = ()
        self.spelled_at = float("-inf")


class SlowAnswers:
    """Used by the thread of the rounds; the executor's thread only adds answers."""

    def __init__(
        self,
        ask: Callable[[Mapping[str, str], float], dict[str, Vector | NoData]],
        scope: Scope,
        executor: Executor | None = None,
    ) -> None:
        self._ask, self._scope, self._executor = ask, scope, executor
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._batch: Future[None] | None = None
        self._put_off: tuple[dict[str, Question], float] | None = None
        self._holds = False

    def hold(self) -> None:
        """Begin to ask nothing until ``release``: a round wants the interpreter for itself."""
        self._holds = True

    def release(self) -> None:
        """Ask what became due meanwhile."""
        self._holds = False
        put_off, self._put_off = self._put_off, None
        if put_off is not None and self._executor is not None:
            self._batch = self._executor.submit(self._run, *put_off)

    def current(self, wanted: Mapping[str, Question], at: float) -> dict[str, Answer]:
        """The newest answers to ``wanted``; Unix time ``at`` is now. Begins to ask what is due."""
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if name in wanted}
            due = sorted(
                (name for name in wanted if self._due(name, wanted[name], at)),
                key=lambda name: self._kept[name].at if name in self._kept else float("-inf"),
            )
        if self._executor is None:
            self._run({name: wanted[name] for name in due}, at)
        elif due and (self._batch is None or self._batch.done()):
            batch = {name: wanted[name] for name in due[:MOST_AT_ONCE]}
            if self._holds:
                self._put_off = batch, at
            else:
                self._batch = self._executor.submit(self._run, batch, at)
        with self._lock:
            return {name: self._answer(name, question, at) for name, question in wanted.items()}

    def _due(self, name: str, question: Question, at: float) -> bool:
        kept = self._kept.get(name)
        if kept is None or kept.answer.failed is not None or kept.answer.question.about != question.about:
            return True
        return not 0.0 <= at - kept.at < question.good_for_seconds

    def _answer(self, name: str, question: Question, at: float) -> Answer:
        kept = self._kept.get(name)
        if kept is None or kept.answer.question.about != question.about:
            return Answer(question, NoData("Prometheus has not been asked yet", "stale"), self._scope)
        age = at - kept.at
        if abs(age) > _STALE * question.good_for_seconds:
            stale = NoData(f"Prometheus has not answered for {abs(age):.0f} s", "stale")
            return Answer(question, stale, self._scope)
        return kept.answer

    def _run(self, batch: Mapping[str, Question], at: float) -> None:
        for name, question in batch.items():
            with self._lock:
                before = self._kept.get(name)
            try:
                kept = self._asked(name, question, before, at)
                kept.answer.read()
            except Exception as error:
                # Nobody looks at the executor's result, and those behind this one would never be asked.
                log.exception("Prometheus: the question %r failed", name)
                failed = NoData(f"the question failed: {type(error).__name__}: {error}", "outage")
                kept = _Kept(Answer(question, failed, self._scope), at)
            with self._lock:
                self._kept[name] = kept

    def _asked(self, name: str, question: Question, before: _Kept | None, at: float) -> _Kept:
        chosen: tuple[str, ...] = ()
        if (
            before is not None
            and question.bounds
            and 0.0 <= at - before.spelled_at < _BOUNDS_GOOD_FOR_SECONDS
        ):
            chosen = neighbours(before.spelled, question.bounds, question.unit)
        given = self._ask({name: question.text(chosen)}, at)[name]
        kept = _Kept(Answer(question, given, self._scope), at)
        if question.bounds and isinstance(given, Vector):
            self._learn(kept, given, before, chosen, at)
        return kept

    def _learn(
        self, kept: _Kept, given: Vector, before: _Kept | None, chosen: tuple[str, ...], at: float
    ) -> None:
        """Take note of the bounds: those of all buckets, or that the chosen ones still suit every pod."""
        pods: dict[tuple[str, str], set[str]] = {}
        namespace, pod = self._scope.namespace_label, self._scope.pod_label
        for sample in given.samples:
            labels = sample.labels
            key = labels.get(namespace, ""), labels.get(pod, "")
            pods.setdefault(key, set()).add(labels.get("le", ""))
        sets = {frozenset(bounds) for bounds in pods.values()}
        if len(sets) != 1:
            return  # pods differ: all buckets the next time too
        if not chosen:
            kept.spelled, kept.spelled_at = tuple(sorted(next(iter(sets)))), at
        elif before is not None and next(iter(sets)) == frozenset(chosen):
            kept.spelled, kept.spelled_at = before.spelled, before.spelled_at
