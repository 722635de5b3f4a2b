"""``simulate mig`` as a command: JSON form, table, refusals."""

from __future__ import annotations

import json

import pytest

from kubectl_slicewise.__main__ import main
from simulator.mig_report import paired

SMALL = ("--nodes", "1", "--gpus", "2", "--jobs", "30", "--processes", "1")


def test_json_has_the_documented_form(capsys):
    policies = "slicewise,slicewise-webhook,hami,first-fit"
    arguments = [
        "simulate",
        "mig",
        *SMALL,
        "--seeds",
        "3",
        "--load",
        "1.2",
        "--policy",
        policies,
        "-o",
        "json",
    ]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["load"] == 1.2
    assert report["seeds"] == 3
    assert report["grid"] == "memory"
    assert report["mix"] == {"1g.10gb": 35.0, "2g.20gb": 25.0, "3g.40gb": 25.0, "7g.80gb": 5.0}
    assert list(report["policies"]) == policies.split(",")
    assert report["order"] == {
        "slicewise": "urgency",
        "slicewise-webhook": "arrival",
        "hami": "arrival",
        "first-fit": "arrival",
    }
    for found in report["policies"].values():
        for measure in (
            "gpc_utilisation_percent",
            "stranded_percent",
            "mean_wait_seconds",
            "p95_wait_seconds",
        ):
            assert set(found[measure]) == {"mean", "sd"}
    assert set(report["paired"]) == {
        f"{ours}-vs-{name}" for ours in ("slicewise", "slicewise-webhook") for name in ("hami", "first-fit")
    }
    pair = report["paired"]["slicewise-vs-hami"]["mean_wait_seconds"]
    means = [report["policies"][name]["mean_wait_seconds"]["mean"] for name in ("slicewise", "hami")]
    assert pair["mean"] == pytest.approx(means[0] - means[1], abs=2e-3)
    assert pair["ci95"][0] <= pair["mean"] <= pair["ci95"][1]


def test_the_same_command_gives_the_same_numbers(capsys):
    arguments = ["simulate", "mig", *SMALL, "--seeds", "2", "--grid", "compute", "-o", "json"]
    outputs = []
    for _ in range(2):
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_the_table_names_the_setting_and_every_policy(capsys):
    assert main(["simulate", "mig", *SMALL, "--seeds", "2", "--model", "A30-24GB", "--mix", "1g:3,2g:2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 × 2 A30-24GB, 30 jobs (1g.6gb 3, 2g.12gb 2), load 1.4, memory grid, 2 seeds"
    names = {line.split()[0] for line in lines[2:6]}
    assert names == {"slicewise", "slicewise-webhook", "hami", "first-fit"}
    assert "which waiting pod starts first" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "T4-16GB"], "--model: got 'T4-16GB': its MIG placements are unknown"),
        (["--mix", "1g:35,9g:1"], "--mix: got profile '9g'"),
        (["--mix", "1g"], "--mix: got '1g', expected PROFILE:WEIGHT"),
        (["--mix", "1g:0"], "expected at least one profile with a weight above 0"),
        (["--mix", "1g:1,1g:2"], "given twice"),
    ],
)
def test_a_refused_study_is_told_in_one_line(arguments, told, capsys):
    assert main(["simulate", "mig", *SMALL, *arguments]) == 2
    problem = capsys.readouterr().err
    assert told in problem
    assert problem.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--policy", "best"], ["--load", "0"], ["--load", "x"], ["--seeds", "0"]]
)
def test_wrong_usage_is_status_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "mig", *arguments])
    assert stopped.value.code == 2


def test_a_paired_interval_is_students():
    found = paired([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert found["mean"] == 2.0
    assert found["ci95"] == pytest.approx([2.0 - 4.303 / 3**0.5, 2.0 + 4.303 / 3**0.5], abs=1e-3)
    assert paired([1.0], [0.0])["ci95"] is None
