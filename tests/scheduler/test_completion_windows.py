"""Completion windows: what Jobs and pods say, and that nobody is held past a deadline with nobody to plan."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.times import rfc3339
from scheduler.windows.guard import GRACE_SECONDS, WindowGuard
from scheduler.windows.read import (
    EXPECTED,
    PLANNED_START,
    RELEASE_BY,
    RELEASED_AT,
    WINDOW,
    Window,
    duration_seconds,
    holds_job,
    window_of,
)
from scheduler.windows.release import Outcome, note, release
from scheduler.windows.shelf import JobShelf, PodShelf, held_job, held_pod
from tests.scheduler.batch_objects import CREATED, batch_job, batch_pod

HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400.0),
        ("90m", 5400.0),
        ("1d12h", 129600.0),
        ("1.5h", 5400.0),
        ("3600", 3600.0),
        (" 45s ", 45.0),
        ("", None),
        ("0", None),
        ("0h", None),
        ("24", 24.0),
        ("h", None),
        ("24 h", None),
        ("-1h", None),
        ("tomorrow", None),
        ("24h5", None),
        ("99999d", None),
    ],
)
def test_durations_are_read(text, seconds):
    assert duration_seconds(text) == seconds


@given(st.text(max_size=12))
def test_no_text_breaks_the_reader(text):
    found = duration_seconds(text)
    assert found is None or found > 0.0


def test_a_window_counts_from_creation():
    window = window_of(batch_job(annotations={WINDOW: "24h", EXPECTED: "2h"}).metadata)
    assert window == Window(CREATED, CREATED + 24 * HOUR, 2 * HOUR)


def test_a_label_does_as_well():
    assert (
        window_of(batch_job(annotations={}, labels={WINDOW: "6h"}).metadata).deadline_seconds
        == CREATED + 6 * HOUR
    )


def test_a_window_that_cannot_be_read_holds_nothing_and_says_so():
    window = window_of(batch_job(annotations={WINDOW: "soon"}).metadata)
    assert window.deadline_seconds == CREATED
    assert "got 'soon', expected a duration like 24h" in window.problems[0]


@pytest.mark.parametrize(
    "other",
    [
        {"suspend": False},
        {"annotations": {}},
        {"labels": {"kueue.x-k8s.io/queue-name": "team"}},
        {"annotations": {WINDOW: "24h", RELEASED_AT: "2026-03-01T01:00:00Z"}},
        {"owners": [{"kind": "JobSet", "name": "set", "controller": True}]},
        {"managedBy": "kueue.x-k8s.io/multikueue"},
        {"status": {"conditions": [{"type": "Failed", "status": "True"}]}},
    ],
    ids=["runs", "no window", "kueue's", "released before", "a JobSet's", "managed elsewhere", "ended"],
)
def test_jobs_that_are_not_ours_to_hold(other):
    assert holds_job(batch_job())
    assert not holds_job(batch_job(**other))


def test_a_cron_jobs_job_is_ours():
    assert holds_job(batch_job(owners=[{"kind": "CronJob", "name": "nightly", "controller": True}]))


def test_a_gate_without_a_window_holds_nothing():
    held = held_pod(batch_pod(annotations={}))
    assert held.window.let_go_seconds <= CREATED + 600.0
    assert held.window.deadline_seconds == CREATED
    assert held_pod(batch_pod(gates=("other",))) is None


def test_without_a_controller_the_declared_duration_decides():
    declared = held_job(batch_job(annotations={WINDOW: "24h", EXPECTED: "2h"})).window
    assert declared.let_go_seconds == CREATED + 24 * HOUR - 4 * HOUR - 900.0
    silent = held_job(batch_job()).window
    assert silent.let_go_seconds == CREATED + 600.0


def test_what_a_controller_noted_goes_before_but_never_past_the_deadline():
    noted = {WINDOW: "24h", RELEASE_BY: "2026-03-01T15:00:00Z"}
    assert held_job(batch_job(annotations=noted)).window.let_go_seconds == CREATED + 15 * HOUR
    beyond = {WINDOW: "24h", RELEASE_BY: "2026-03-09T00:00:00Z"}
    assert held_job(batch_job(annotations=beyond)).window.let_go_seconds == CREATED + 24 * HOUR
    broken = {WINDOW: "24h", RELEASE_BY: "later"}
    assert held_job(batch_job(annotations=broken)).window.let_go_seconds == CREATED + 600.0


class ApiStandIn:
    def __init__(self):
        self.patches, self.fails = [], None

    def patch(self, path, body, content_type):
        if self.fails is not None:
            raise self.fails
        self.patches.append((path, body, content_type))


def test_a_job_is_unsuspended_and_noted_in_one_write():
    api = ApiStandIn()
    assert release(api, held_job(batch_job()), CREATED) is Outcome.DONE
    [(path, body, content_type)] = api.patches
    assert path == "/apis/batch/v1/namespaces/batch/jobs/train"
    assert body["spec"] == {"suspend": False}
    assert body["metadata"] == {"uid": "uid-train", "annotations": {RELEASED_AT: rfc3339(CREATED)}}
    assert content_type == "application/merge-patch+json"


def test_only_our_gate_is_taken_off_a_pod():
    api = ApiStandIn()
    release(api, held_pod(batch_pod(gates=("slicewise.io/window", "slicewise.io/plan"))), CREATED)
    [(path, body, content_type)] = api.patches
    assert path == "/api/v1/namespaces/batch/pods/pod"
    assert body["spec"] == {"schedulingGates": [{"$patch": "delete", "name": "slicewise.io/window"}]}
    assert content_type == "application/strategic-merge-patch+json"


def test_notes_are_annotations():
    api = ApiStandIn()
    note(api, held_job(batch_job()), CREATED + HOUR, CREATED)
    assert api.patches[0][1]["metadata"]["annotations"] == {
        RELEASE_BY: "2026-03-01T01:00:00Z",
        PLANNED_START: "2026-03-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiRefused(404, "NotFound", "gone", where="x"), Outcome.GONE),
        (ApiRefused(409, "Conflict", "another uid", where="x"), Outcome.GONE),
        (ApiRefused(403, "Forbidden", "no", where="x"), Outcome.FORBIDDEN),
        (ApiRefused(500, "InternalError", "no", where="x"), Outcome.FAILED),
        (ApiUnreachable("away"), Outcome.FAILED),
    ],
)
def test_refusals_are_told_apart(error, outcome):
    api = ApiStandIn()
    api.fails = error
    assert release(api, held_job(batch_job()), CREATED) is outcome


class Guarded:
    def __init__(self):
        self.api, self.now, self.heard = ApiStandIn(), CREATED, []
        self.guard = WindowGuard(
            self.api,
            released=lambda held, out: self.heard.append((held.metadata.name, out)),
            clock=self.clock,
        )

    def clock(self):
        return self.now


@pytest.fixture
def guarded():
    return Guarded()


def test_the_guard_lets_go_at_the_latest_start_and_a_little_later_than_the_controller(guarded):
    noted = {WINDOW: "24h", RELEASE_BY: "2026-03-01T15:00:00Z"}
    guarded.guard.jobs.replaced([batch_job(annotations=noted)])
    guarded.guard.pods.replaced([batch_pod(annotations={WINDOW: "24h", EXPECTED: "1h"})])
    guarded.now = CREATED + 15 * HOUR
    assert guarded.guard.let_go_of_overdue() == []
    guarded.now += GRACE_SECONDS
    assert [held.metadata.name for held in guarded.guard.let_go_of_overdue()] == ["train"]
    guarded.now = CREATED + 22 * HOUR
    guarded.guard.jobs.changed("MODIFIED", batch_job(annotations=noted, suspend=False))
    assert [held.metadata.name for held in guarded.guard.let_go_of_overdue()] == ["pod"]


def test_a_new_job_is_left_to_the_controller_however_short_its_window(guarded):
    guarded.guard.jobs.replaced([batch_job(annotations={WINDOW: "20m", EXPECTED: "20m"})])
    guarded.now = CREATED + GRACE_SECONDS - 1.0
    assert guarded.guard.let_go_of_overdue() == []
    guarded.now = CREATED + GRACE_SECONDS
    assert len(guarded.guard.let_go_of_overdue()) == 1


def test_the_guard_tries_again_what_failed(guarded):
    guarded.guard.jobs.replaced([batch_job()])
    guarded.now = CREATED + HOUR
    guarded.api.fails = ApiUnreachable("away")
    assert guarded.guard.let_go_of_overdue() == []
    guarded.api.fails = None
    assert len(guarded.guard.let_go_of_overdue()) == 1
    assert guarded.heard == [("train", Outcome.FAILED), ("train", Outcome.DONE)]


def test_the_guard_tries_what_is_forbidden_less_and_less_often(guarded):
    guarded.guard.jobs.replaced([batch_job()])
    guarded.guard.pods.replaced([batch_pod()])
    guarded.api.fails = ApiRefused(403, "Forbidden", "no")
    tries, began = [], CREATED + HOUR
    for second in range(0, 4000, 5):
        guarded.now, guarded.heard = began + second, []
        guarded.guard.let_go_of_overdue()
        if guarded.heard:
            assert sorted(name for name, _ in guarded.heard) == ["pod", "train"]
            tries.append(second)
    pauses = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]
    guarded.api.fails = None
    guarded.now += 600.0
    assert len(guarded.guard.let_go_of_overdue()) == 2


def test_what_is_deleted_or_ungated_leaves_the_shelves():
    told = []
    jobs, pods = JobShelf(lambda kind, one: told.append(kind)), PodShelf()
    jobs.changed("ADDED", batch_job())
    jobs.changed("MODIFIED", batch_job(labels={"kueue.x-k8s.io/queue-name": "team"}))
    jobs.changed("DELETED", batch_job())
    assert told == ["ADDED", "DELETED"]
    assert jobs.jobs() == []
    pods.changed("ADDED", batch_pod())
    assert len(pods.pods()) == 1
    pods.changed("MODIFIED", batch_pod(gates=()))
    assert pods.pods() == []
