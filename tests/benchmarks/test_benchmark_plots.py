"""Plots of the benchmarks: from numbers to SVG that is small, the same every time, and labelled."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plot_style import apart
from benchmarks.plots import SOURCES, main
from benchmarks.plots_openb import curve_of

POLICIES = {"slicewise": 4.0, "fgd": 5.0, "bestfit": 7.0, "random": 14.0}
LISTS = ("default", "multigpu50", "gpuspec33")
LOADS = (0.9, 1.0, 1.4)


def packing():
    def item(left):
        curve = {str(at): min(at, 100.0 - left) for at in range(101)}
        return {
            "unallocated_percent": {"mean": left, "sd": 0.1},
            "curve": curve,
            "curve_sd": dict.fromkeys(curve, 0.2),
        }

    policies = {name: item(left) for name, left in POLICIES.items()}
    found = {"bound": {"unallocated_percent": 3.1}, "policies": policies}
    return {"seeds": list(range(10)), "lists": dict.fromkeys(LISTS, found)}


def mig():
    def item(wait):
        return {
            "stranded_percent": {"mean": wait / 100, "sd": 0.1},
            "mean_wait_seconds": {"mean": wait, "sd": None},
        }

    waits = {"slicewise": 300.0, "hami": 400.0, "first-fit": 500.0}
    return {
        "studies": [
            {
                "load": load,
                "seeds": 20,
                "grid": grid,
                "policies": {name: item(wait * load) for name, wait in waits.items()},
            }
            for load in LOADS
            for grid in ("memory", "compute")
        ]
    }


def planner():
    return {"mixes": {"gangs": {"runs": [{"gap_percent": 0.4}, {"gap_percent": None}]}}}


@pytest.fixture
def bench(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    for name, found in (("packing", packing()), ("mig", mig()), ("planner", planner())):
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder


def drawn(bench, output):
    assert main(["--bench", str(bench), "--output", str(output)]) == 0
    return {path.name: path.read_bytes() for path in sorted(output.iterdir())}


def test_every_plot_is_small_labelled_and_the_same_every_time(bench, tmp_path):
    first, again = drawn(bench, tmp_path / "one"), drawn(bench, tmp_path / "two")
    assert first == again
    assert set(first) == {
        "openb-allocation.svg",
        "openb-unallocated.svg",
        "mig-stranded.svg",
        "mig-waiting.svg",
        "planner-gap.svg",
    }
    for data in first.values():
        text = data.decode()
        assert len(data) < 150_000
        assert "<dc:date>" not in text
        assert not any(line != line.rstrip() for line in text.splitlines())
    for words in ("slicewise", "fgd", "bound 96.9 at 100 %", "multigpu50", "10 seeds"):
        assert words in first["openb-allocation.svg"].decode()
    for words in ("memory grid", "compute grid", "hami", "20 seeds"):
        assert words in first["mig-waiting.svg"].decode()


def test_what_was_not_measured_is_named_and_left_alone(bench, tmp_path, capsys):
    (bench / "mig.json").unlink()
    output = tmp_path / "plots"
    output.mkdir()
    (output / "mig-waiting.svg").write_text("as it was")
    assert main(["--bench", str(bench), "--output", str(output)]) == 0
    assert "mig.json: not there" in capsys.readouterr().err
    assert (output / "mig-waiting.svg").read_text() == "as it was"


def test_nothing_measured_at_all_is_an_error(tmp_path, capsys):
    assert main(["--bench", str(tmp_path), "--output", str(tmp_path / "plots")]) == 1
    assert capsys.readouterr().err.count("not there") == len(SOURCES)


def test_a_broken_file_is_told_in_one_line(bench, tmp_path, capsys):
    (bench / "packing.json").write_text("{")
    assert main(["--bench", str(bench), "--output", str(tmp_path / "plots")]) == 1
    assert "packing.json" in capsys.readouterr().err


def test_curves_are_read_as_a_mapping_or_as_arrays():
    mapping = {"curve": {"1": 2.0}, "curve_sd": {"1": 0.5}}
    arrays = {"curve": {"arrived_percent": [1], "allocated_percent": [2.0], "allocated_percent_sd": [0.5]}}
    assert curve_of(mapping) == curve_of(arrays) == ({1: 2.0}, {1: 0.5})
    assert curve_of({}) == ({}, {})


@given(st.lists(st.floats(-50, 50), max_size=12), st.floats(0.1, 5))
def test_labels_keep_their_order_and_their_distance(values, step):
    heights = apart(sorted(values), step)
    assert len(heights) == len(values)
    assert all(after - before >= step - 1e-9 for before, after in itertools.pairwise(heights))
    assert sum(heights) == pytest.approx(sum(values), abs=1e-6)
