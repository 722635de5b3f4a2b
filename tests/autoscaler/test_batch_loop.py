"""The batch loop: what it makes of Jobs and pods, what it writes, and what it leaves alone."""

from __future__ import annotations

import json

import pytest

from autoscaler.batch.capacity import gpus_of, pools_of, profile_share, returned
from autoscaler.batch.curve import Curve
from autoscaler.batch.durations import Durations
from autoscaler.batch.items import Basis, family_of, items_of
from autoscaler.batch.memory import Learned
from autoscaler.batch.side import as_json
from autoscaler.batch.work import Pool
from cluster.envelopes import object_decoder
from cluster.job_wire import Job
from cluster.policy import load_cluster_policy
from cluster.times import rfc3339, unix_seconds
from cluster.wire import Pod
from dra.catalog import models
from scheduler.demand import Demand, GpuRequest
from scheduler.windows.read import EXPECTED, RELEASED_AT, WINDOW
from scheduler.windows.release import Outcome
from tests.autoscaler.batch_scene import HOUR, POLICY, Scene, ended, gated, job
from tests.autoscaler.batch_scene import scene as scene
from tests.scheduler.batch_objects import CREATED


def test_a_job_is_held_for_the_clean_hours_and_released_in_them(scene):
    scene.loop.jobs.replaced([job()])
    scene.at(0.0)
    assert scene.api.released() == []
    notes = scene.api.noted()["train-1"]
    assert notes["slicewise.io/planned-start"] == rfc3339(CREATED + 5 * HOUR)
    assert unix_seconds(notes["slicewise.io/release-by"]) == CREATED + 24 * HOUR - 1.5 * HOUR - 900 - 120
    scene.at(4.9)
    assert scene.api.released() == []
    scene.at(5.05)
    assert scene.api.released() == ["train-1"]
    [(_, why, saved, outcome)] = scene.told.releases
    assert (why, outcome) == ("planned", Outcome.DONE)
    model = models()["H100-80GB"]
    kilowatt_hours = (model.peak_watts - model.idle_watts) / 1000.0
    # Against the hour of its arrival.
    assert saved == pytest.approx(300.0 * kilowatt_hours)


def test_a_release_that_the_watch_has_not_shown_is_not_repeated_at_once(scene):
    scene.loop.jobs.replaced([job()])
    scene.at(5.0)
    scene.loop.jobs.changed("MODIFIED", job(status={"active": 1}))
    scene.at(5.0 + 10 / 3600)
    assert scene.api.released() == ["train-1"]


def test_pods_of_one_owner_start_together(scene):
    scene.loop.pods.replaced([gated("a"), gated("b"), gated("c", owner="other")])
    scene.at(5.0)
    assert sorted(scene.api.released()) == ["a", "b", "c"]
    assert scene.told.plans[0][1] == 2


def test_the_earliest_deadline_of_a_group_counts(scene):
    scene.loop.pods.replaced([gated("a"), gated("b", window="3h")])
    scene.at(0.0)
    assert scene.loop.view.items[0].job.deadline_seconds == CREATED + 3 * HOUR


def test_a_short_window_is_released_at_once_with_a_warning(scene):
    scene.loop.jobs.replaced([job(annotations={WINDOW: "1h", EXPECTED: "1h"})])
    scene.at(0.0)
    assert scene.api.released() == ["train-1"]
    assert scene.told.releases[0][1] == "late"


def test_a_window_that_cannot_be_read_is_released_and_told(scene):
    scene.loop.jobs.replaced([job(annotations={WINDOW: "soon"})])
    scene.at(0.0)
    assert scene.told.releases[0][1] == "unreadable"


def test_a_job_larger_than_the_cluster_goes_to_the_queue(scene):
    scene.loop.jobs.replaced([job(gpus=8, parallelism=2, completions=2)])
    scene.at(0.0)
    assert scene.told.releases[0][1] == "crowded"


def test_gpus_that_a_node_autoscaler_would_add_are_counted():
    scene = Scene("batch: {addableGpus: {H100-80GB: 8}}\n")
    scene.loop.jobs.replaced([job(gpus=8, parallelism=2, completions=2)])
    scene.at(0.0)
    assert scene.api.released() == []


