"""The price loop: publishes by swapping, survives any failure, says how old its tables are, skips what has
not changed.
"""

from __future__ import annotations

import threading

import pytest

from dra.catalog import models
from scheduler.packing.forecast import Forecast
from scheduler.packing.prices import FleetSummary
from scheduler.packing.supply import HostPool
from scheduler.price_loop import Conditions, PriceLoop
from tests.polling import SOON_SECONDS

A100 = models()["A100-80GB"]


def conditions(free=4, observed=None, price=2.0, prior=None, forecast=None, cpu_milli=None):
    states = {(A100.name, 0b1): 3}, {(A100.name, 8): free}
    hosts = () if cpu_milli is None else (HostPool(*states, cpu_milli=cpu_milli, memory_mib=1e9),)
    summary = FleetSummary({A100.name: A100}, *states, hosts=hosts)
    return Conditions(
        summary, observed or {"whole:1": 3.0}, prior or {}, 600.0, price, {}, forecast=forecast or {}
    )


class World:
    def __init__(self):
        self.now = 100.0
        self.conditions = conditions()
        self.published, self.finished = [], []

    def read(self):
        if isinstance(self.conditions, Exception):
            raise self.conditions
        return self.conditions

    def loop(self, **options):
        return PriceLoop(
            self.read,
            clock=lambda: self.now,
            published=self.published.append,
            finished=self.finished.append,
            **options,
        )


@pytest.fixture
def world():
    return World()


def test_before_the_first_round_there_are_no_prices(world):
    loop = world.loop()
    assert not loop.priced()
    assert loop.age_seconds() is None
    assert loop.current().version == 0


def test_a_round_publishes_tables_and_tells_their_reader(world):
    loop = world.loop()
    done = loop.step()
    assert (done.status, done.solved) == ("optimal", True)
    assert loop.priced()
    assert world.published == [loop.current()]
    world.now += 7.0
    assert loop.age_seconds() == 7.0


def test_nothing_new_means_no_new_tables_but_fresh_ones(world):
    loop = world.loop()
    loop.step()
    world.now += 60.0
    assert not loop.step().solved
    assert loop.age_seconds() == 0.0
    assert len(world.published) == 1


@pytest.mark.parametrize(
    "change",
    [
        conditions(price=3.0),
        conditions(prior={"mig:1g.10gb": 5.0}),
        conditions(observed={"whole:8": 9.0}),
        conditions(forecast={"mig:3g.40gb": Forecast(9.0, 2.0)}),
    ],
    ids=["price", "prior", "demand", "forecast"],
)
def test_a_change_of_any_input_is_solved_again(world, change):
    loop = world.loop()
    loop.step()
    world.conditions = change
    world.now += 60.0
    assert loop.step().solved
    assert loop.current().version == 2


def test_cpu_that_runs_short_changes_the_tables(world):
    hungry = {"whole:1/8000m/0Mi": 3.0, "whole:1/1000m/0Mi": 3.0}
    world.conditions = conditions(observed=hungry, cpu_milli=400_000.0)
    loop = world.loop()
    loop.step()
    assert loop.current().hosts is not None
    world.conditions = conditions(observed=hungry, cpu_milli=20_000.0)
    world.now += 60.0
    assert loop.step().solved
    assert loop.current().version == 2
    world.now += 60.0
    assert not loop.step().solved


def test_a_change_that_moves_no_price_publishes_nothing(world):
    loop = world.loop()
    loop.step()
    world.conditions = conditions(free=3)
    world.now += 60.0
    assert not loop.step().solved
    assert loop.current().version == 1
    assert loop.age_seconds() == 0.0


def test_a_failing_round_keeps_the_last_tables_and_says_so(world, caplog):
    loop = world.loop()
    loop.step()
    kept = loop.current()
    world.conditions = RuntimeError("no lock")
    world.now += 30.0
    assert loop.step().status == "failed"
    assert loop.current() is kept
    assert loop.age_seconds() == 30.0
    assert "stays in force" in caplog.text
    world.conditions = conditions(free=2)
    assert loop.step().status == "optimal"


def test_a_reader_that_fails_does_not_stop_the_loop(world):
    def broken(_):
        raise ValueError("reader")

    loop = PriceLoop(world.read, clock=lambda: world.now, published=broken, finished=broken)
    assert loop.step().status == "failed"
    assert loop.priced()


def test_the_thread_solves_at_once_when_nudged_and_stops_when_told(world):
    rounds = threading.Semaphore(0)
    loop = PriceLoop(
        world.read, clock=lambda: world.now, finished=lambda _: rounds.release(), period_seconds=3600.0
    )
    loop.start()
    try:
        assert rounds.acquire(timeout=SOON_SECONDS)
        world.conditions = conditions(price=5.0)
        loop.nudge()
        assert rounds.acquire(timeout=SOON_SECONDS)
        assert loop.current().version == 2
    finally:
        loop.stop()
    assert not any(thread.name == "price-loop" for thread in threading.enumerate())
