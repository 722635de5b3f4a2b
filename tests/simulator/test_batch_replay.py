"""Replays of batch jobs: deadlines, GPUs, what a forecast is worth; the command; the promise in small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kubectl_slicewise.__main__ import main
from metrics.carbon.file import TableRefused
from simulator.batch_policy import Immediate, batch_policies
from simulator.batch_run import GPU_WATTS, replay
from simulator.batch_study import DEFAULT_FILE, BatchAsked, check, read_zones, study, totals
from simulator.batch_work import BatchRun, batch_runs

HOUR = 3600.0
COMMAND = ("simulate", "batch", "--zones")
SUNNY = np.array([500.0 - 300.0 * (10 <= hour % 24 < 17) for hour in range(24 * 60)])


def run(key="a", arrived_hours=0.0, hours=1.0, gpus=1.0, window_hours=24.0, declared=True):
    seconds = hours * HOUR
    return BatchRun(
        key, "family", gpus, arrived_hours * HOUR, window_hours * HOUR, seconds, seconds if declared else None
    )


def test_carbon_is_what_the_grid_was_while_the_job_ran():
    found = replay([run(arrived_hours=9.5, hours=2.0)], SUNNY, 24 * 30, 8.0, Immediate())
    # From half past nine: half an hour dirty, one and a half clean.
    assert found.kilograms == pytest.approx(GPU_WATTS / 1000 * (0.5 * 500 + 1.5 * 200) / 1000)
    assert found.missed == 0


def test_jobs_queue_for_gpus_that_are_not_there():
    found = replay([run("a", gpus=8.0), run("b", gpus=8.0)], SUNNY, 24 * 30, 8.0, Immediate())
    assert found.delay_hours == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["slicewise", "slicewise-told", "perfect", "threshold", "green-hours"])
def test_every_policy_finds_the_clean_hours_of_a_regular_grid(name):
    runs = batch_runs(40, 3.0, 24.0, 7)
    known = batch_policies(0.0)
    at_once = replay(runs, SUNNY, 24 * 35, 200.0, known["immediate"])
    found = replay(runs, SUNNY, 24 * 35, 200.0, known[name])
    assert found.missed == 0
    assert found.kilograms < 0.9 * at_once.kilograms


def test_the_same_seed_is_the_same_replay():
    runs = batch_runs(40, 3.0, 24.0, 7)
    assert runs == batch_runs(40, 3.0, 24.0, 7)
    assert runs != batch_runs(40, 3.0, 24.0, 8)
    twice = [replay(runs, SUNNY, 24 * 35, 12.0, batch_policies(0.0)["slicewise"]) for _ in range(2)]
    assert twice[0] == twice[1]


def test_no_policy_that_keeps_to_the_past_reads_the_future():
    runs = batch_runs(30, 2.0, 24.0, 3)
    first = 24 * 35
    changed = SUNNY.copy()
    changed[first + 5 * 24 :] = 1.0  # after the last deadline
    for name in ("slicewise", "threshold", "green-hours"):
        known = batch_policies(0.0)
        once = replay(runs, SUNNY, first, 24.0, known[name])
        assert once == replay(runs, changed, first, 24.0, batch_policies(0.0)[name])


def test_most_of_the_perfect_saving_on_a_real_grid_and_no_deadline_missed():
    table = read_zones(DEFAULT_FILE)
    asked = BatchAsked(str(DEFAULT_FILE), ("ES",), (42,), ("immediate", "slicewise", "perfect"), 120, 6.0)
    check(asked, table)
    found = totals(study(asked, table))
    assert found["slicewise"]["missed_deadlines"] == 0
    assert found["slicewise"]["of_perfect"] >= 0.8
    assert found["slicewise"]["saving_ratio"] > 0.1


def test_the_command_prints_a_document(capsys):
    status = main(
        [*COMMAND, "ES,GB", "--policy", "immediate,threshold", "--jobs", "20", "--days", "2", "-o", "json"]
    )
    assert status == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["by_zone"]) == {"ES", "GB"}
    assert document["policies"]["immediate"]["saving_ratio"] == 0.0
    assert document["policies"]["threshold"]["missed_deadlines"] == 0
    assert len(document["cases"]) == 2


def test_the_command_prints_a_table(capsys):
    assert main([*COMMAND, "ES", "--policy", "immediate", "--jobs", "5", "--days", "1"]) == 0
    shown = capsys.readouterr().out
    assert "5 jobs in 1 days with windows of 24 h on 24 GPUs, 1 zones, 1 seeds" in shown
    assert "immediate" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--zones XX", "no zone XX; it has:"),
        ("--days 400", "expected"),
        ("--carbon /nowhere.csv", "No such file or directory; expected a table of hourly intensities"),
    ],
)
def test_what_cannot_be_served_is_told(arguments, message, capsys):
    assert main(f"simulate batch {arguments}".split()) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_table_is_refused(tmp_path):
    broken = tmp_path / "hours.csv.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(TableRefused, match="expected a table of hourly intensities"):
        read_zones(broken)