def test_released_jobs_keep_their_gpus_from_the_others(scene):
    running = {"startTime": rfc3339(CREATED + 4.5 * HOUR), "active": 8}
    busy = job("busy-1", suspend=False, gpus=8, status=running, annotations={WINDOW: "24h", EXPECTED: "2h"})
    scene.loop.jobs.replaced([busy, job("next-1", gpus=8)])
    scene.at(5.0)
    assert scene.api.released() == []
    notes = scene.api.noted()["next-1"]
    # The running one ends at half past six, in the clean hours.
    assert unix_seconds(notes["slicewise.io/planned-start"]) == pytest.approx(CREATED + 6.5 * HOUR, abs=1800)


def test_jobs_of_kueue_are_left_alone(scene):
    labels = {"kueue.x-k8s.io/queue-name": "team"}
    body = job()
    other = Job(
        metadata=type(body.metadata)(
            name="q", namespace="batch", uid="q", labels=labels, annotations=body.metadata.annotations
        ),
        spec=body.spec,
    )
    scene.loop.jobs.replaced([other])
    scene.at(5.0)
    assert scene.api.patches == []


def test_only_the_leader_writes(scene):
    scene.leads = False
    scene.loop.jobs.replaced([job()])
    scene.at(5.0)
    assert scene.api.patches == []
    scene.leads = True
    scene.at(5.1)
    assert scene.api.released() == ["train-1"]


@pytest.mark.parametrize("mode", ["'off'", "dry-run"])
def test_off_and_dry_run_write_nothing(mode):
    scene = Scene(f"batch: {{mode: {mode}}}\n")
    scene.loop.jobs.replaced([job()])
    scene.at(5.0)
    assert scene.api.patches == []
    assert (scene.loop.view is None) == (mode == "'off'")


def test_plans_follow_changes_and_not_our_own_notes(scene):
    scene.loop.jobs.replaced([job()])
    scene.at(0.0)
    scene.loop.jobs.changed(
        "MODIFIED", job(annotations={WINDOW: "24h", EXPECTED: "1h", "slicewise.io/release-by": "x"})
    )
    scene.at(10 / 3600)
    assert len(scene.told.plans) == 1
    scene.loop.jobs.changed("ADDED", job("train-2"))
    scene.at(20 / 3600)
    scene.at(20 / 3600 + 119 / 3600)
    scene.at(20 / 3600 + 121 / 3600)
    assert len(scene.told.plans) == 3


def test_durations_are_learned_from_ended_jobs_once(scene):
    scene.loop.jobs.replaced([ended("train-1", 1.0, 4.0, None), ended("train-2", 2.0, 4.0, None)])
    scene.at(6.0)
    scene.loop.jobs.replaced([ended("train-1", 1.0, 4.0, None), ended("train-2", 2.0, 4.0, None)])
    scene.at(6.1)
    assert scene.memory.kept.jobs.runs == {"batch/train": (3 * HOUR, 2 * HOUR)}
    again = Scene()
    again.memory.kept = scene.memory.kept
    again.loop.jobs.replaced([ended("train-1", 1.0, 4.0, None), ended("train-2", 2.0, 4.0, None)])
    again.at(7.0)
    assert again.memory.kept.jobs == scene.memory.kept.jobs


def test_a_memory_that_cannot_be_read_is_not_written_over_and_what_ended_meanwhile_is_learned_later(scene):
    known = Learned(jobs=Durations().ran("batch/other", HOUR, None))
    scene.memory.kept, scene.memory.down = known, True
    scene.loop.jobs.replaced([job(), ended("train-2", 2.0, 4.0, None)])
    scene.at(4.5)
    assert scene.memory.kept is known
    assert scene.loop.view is not None  # it plans all the same
    scene.memory.down = False
    scene.at(4.6)
    assert scene.memory.kept.jobs.runs == {"batch/other": (HOUR,), "batch/train": (2 * HOUR,)}


def test_a_replica_that_lost_the_lead_shows_no_plan(scene):
    scene.loop.jobs.replaced([job()])
    scene.at(0.0)
    assert scene.loop.view is not None
    scene.leads = False
    scene.at(0.1)
    assert scene.loop.view is None


