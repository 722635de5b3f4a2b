"""What the autoscaling benchmark concludes, and what its plots show."""

from __future__ import annotations

from benchmarks.autoscaling import faults_verdict, verdict
from benchmarks.plot_style import save
from benchmarks.plots_autoscaling import frontier


def _point(target, attainment, hours):
    return {"target": target, "slo_attainment": attainment, "gpu_hours": hours, "reversals_per_hour": 1.0}


def _policy(points, at_slo, shipped):
    return {"frontier": points, "at_slo": {"0.99": at_slo}, "default": shipped}


def _study():
    ours = _point(0.99, 0.992, 11.0)
    hpa = [_point(0.5, 0.999, 20.0), _point(0.8, 0.985, 10.0)]
    least = [_point(0.9, 0.98, 7.0), _point(1.0, 1.0, 9.0)]
    return {
        "trace": "made",
        "startup_seconds": 30,
        "seeds": 5,
        "policies": {
            "slicewise": _policy([ours], {"gpu_hours": 11.0}, ours),
            "hpa-inflight": _policy(hpa, {"gpu_hours": 13.57}, hpa[1]),
            "wva": _policy([_point(1.0, 0.5, 3.0)], None, _point(1.0, 0.5, 3.0)),
            "static": _policy([_point(1.0, 1.0, 5.0)], {"gpu_hours": 5.0}, _point(1.0, 1.0, 5.0)),
            "clairvoyant": _policy(least, {"gpu_hours": 8.0}, least[1]),
        },
    }


def test_rivals_are_asked_for_the_same_attainment_and_yardsticks_are_no_rivals():
    found = verdict(_study())
    assert found["best_rival_at_objective"] == 13.57
    # Between 0.985 at 10 h and 0.999 at 20 h, 0.99 lies at 10 + 10·5/14.
    assert abs(found["best_rival_at_our_attainment"] - (10.0 + 10.0 * 5.0 / 14.0)) < 1e-9
    assert abs(found["over_clairvoyant"] - 11.0 / 8.0) < 1e-9
    assert found["rivals_at_objective"]["wva"] is None


def test_below_the_objective_rivals_are_asked_for_what_slicewise_attained():
    study = _study()
    study["policies"]["slicewise"]["default"]["slo_attainment"] = 0.985
    assert verdict(study)["best_rival_at_our_attainment"] == 10.0


def test_a_frontier_plot_names_the_policies_and_is_the_same_every_time(tmp_path):
    draw = frontier("made", "Made")
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        figure = draw({"studies": [_study()]})
        assert figure is not None
        assert save(figure, path) < 100_000
    text = paths[0].read_text(encoding="utf-8")
    assert text == paths[1].read_text(encoding="utf-8")
    assert "hpa-inflight" in text
    assert "start-up 30 s" in text
    assert draw({"studies": []}) is None


def _shipped(**policies):
    return {name: {"slo_attainment": share, "gpu_hours": hours} for name, (share, hours) in policies.items()}


def test_faults_are_judged_against_rivals_without_any():
    calm = _shipped(slicewise=(0.995, 50.0), kpa=(0.993, 48.0), hpa=(0.999, 90.0), static=(1.0, 70.0))
    dark = _shipped(slicewise=(0.994, 51.0), kpa=(0.9, 30.0), hpa=(0.8, 20.0), static=(1.0, 70.0))
    runs = [{"faults": [], "policies": calm}, {"faults": ["restart"], "policies": dark}]
    before, under = faults_verdict(runs)
    assert under["faults"] == ["restart"]
    assert under["slicewise"]["slo_attainment"] == 0.994
    assert under["rival"] == {"policy": "hpa", "slo_attainment": 0.999, "gpu_hours": 90.0}
    assert under["rival_no_dearer"]["policy"] == "kpa"
    assert before["rival"] == under["rival"]
    assert faults_verdict([{"faults": [], "policies": _shipped(kpa=(0.9, 1.0))}]) == []
