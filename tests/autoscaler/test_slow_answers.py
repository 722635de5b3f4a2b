"""Questions over long windows: asked beside the rounds, in turns, and only as far as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from autoscaler.questions import Buckets, Need, Question, questions
from autoscaler.slow_answers import MOST_AT_ONCE, SlowAnswers
from metrics.samples import NoData, Sample, Vector
from metrics.servers import EVERYTHING

BUCKETS = "buckets vllm ttft 60 s"


class Later(Executor):
    """Runs what it is given when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        for future, call in self.waiting:
            future.set_result(call())
        self.waiting.clear()


class Histograms:
    """Prometheus with one histogram; each pod's bounds as spelled by its server."""

    def __init__(self, **pods: tuple[str, ...]) -> None:
        self.pods = pods
        self.asked: list[str] = []
        self.away: NoData | None = None

    def __call__(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        self.asked += queries.values()
        return {name: self.away or self._answer(query, at) for name, query in queries.items()}

    def _answer(self, query: str, at: float) -> Vector:
        samples = []
        for pod, bounds in self.pods.items():
            for bound in bounds:
                spelled = bound.replace(".", "\\\\.").replace("+", "\\\\+")
                if "le=~" not in query or f'"{spelled}|' in query or f"|{spelled}" in query:
                    samples.append(Sample({"namespace": "n", "pod": pod, "le": bound}, 1.0, at))
        return Vector(tuple(samples))

    @property
    def restricted(self) -> list[bool]:
        return ["le=~" in query for query in self.asked]


def asked_of(*bounds: float) -> dict[str, Question]:
    need = Need("vllm", False, (Buckets("ttft", 60.0, bounds),), (), (), False)
    return {name: q for name, q in questions([need], EVERYTHING).items() if q.good_for_seconds}


def test_all_buckets_first_then_those_next_to_the_bound():
    source = Histograms(a=("0.5", "1.0", "2.5", "+Inf"), b=("0.5", "1.0", "2.5", "+Inf"))
    slow, wanted = SlowAnswers(source, EVERYTHING), asked_of(2.0)
    for at in (0.0, 20.0, 40.0):
        answer = slow.current(wanted, at)[BUCKETS]
    assert source.restricted == [False, True, True]
    assert answer.buckets("vllm ttft", "seconds")["n", "a"] == {1.0: 1.0, 2.5: 1.0, float("inf"): 1.0}


def test_a_pod_with_other_bounds_brings_all_buckets_back():
    source = Histograms(a=("0.5", "1.0", "2.5", "+Inf"))
    slow, wanted = SlowAnswers(source, EVERYTHING), asked_of(2.0)
    slow.current(wanted, 0.0)
    slow.current(wanted, 20.0)
    source.pods["b"] = ("0.7", "1.4", "2.8", "+Inf")
    slow.current(wanted, 40.0)  # b shows only +Inf
    answer = slow.current(wanted, 60.0)[BUCKETS]
    assert source.restricted == [False, True, True, False]
    assert len(answer.buckets("vllm ttft", "seconds")["n", "b"]) == 4


def test_where_a_policy_wants_a_quantile_all_buckets_are_asked():
    need = Need("vllm", False, (Buckets("ttft", 60.0, (2.0,)), Buckets("ttft", 60.0)), (), (), False)
    wanted = {BUCKETS: questions([need], EVERYTHING)[BUCKETS]}
    source = Histograms(a=("0.5", "1.0", "2.5", "+Inf"))
    slow = SlowAnswers(source, EVERYTHING)
    for at in (0.0, 20.0):
        slow.current(wanted, at)
    assert source.restricted == [False, False]


def test_an_answer_is_used_while_it_is_good_and_asked_again_after_a_failure():
    source = Histograms(a=("1.0", "+Inf"))
    slow, wanted = SlowAnswers(source, EVERYTHING), asked_of(2.0)
    for at in (0.0, 5.0, 14.0):
        slow.current(wanted, at)
    assert len(source.asked) == 1
    source.away = NoData("connection refused", "outage")
    assert slow.current(wanted, 15.0)[BUCKETS].given is source.away
    source.away = None
    assert isinstance(slow.current(wanted, 20.0)[BUCKETS].given, Vector)


def test_a_round_does_not_wait_for_the_answer():
    source, later = Histograms(a=("1.0", "+Inf")), Later()
    slow, wanted = SlowAnswers(source, EVERYTHING, later), asked_of(2.0)
    first = slow.current(wanted, 0.0)[BUCKETS].given
    assert isinstance(first, NoData)
    assert first.cause == "stale"
    slow.current(wanted, 5.0)
    assert len(later.waiting) == 1  # one batch at a time
    later.run()
    assert isinstance(slow.current(wanted, 10.0)[BUCKETS].given, Vector)


def test_an_answer_that_is_never_renewed_becomes_none():
    source, later = Histograms(a=("1.0", "+Inf")), Later()
    slow, wanted = SlowAnswers(source, EVERYTHING, later), asked_of(2.0)
    slow.current(wanted, 0.0)
    later.run()
    assert isinstance(slow.current(wanted, 50.0)[BUCKETS].given, Vector)
    old = slow.current(wanted, 70.0)[BUCKETS].given
    assert isinstance(old, NoData)
    assert old.reason == "Prometheus has not answered for 70 s"


def test_a_round_adds_no_more_than_so_many_questions():
    needs = [Need("vllm", False, (Buckets("ttft", 60.0 + n, (2.0,)),), (), (), False) for n in range(30)]
    wanted = {name: q for name, q in questions(needs, EVERYTHING).items() if q.good_for_seconds}
    source, later = Histograms(a=("1.0", "+Inf")), Later()
    slow = SlowAnswers(source, EVERYTHING, later)
    counts = []
    for turn in range(4):
        slow.current(wanted, 4.0 * turn)
        later.run()
        counts.append(len(source.asked))
    assert counts == [MOST_AT_ONCE, 2 * MOST_AT_ONCE, 3 * MOST_AT_ONCE, 30]


def test_a_question_that_fails_is_told_and_keeps_none_behind_it(caplog: pytest.LogCaptureFixture):
    needs = [Need("vllm", False, (Buckets("ttft", 60.0 + n, (2.0,)),), (), (), False) for n in range(3)]
    wanted = {name: q for name, q in questions(needs, EVERYTHING).items() if q.good_for_seconds}
    broken = next(iter(wanted))
    source, later = Histograms(a=("1.0", "+Inf")), Later()

    def ask(queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        if broken in queries:
            raise RuntimeError("a defect")
        return source(queries, at)

    slow = SlowAnswers(ask, EVERYTHING, later)
    slow.current(wanted, 0.0)
    later.run()
    given = {name: answer.given for name, answer in slow.current(wanted, 5.0).items()}
    assert [isinstance(given[name], Vector) for name in wanted] == [False, True, True]
    assert "a defect" in caplog.text


def test_while_a_round_holds_it_nothing_is_begun_and_then_what_became_due():
    source, later = Histograms(a=("1.0", "+Inf")), Later()
    slow, wanted = SlowAnswers(source, EVERYTHING, later), asked_of(2.0)
    slow.hold()
    slow.current(wanted, 0.0)
    assert later.waiting == []
    slow.release()
    assert len(later.waiting) == 1
    later.run()
    assert isinstance(slow.current(wanted, 5.0)[BUCKETS].given, Vector)
    slow.release()  # nothing is due
    assert later.waiting == []
