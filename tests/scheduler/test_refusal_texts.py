"""Refusals are made when they change and said again while they do not; what is kept is bounded."""

from __future__ import annotations

import json

import numpy as np

from cluster.wire import Pod
from scheduler.demand import Demand, GpuRequest
from scheduler.extender.codec import Question, filter_result
from scheduler.feasibility import Reason
from scheduler.refusal_texts import RefusalTexts

NAMES = ["a", "b", "c"]
TOLD = [Reason("", False), Reason("full", False), Reason("wrong model", True)]
FOUND = np.array([1, 0, 2], dtype=np.int32)


def demand(count: int) -> Demand:
    return Demand((GpuRequest("whole", None, count),))


def test_nodes_are_told_apart_by_whether_evictions_could_help():
    refusals = RefusalTexts().of(demand(1), NAMES, FOUND, TOLD)
    assert (refusals.failed, refusals.unresolvable) == ({"a": "full"}, {"c": "wrong model"})


def test_the_same_refusals_are_the_same_object_and_others_are_not():
    texts = RefusalTexts()
    first = texts.of(demand(1), NAMES, FOUND, TOLD)
    assert texts.of(demand(1), NAMES, FOUND.copy(), TOLD) is first
    assert texts.of(demand(1), list(NAMES), FOUND, TOLD) is not first
    changed = texts.of(demand(1), NAMES, np.array([0, 0, 2], dtype=np.int32), TOLD)
    assert (changed.failed, changed.unresolvable) == ({}, {"c": "wrong model"})


def test_what_was_said_longest_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr("scheduler.refusal_texts._MOST_ENTRIES", 6)
    texts = RefusalTexts()
    kept = [texts.of(demand(count), NAMES, FOUND, TOLD) for count in range(1, 5)]
    again = [texts.of(demand(count), NAMES, FOUND, TOLD) is kept[count - 1] for count in (4, 3, 2)]
    assert again == [True, True, True]
    assert texts.of(demand(1), NAMES, FOUND, TOLD) is not kept[0]


def test_kept_bytes_are_those_of_the_refusals():
    texts = RefusalTexts()
    for found in (FOUND, FOUND, np.array([2, 0, 2], dtype=np.int32)):
        refusals = texts.of(demand(1), NAMES, found, TOLD)
        answer = json.loads(
            filter_result(Question(Pod(), NAMES, None), [1], refusals.failed, refusals.unresolvable)
        )
        assert answer["FailedNodes"] == refusals.failed
        assert answer["FailedAndUnresolvableNodes"] == refusals.unresolvable
