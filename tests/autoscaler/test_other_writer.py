"""A second writer of the replicas: whom a watch names, whose changes are taken over, and when to stop."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.other_writer import (
    WINDOW_SECONDS,
    Autoscaler,
    Autoscalers,
    OtherWriters,
    Record,
    author_of,
)
from autoscaler.replicas_writers import ReplicasWriter
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.api_errors import ApiRefused
from cluster.wire import ObjectReference
from tests.polling import until

TARGET = Target("apps/v1", "Deployment", "n", "llm")


def sight(replicas: int, target: Target = TARGET) -> ScaleSight:
    return ScaleSight(target, "/", replicas, parse_selector("app=llm"), ObjectReference())


def autoscaler(name: str, aims_at: str = "llm", *, paused: bool = False, **reference: str) -> Autoscaler:
    return noted({"autoscaling.keda.sh/paused": "true"} if paused else {}, name, aims_at, **reference)


def noted(notes: dict[str, str], name: str = "a", aims_at: str = "llm", **reference: str) -> Autoscaler:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "n", "annotations": notes},
            "spec": {"scaleTargetRef": {"name": aims_at, **reference}},
        },
        Autoscaler,
    )


class WithoutKeda:
    """An API server that knows no ScaledObjects."""

    def list_raw(self, path: str, params: Any = None, **_: Any) -> bytes:
        raise ApiRefused(404, "NotFound", "no such group", where=path)

    def watch(self, path: str, params: Any = None, **_: Any) -> Any:
        raise ApiRefused(404, "NotFound", "no such group", where=path)


def others(writers: Any = lambda _: None) -> OtherWriters:
    return OtherWriters(WithoutKeda(), writers)  # type: ignore[arg-type]


def test_what_was_written_here_is_no_foreign_change():
    watched = others()
    assert watched.look(sight(2), 0.0).change is None
    watched.wrote(TARGET, 5)
    look = watched.look(sight(5), 5.0)
    assert (look.rival, look.change) == (None, None)


def test_one_foreign_change_is_taken_over_and_named():
    theirs = ReplicasWriter("kubectl-scale", "Update", "scale", "2026-11-21T10:00:00Z")
    watched = others(lambda _: (theirs,))
    watched.look(sight(2), 0.0)
    look = watched.look(sight(4), 5.0)
    assert look.rival is None
    assert look.change is not None
    assert look.change.sentence == "kubectl-scale set the replicas from 2 to 4; going on from there"
    assert watched.look(sight(4), 10.0).change is None


def test_a_write_whose_answer_was_lost_is_still_ours():
    ours = ReplicasWriter("slicewise-controller", "Update", "scale", "2026-11-21T11:00:00Z")
    watched = others(lambda _: (ours,))
    watched.look(sight(2), 0.0)
    for at, replicas in ((5.0, 4), (10.0, 7), (15.0, 3)):
        look = watched.look(sight(replicas), at)
        assert (look.rival, look.change) == (None, None)


def test_two_foreign_changes_within_a_window_stop_us_until_a_window_has_passed():
    watched = others()
    watched.look(sight(2), 0.0)
    watched.look(sight(4), 10.0)
    watched.wrote(TARGET, 2)
    assert watched.look(sight(4), 20.0).rival == "somebody"
    assert watched.look(sight(4), 20.0 + WINDOW_SECONDS).rival == "somebody"
    assert watched.look(sight(4), 20.1 + WINDOW_SECONDS).rival is None


def test_changes_far_apart_never_stop_us():
    watched = others()
    replicas = 2
    for step in range(6):
        replicas = 5 - replicas
        assert watched.look(sight(replicas), step * (WINDOW_SECONDS + 1.0)).rival is None


def test_pausing_and_resuming_by_hand_is_not_a_second_writer():
    watched = others()
    watched.look(sight(3), 0.0)
    for at, replicas in ((10.0, 0), (20.0, 3), (30.0, 0), (40.0, 2)):
        assert watched.look(sight(replicas), at).rival is None


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 5000.0)), max_size=20))
def test_a_record_always_expects_what_was_seen_last(seen: list[tuple[int, float]]):
    record, now = Record(1), 0.0
    for replicas, later in seen:
        before = record.expected
        now += later
        record, change = record.seen(replicas, "x", now)
        assert record.expected == replicas
        assert (change is None) == (replicas == before)


def test_an_autoscaler_on_the_target_is_named_while_it_is_there():
    watched = others()
    watched._hpas.replaced([autoscaler("rival", apiVersion="apps/v1", kind="Deployment")])
    assert watched.look(sight(2), 0.0).rival == "HorizontalPodAutoscaler rival"
    # Its own writes are not held against anybody later on.
    for at, replicas in ((1.0, 3), (2.0, 5), (3.0, 4)):
        look = watched.look(sight(replicas), at)
        assert (look.rival, look.change) == ("HorizontalPodAutoscaler rival", None)
    watched._hpas.changed("DELETED", autoscaler("rival"))
    assert watched.look(sight(4), 4.0).rival is None


def test_a_scaled_object_is_named_rather_than_its_own_hpa():
    watched = others()
    watched._hpas.replaced([autoscaler("keda-hpa-llm")])
    watched._scaled.replaced([autoscaler("llm-scaler")])
    assert watched.look(sight(2), 0.0).rival == "ScaledObject llm-scaler"


@pytest.mark.parametrize(
    ("version", "kind", "name"),
    [
        ("apps/v1", "StatefulSet", "llm"),
        ("apps/v1", "Deployment", "other"),
        ("x.example/v1", "Deployment", "llm"),
    ],
)
def test_another_target_is_not_ours(version: str, kind: str, name: str):
    watched = others()
    watched._hpas.replaced([autoscaler("rival", name, apiVersion=version, kind=kind)])
    assert watched.look(sight(2), 0.0).rival is None


def test_the_version_of_the_kind_does_not_matter():
    watched = others()
    watched._hpas.replaced([autoscaler("rival", apiVersion="apps/v1beta2")])
    assert watched.look(sight(2), 0.0).rival is not None


def test_autoscalers_come_go_move_and_pause():
    known = Autoscalers("ScaledObject")
    known.changed("ADDED", autoscaler("a"))
    known.changed("ADDED", autoscaler("b"))
    known.changed("DELETED", autoscaler("b"))
    assert set(known.by_aim.values()) == {"ScaledObject a"}
    known.changed("MODIFIED", autoscaler("a", "elsewhere"))
    assert [aim[3] for aim in known.by_aim] == ["elsewhere"]
    known.changed("MODIFIED", autoscaler("a", "elsewhere", paused=True))
    known.changed("DELETED", autoscaler("a", "elsewhere", paused=True))
    assert known.by_aim == {}


@pytest.mark.parametrize(
    ("notes", "counts"),
    [
        ({"paused": "true"}, False),
        ({"paused": ""}, False),
        ({"paused": "False"}, True),
        ({"paused": "0"}, True),
        ({"paused-replicas": "0"}, False),
        ({"paused-replicas": "false"}, False),
        ({"paused": "false", "paused-replicas": "3"}, False),
        ({"paused-scale-in": "true"}, True),
    ],
)
def test_a_scaled_object_is_paused_as_keda_reads_it(notes: dict[str, str], counts: bool):
    known = Autoscalers("ScaledObject")
    known.changed("ADDED", noted({f"autoscaling.keda.sh/{name}": value for name, value in notes.items()}))
    assert bool(known.by_aim) is counts


def test_a_look_asks_nobody():
    questions: list[str] = []

    class Api(WithoutKeda):
        def __getattr__(self, name: str) -> Any:
            questions.append(name)
            raise AssertionError(f"{name} was asked")

        def list_raw(self, path: str, params: Any = None, **_: Any) -> bytes:
            questions.append(path)
            raise AssertionError(f"{path} was asked")

    watched = OtherWriters(Api(), lambda _: None)
    for second in range(0, 600, 5):
        watched.look(sight(2), float(second))
    assert questions == []


def test_a_cluster_without_keda_has_no_scaled_objects():
    class OnlyHpas(WithoutKeda):
        def list_raw(self, path: str, params: Any = None, **_: Any) -> bytes:
            if "keda" in path:
                raise ApiRefused(404, "NotFound", "no such group", where=path)
            return b'{"metadata": {"resourceVersion": "1"}, "items": []}'

        def watch(self, path: str, params: Any = None, **_: Any) -> Any:
            raise ApiRefused(503, "Unavailable", "not now", where=path)

    watched = OtherWriters(OnlyHpas(), lambda _: None)
    watched.start()
    try:
        until(lambda: watched.ready, 10.0, "the watches")
        scaled = watched._watches[1]
        assert scaled.synced.is_set()
        assert (scaled.last_error, scaled.failures) == (None, 0)
    finally:
        watched.stop()


def test_nobody_known_is_somebody():
    assert author_of(None) == author_of(()) == "somebody"