def test_a_job_that_declares_nothing_is_planned_by_its_like(scene):
    scene.memory.kept = Learned(jobs=Durations().ran("batch/train", 3 * HOUR, None))
    scene.loop.jobs.replaced([job("train-9", annotations={WINDOW: "24h"})])
    scene.at(0.0)
    assert scene.loop.view.items[0].job.expected_seconds == 3 * HOUR


def test_a_job_that_nobody_knows_keeps_half_of_its_window_free(scene):
    scene.loop.jobs.replaced([job("odd", annotations={WINDOW: "24h"})])
    scene.at(0.0)
    assert scene.loop.view.items[0].job.longest_seconds == 12 * HOUR


def test_a_job_that_ends_too_late_is_told(scene):
    scene.loop.jobs.replaced([ended("train-1", 20.0, 25.0)])
    scene.at(26.0)
    assert scene.told.ends == [("train-1", HOUR)]


def test_waits_for_gpus_are_learned(scene):
    released = {WINDOW: "24h", EXPECTED: "1h", RELEASED_AT: rfc3339(CREATED)}
    scene.loop.jobs.replaced([job(suspend=False, annotations=released, status={"active": 1})])
    scene.at(0.5)
    scene.loop.jobs.replaced([job(suspend=False, annotations=released, status={"active": 1, "ready": 1})])
    scene.at(1.0)
    assert scene.memory.kept.jobs.waits == (HOUR,)


def test_the_grid_is_remembered_by_the_hour(scene):
    for hour in range(3):
        scene.at(float(hour))
    assert scene.memory.kept.grids.zones["DE"].values == (400.0, 400.0, 400.0)


def test_without_a_forecast_a_job_goes_at_once_until_the_grid_is_known(scene):
    scene.grids.silent = True
    scene.loop.jobs.replaced([job()])
    scene.at(0.0)
    assert scene.api.released() == ["train-1"]


def test_the_newest_plan_can_be_read(scene):
    assert as_json(None) == {"planned_at": None, "jobs": []}
    scene.loop.jobs.replaced([job()])
    scene.at(0.0)
    shown = json.loads(json.dumps(as_json(scene.loop.view)))
    assert shown["jobs"][0]["objects"] == ["Job batch/train-1"]
    assert shown["jobs"][0]["start"] == rfc3339(CREATED + 5 * HOUR)
    assert shown["jobs"][0]["pool"] == "H100-80GB@DE"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("train-28934560", "train"),
        ("train-x7f2k", "train"),
        ("train", "train"),
        ("train-model", "train-model"),
    ],
)
def test_families_leave_the_number_out(name, family):
    assert family_of(job(name).metadata) == f"batch/{family}"


def test_gpus_are_counted_in_whole_ones():
    demand = Demand((GpuRequest("whole", None, 2), GpuRequest("mig", "3g.40gb", 1)))
    assert gpus_of(demand) == pytest.approx(2 + 3 / 7)
    assert gpus_of(None) == 0.0
    assert profile_share("1g.10gb+me") == pytest.approx(1 / 7)


def test_used_gpus_are_not_free():
    scene = Scene()
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "3"}}}
    body = {"metadata": {"name": "p", "namespace": "x", "uid": "p"}, "spec": {"containers": [container]}}
    body["spec"]["nodeName"] = "n1"
    scene.fleet.apply_pod(object_decoder(Pod).decode(json.dumps(body).encode()))
    with scene.fleet.lock:
        [pool] = pools_of(scene.fleet, {"H100-80GB": 2.0}, CREATED)
    assert pool.free.values == (5.0 + 2.0,)
    assert pool.zone == "DE"
    assert pool.watts > 100.0


def test_gpus_come_back_at_the_expected_end():
    pools = [Pool("a", "z", Curve.constant(4.0, CREATED), 400.0)]
    [after] = returned(
        pools, CREATED, [(None, 2.0, CREATED + HOUR, True), (None, 1.0, CREATED + HOUR, False)]
    )
    assert after.free.values == (3.0, 6.0)


def test_a_job_without_gpus_is_planned_by_the_power_of_its_pods():
    [item] = items_of(
        [job(gpus=0, parallelism=3)],
        [],
        Basis(load_cluster_policy(POLICY, "test").batch, Durations(), [], lambda pod: None),
    )
    assert item.job.base_watts == 300.0
