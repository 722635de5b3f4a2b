"""What decisions saw and learned is on the page when it is asked for; what was not known is not there."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.decide import decide
from autoscaler.state import State
from autoscaler.targets import Target
from autoscaler.told_series import told
from autoscaler.view import View
from metrics.exposition import Exposition
from tests.autoscaler.decisions import NOW, OUTAGE, policy, serving

TARGET = Target("apps/v1", "Deployment", "n", "llm")
SLO = policy(slo={"latencySeconds": 2.0, "attainment": 0.99})


def view_of(of, signals, before=None, now=NOW):
    state = State.begun(signals.current, now - 1000.0) if before is None else before
    return View(TARGET, signals, decide(of, signals, state, now), written=False)


def page(exposition):
    text, _ = exposition.render()
    return {
        sample.name.removeprefix("slicewise_autoscaler_"): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.labels.get("name") == "llm"
    }


def test_load_lateness_headroom_and_error_of_a_workload_with_an_objective():
    first = view_of(SLO, serving(4, 40.0, slo_missed=0.0))
    # One learning period later a tenth was late.
    late = view_of(SLO, serving(4, 40.0, slo_missed=0.1), first.decision.state, NOW + 61.0)
    exposition = Exposition("test", "1")
    exposition.autoscaler.told.read = lambda: told([late])
    shown = page(exposition)
    assert shown["in_flight_requests"] == 40.0
    assert shown["late_ratio"] == 0.1
    assert 0.0 < shown["late_day_ratio"] <= 0.1
    assert shown["headroom_ratio"] == late.decision.state.headroom > 0.0
    assert shown["forecast_error_ratio"] == pytest.approx(late.decision.state.learned.forecast.variation)


def test_what_is_not_known_leaves_a_gap_and_what_is_gone_is_gone():
    exposition = Exposition("test", "1")
    views = [view_of(policy(), serving(4, OUTAGE))]
    exposition.autoscaler.told.read = lambda: told(views)
    assert page(exposition) == {}
    views[:] = [view_of(policy(), serving(4, 7.0, cold_start_seconds=33.0))]
    assert page(exposition) == {"in_flight_requests": 7.0, "cold_start_seconds": 33.0}
    views.clear()
    assert page(exposition) == {}
