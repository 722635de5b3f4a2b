"""Where the time of a round goes, and what waits while it runs."""

from __future__ import annotations

import gc
import logging
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry

from autoscaler.controller import Controller
from autoscaler.round_times import Phase, RoundTimes
from autoscaler.undisturbed import Undisturbed
from cluster.policy import AutoscalingPolicy
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.label_values import ROUND_PHASES
from tests.autoscaler.said import Said
from tests.autoscaler.test_control_rounds import Loads, Scales


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spent(times: RoundTimes, clock: Clock, **seconds: float) -> None:
    times.begin()
    for phase, took in seconds.items():
        times.enter(phase)  # type: ignore[arg-type]
        clock.now += took
    times.end(5.0)


def test_every_moment_of_a_round_belongs_to_one_phase():
    clock = Clock()
    times = RoundTimes(clock=clock)
    times.begin()
    for phase, took in (("scales", 1.0), ("pods", 2.0), ("prometheus", 3.0), ("pods", 4.0)):
        times.enter(phase)
        clock.now += took
    assert times.end(5.0) == {"scales": 1.0, "pods": 6.0, "prometheus": 3.0} == times.last


def test_what_a_round_that_broke_off_has_left_is_dropped():
    clock = Clock()
    times = RoundTimes(clock=clock)
    times.begin()
    times.enter("scales")
    clock.now += 50.0
    spent(times, clock, decisions=1.0)
    assert times.last == {"decisions": 1.0}


def test_a_round_longer_than_its_period_is_told_once_until_one_is_in_time(caplog: pytest.LogCaptureFixture):
    clock = Clock()
    times = RoundTimes(clock=clock)
    said = []
    for scales in (0.5, 6.0, 6.0, 0.5, 7.0):
        spent(times, clock, prometheus=0.5, scales=scales, room=0.01)
        said.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    assert said == [
        [],
        ["a round took 6.51 s, its period is 5 s: scales 6.00 s, prometheus 0.50 s"],
        [],
        [],
        ["a round took 7.51 s, its period is 5 s: scales 7.00 s, prometheus 0.50 s"],
    ]


def test_the_phases_of_the_metric_are_those_of_a_round():
    assert set(ROUND_PHASES) == set(get_args(Phase))


class Scrape:
    """Something that is held; each hold prolongs it."""

    def __init__(self) -> None:
        self.holds, self.held = 0, False

    def hold(self) -> None:
        self.holds, self.held = self.holds + 1, True

    def release(self) -> None:
        self.held = False


class Watching(Loads):
    """Notes what holds while a round asks."""

    def __init__(self, scrape: Scrape) -> None:
        super().__init__({"a": 1.0})
        self.scrape, self.loops = scrape, Scrape()
        self.collects: list[bool] = []
        self.fails = False

    @property
    def beside(self) -> Any:
        return (self.scrape,)

    def ask(self, workloads: Any, at: float, enter: Any = None) -> Any:
        enter("prometheus")
        self.collects.append(gc.isenabled())
        assert self.scrape.held
        assert self.loops.held
        if self.fails:
            raise RuntimeError("a defect")
        return super().ask(workloads, at)


@pytest.fixture
def scene():
    collector, registry = Watching(Scrape()), CollectorRegistry()
    policy = AutoscalingPolicy.model_validate(
        {"target": {"name": "a"}, "maxReplicas": 9, "periodSeconds": 5, "inFlight": {"perReplica": 2}}
    )
    controller = Controller(
        lambda: {("n", "a"): policy},
        Scales({"a": 1}),
        collector,
        Said(),
        AutoscalerMetrics(registry),
        beside=(collector.loops,),
    )
    yield controller, collector, registry
    controller.close()


def test_a_round_shows_where_its_time_went(scene: Any, caplog: pytest.LogCaptureFixture):
    controller, _, registry = scene
    with caplog.at_level(logging.WARNING):
        controller.round()
    shown = {
        phase: registry.get_sample_value("slicewise_autoscaler_loop_phase_seconds_total", {"phase": phase})
        for phase in ROUND_PHASES
    }
    assert shown == pytest.approx({**dict.fromkeys(ROUND_PHASES, 0.0), **controller.times.last})
    assert 0.0 < sum(shown.values()) < 5.0
    assert caplog.text == ""


def test_while_a_round_runs_nothing_is_scraped_and_no_garbage_collected(scene: Any):
    controller, collector, _ = scene
    controller.round()
    assert collector.collects == [False]
    assert not collector.scrape.held
    assert not collector.loops.held
    assert gc.isenabled()
    assert collector.scrape.holds >= 5, "each phase prolongs the hold"


def test_a_round_that_fails_disturbs_nobody_any_longer(scene: Any):
    controller, collector, _ = scene
    collector.fails = True
    with pytest.raises(RuntimeError):
        controller.round()
    assert not collector.scrape.held
    assert not collector.loops.held
    assert gc.isenabled()


def test_who_collects_no_garbage_at_all_is_not_made_to(scene: Any):
    gc.disable()
    try:
        with Undisturbed(()):
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
