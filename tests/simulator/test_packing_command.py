"""``simulate packing`` as a command: JSON form, table, refusals."""

from __future__ import annotations

import argparse
import csv
import json

import pytest

from simulator.packing_command import add_parser
from tests.simulator import small_cluster


def _call(*arguments: str) -> int:
    top = argparse.ArgumentParser(prog="simulate")
    add_parser(top.add_subparsers(required=True))
    options = top.parse_args(["packing", *arguments])
    return int(options.run(options))


@pytest.fixture
def lists(tmp_path):
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "openb_pod_list_small.csv"
    with nodes.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sn", "cpu_milli", "memory_mib", "gpu", "model"])
        for node in small_cluster.nodes(1):
            writer.writerow([node.name, node.cpu_milli, node.memory_mib, node.gpus, node.model])
    trace = small_cluster.trace()
    with pods.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec"])
        for number, index in enumerate(trace.pods):
            pod = trace.shapes[index]
            models = "|".join(pod.models)
            writer.writerow([f"p{number:03}", pod.cpu_milli, pod.memory_mib, pod.gpus, pod.gpu_milli, models])
    return str(nodes), str(pods)


def test_json_has_the_documented_form(lists, capsys):
    nodes, pods = lists
    assert (
        _call(
            "--nodes", nodes, "--pods", pods, "--policy", "slicewise,fgd,random", "--seeds", "2",
            "--processes", "1", "-o", "json",
        )
        == 0
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"trace", "seeds", "bound", "policies"}
    assert report["trace"] == "small"
    assert report["seeds"] == 2
    assert list(report["policies"]) == ["slicewise", "fgd", "random"]
    for found in report["policies"].values():
        assert set(found) == {"unallocated_percent", "moved_percent"}
        assert set(found["unallocated_percent"]) == {"mean", "sd"}
        assert found["unallocated_percent"]["mean"] >= report["bound"]["unallocated_percent"] - 1e-3
        assert found["moved_percent"] == 0.0


def test_moves_are_reported_and_stay_within_three_percent(lists, capsys):
    nodes, pods = lists
    assert (
        _call(
            "--nodes", nodes, "--pods", pods, "--policy", "slicewise-repack", "--seeds", "1",
            "--processes", "1", "-o", "json",
        )
        == 0
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)["policies"]["slicewise-repack"]
    assert 0.0 <= found["moved_percent"] <= 3.0


def test_the_table_shows_the_bound_on_every_line(lists, capsys):
    nodes, pods = lists
    assert (
        _call("--nodes", nodes, "--pods", pods, "--policy", "fgd,bestfit", "--seeds", "1", "--processes", "1")
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "POLICY"
    assert len({line.split()[-1] for line in lines[2:]}) == 1


def test_an_unknown_policy_is_a_usage_error_that_names_the_known_ones(lists, capsys):
    nodes, pods = lists
    with pytest.raises(SystemExit) as stopped:
        _call("--nodes", nodes, "--pods", pods, "--policy", "fgd,best")
    assert stopped.value.code == 2
    assert "got best, expected any of slicewise, slicewise-repack, fgd" in capsys.readouterr().err


def test_a_refused_list_is_told_with_what_to_do(lists, capsys):
    _, pods = lists
    assert _call("--nodes", pods, "--pods", pods) == 2
    problem = capsys.readouterr().err
    assert problem.startswith("simulate packing: ")
    assert "no column sn" in problem
    assert "A node list has the columns sn" in problem
