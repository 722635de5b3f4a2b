"""What the held-out benchmark runs, and what it concludes from its cases."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks import held_out
from benchmarks.held_out import PARTS, Load, cases_of, judged, loads, summary, told
from simulator.autoscaling_loads import FAMILIES


def _point(target: float, attainment: float, hours: float) -> dict[str, float]:
    return {
        "target": target,
        "slo_attainment": attainment,
        "gpu_hours": hours,
        "reversals_per_hour": 2.0,
        "killed_before_serving": 0.0,
    }


def _found(attainment: float) -> dict[str, Any]:
    def policy(*points: dict[str, float]) -> dict[str, Any]:
        reach = [point["gpu_hours"] for point in points if point["slo_attainment"] >= 0.99]
        at = {"gpu_hours": min(reach)} if reach else None
        return {"frontier": list(points), "at_slo": {"0.99": at}, "default": points[0]}

    return {
        "trace": "made/1",
        "startup_seconds": 30,
        "policies": {
            "slicewise": policy(_point(0.99, attainment, 11.0)),
            "kpa": policy(_point(0.5, 0.985, 10.0)),
            "wva": policy(_point(1.0, 0.995, 20.0)),
            "static": policy(_point(1.0, 1.0, 5.0)),
            "clairvoyant": policy(_point(1.0, 1.0, 8.0)),
        },
    }


def test_the_rival_of_a_case_is_the_cheapest_that_attains_as_much():
    assert judged("made", _found(0.992))["best_rival"] == "wva"
    assert judged("made", _found(0.992))["over_best_rival"] == pytest.approx(11.0 / 20.0)
    short = judged("made", _found(0.98))
    assert short["best_rival"] == "kpa"
    assert short["over_best_rival"] == pytest.approx(1.1)
    assert short["objective_reached_by_a_rival"]
    assert short["over_clairvoyant"] == pytest.approx(11.0 / 8.0)


def _case(trace: str, over: float | None, attainment: float = 0.995, **changes: Any) -> dict[str, Any]:
    return {
        "trace": trace,
        "over_best_rival": over,
        "slo_attainment": attainment,
        "over_clairvoyant": 1.2,
        "reversals_per_hour": 3.0,
        "killed_before_serving": 0.0,
        "objective_reached_by_a_rival": True,
        **changes,
    }


def test_the_interval_is_over_loads_and_not_over_their_start_ups():
    same = [_case("a/1", 0.9), _case("a/1", 0.9), _case("b/1", 1.1), _case("b/1", 1.1)]
    once = [_case("a/1", 0.9), _case("b/1", 1.1)]
    assert summary(same)["over_best_rival_interval"] == summary(once)["over_best_rival_interval"]
    assert summary(same)["over_best_rival"] == pytest.approx(math.sqrt(0.99))
    assert summary(same)["dearer_than_best_rival"] == 2


def test_short_cases_and_cases_without_a_rival_are_counted():
    found = summary(
        [
            _case("a/1", None),
            _case("b/1", 1.0, 0.97),
            _case("c/1", 1.0, 0.96, objective_reached_by_a_rival=False),
            _case("d/1", 1.0),
        ]
    )
    assert found["no_rival_attains_as_much"] == 1
    assert found["share_at_objective"] == 0.5
    assert found["short_where_a_rival_is_not"] == 1
    assert found["least_attainment"] == 0.96
    assert "50 % of the cases" in told("all", found)
    alone = summary([_case("a/1", None)])
    assert alone["over_best_rival"] is None
    assert "no rival attains as much" in told("all", alone)


def test_every_family_is_run_with_its_seeds_and_every_part_once():
    made = loads(42, 2, 6.0)
    assert len(made) == 2 * len(FAMILIES) + len(PARTS)
    assert len(set(made)) == len(made)
    # Not the hours that the autoscaling benchmark is run on.
    assert min(from_hours for _, from_hours in PARTS) >= 18.0


def test_the_parts_are_in_the_recording():
    for model, from_hours in PARTS:
        assert Load(model, 42, 6.0, from_hours).trace().span_seconds == 6.0 * 3600.0


def test_a_short_case_runs_from_end_to_end(monkeypatch: pytest.MonkeyPatch):
    few = ("slicewise", "hpa-inflight", "clairvoyant")
    monkeypatch.setattr(held_out, "AUTOSCALERS", few)
    (case,) = cases_of(Load("ramps", 1, 0.2), [30.0])
    assert case["family"] == "ramps"
    assert 0.0 < case["slo_attainment"] <= 1.0
    assert case["gpu_hours"] > 0.0
