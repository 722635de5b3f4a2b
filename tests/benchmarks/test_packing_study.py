"""The packing benchmarks: variants by name, tables from what was measured, results added to earlier ones."""

from __future__ import annotations

import json

import pytest

from benchmarks import packing, packing_study
from scheduler.packing.share_prices import DEFAULT_SCENARIOS
from tests.simulator import small_cluster

SEEDS = [42, 43]


def _report(**left):
    policies = {name: {"unallocated_percent": {"mean": mean, "sd": 0.1}} for name, mean in left.items()}
    return {"bound": {"unallocated_percent": 3.0}, "policies": policies}


def test_the_unchanged_set_of_scenarios_is_that_of_the_product():
    assert packing_study._scenarios() == DEFAULT_SCENARIOS


def test_a_study_measures_the_baseline_the_bound_and_every_variant():
    done = []
    found = packing_study.measure(
        small_cluster.nodes(1), small_cluster.trace(), ("now", "moves"), (1, 2), lambda *job: done.append(job)
    )
    assert set(found["variants"]) == {"fgd", "now", "moves"}
    assert len(done) == 6
    for variant in found["variants"].values():
        for left, limit in zip(variant["unallocated_percent"], found["bound"], strict=True):
            assert left >= limit - 1e-6


def test_the_table_has_the_mean_of_the_lists_and_what_was_moved():
    item = {"closed_percent": 40.0, "moved_percent": 0.0}
    moved = {"closed_percent": 60.0, "moved_percent": 2.51}
    found = {
        "variants": {"now": "as it stands", "moves": "with moves"},
        "lists": {
            "a": {"variants": {"now": item, "moves": moved}},
            "b": {"variants": {"now": {**item, "closed_percent": 50.0}, "moves": moved}},
        },
    }
    lines = packing_study.table(found)
    assert lines[2] == "| as it stands | 45.0 | 40 | 50 |"
    assert lines[3] == "| with moves (2.5 to 2.5 % moved) | 60.0 | 60 | 60 |"


def test_two_lists_joined_are_drawn_from_both():
    both = packing_study.trace_named("multigpu20+multigpu50")
    one, other = packing_study.trace_named("multigpu20"), packing_study.trace_named("multigpu50")
    assert set(both.shapes) <= set(one.shapes) | set(other.shapes)
    assert min(len(one.pods), len(other.pods)) <= len(both.pods) <= max(len(one.pods), len(other.pods))


def test_an_unknown_variant_is_a_usage_error_that_names_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        packing_study.main(["--variants", "nonsense"])
    assert "never-resolved" in capsys.readouterr().err


def test_closed_is_told_from_the_means_of_a_report():
    report = _report(fgd=5.0, slicewise=4.0)
    assert packing.closed_as_reported(report, "slicewise") == pytest.approx(50.0)
    assert packing.closed_as_reported(report, "fgd") is None
    assert packing.closed_as_reported(_report(slicewise=4.0), "slicewise") is None


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (None, "run once without --update"),
        ({"seeds": [7], "lists": {}}, r"got seeds \[7\], expected \[42, 43\]"),
        ({"seeds": SEEDS, "lists": {}}, "has no list default"),
    ],
)
def test_an_earlier_output_of_other_runs_is_not_added_to(tmp_path, written, problem):
    output = tmp_path / "packing.json"
    if written is not None:
        output.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        packing.earlier_lists(output, SEEDS, ["default"])


def test_an_earlier_output_of_the_same_runs_is_kept(tmp_path):
    output = tmp_path / "packing.json"
    lists = {"default": _report(fgd=5.0)}
    output.write_text(json.dumps({"seeds": SEEDS, "lists": lists}), encoding="utf-8")
    assert packing.earlier_lists(output, SEEDS, ["default"]) == lists
