"""Whose turn it is: MIG pods by urgency as in the simulator, priority first, everything else by arrival."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from cluster.policy import Planner
from dra.catalog import models
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.packing.mig_order import PATIENCE_SECONDS, urgency
from scheduler.packing.mig_space import memory_space
from scheduler.planner.chooser import DeciderChooser
from scheduler.planner.loop import PlannerLoop
from scheduler.planner.nominate import Nominator
from scheduler.planner.order import MigAsk, UrgencyOrder, mig_ask, value_lost, waited_seconds
from scheduler.planner.queue import as_waiting
from simulator.mig_policies.slicewise import SlicewisePlan
from simulator.mig_policy import Fleet as Cards
from tests.planner.test_plan_rounds import RecordingApi, Seen
from tests.scheduler.fleet_objects import Setting, node, pod, slices

MODEL = models()["H100-80GB"]
PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def at(seconds):
    """So long before noon, as the API server writes it."""
    hours, rest = divmod(43_200 - seconds, 3600)
    return f"2026-01-01T{hours:02d}:{rest // 60:02d}:{rest % 60:02d}Z"


def asking(name, profile, waited=0, priority=0, resource=None):
    made = pod(name, {resource or f"nvidia.com/mig-{profile}": 1})
    metadata = msgspec.structs.replace(made.metadata, creation_timestamp=at(waited))
    spec = msgspec.structs.replace(made.spec, priority=priority, scheduler_name="default-scheduler")
    return msgspec.structs.replace(made, metadata=metadata, spec=spec)


def setting(gpus=1):
    fleet = Fleet()
    fleet.apply_node(node("n1"))
    for item in slices("n1", gpus=gpus, ours=True):
        fleet.apply_slice(item)
    return Setting(fleet)


def arranged(found, pods):
    """The order, each pod taking its room before the next is asked for; pods by arrival."""
    order = UrgencyOrder(found.fleet, found.decider.demand, dict, lambda: NOON)
    waiting = sorted((as_waiting(one, 0.0) for one in pods), key=lambda one: (one.created, one.uid))
    chooser = DeciderChooser(found.decider, lambda: found.now)
    chooser.replaced([node("n1")])
    names = []
    for one in order.arrange(waiting, waiting):
        chooser.choose(one.pod, 10.0)
        names.append(one.name)
    return names


def test_who_goes_first_is_what_the_simulated_policy_picks():
    space = memory_space(MODEL, PROFILES)
    chance = np.random.default_rng(3)
    for _ in range(60):
        cards = Cards(space, 1, 3)
        cards.states[:] = chance.choice(space.states, 3).tolist()
        cards.waiting[:] = chance.integers(0, 3, 4).tolist()
        waits = chance.integers(0, 9000, 4).tolist()
        there = {p: float(waits[p]) for p in range(4) if cards.waiting[p] and cards.fits(p)}
        if not there:
            continue
        states = [(MODEL, np.array(sorted(set(cards.states))))]
        waiting = dict(zip(PROFILES, cards.waiting, strict=True))
        ranks = {}
        for profile, waited in there.items():
            # The simulated policy has seen no arrival: all alike.
            priced = value_lost(
                MigAsk(((PROFILES[profile], 1),)), states, waiting, {f"mig:{name}": 1.0 for name in PROFILES}
            )
            assert priced is not None
            ranks[profile] = urgency(*priced, waited)
        assert SlicewisePlan().pick(cards, there) == max(ranks, key=lambda p: (round(ranks[p], 5), -p))


def test_small_pods_that_have_waited_go_before_a_large_new_one_until_that_has_waited_long_enough():
    waited = int(3 * PATIENCE_SECONDS)
    small = [asking(f"s{i}", "1g.10gb", waited=waited) for i in range(3)]
    assert arranged(setting(), [asking("large", "7g.80gb"), *small])[-1] == "large"
    long = int(7 * (waited + PATIENCE_SECONDS))
    assert arranged(setting(), [asking("large", "7g.80gb", waited=long), *small])[0] == "large"


def test_of_the_same_ask_the_oldest_goes_first_and_the_order_is_stable():
    pods = [asking(f"p{i}", "1g.10gb", waited=100 - i) for i in range(4)]
    pods += [asking(f"q{i}", "2g.20gb", waited=100 - i) for i in range(4)]
    found = arranged(setting(2), pods)
    assert found == arranged(setting(2), list(reversed(pods)))
    assert [name for name in found if name[0] == "p"] == ["p0", "p1", "p2", "p3"]
    assert sorted(found) == sorted(one.metadata.name for one in pods)


def test_pods_for_whole_gpus_keep_their_place():
    pods = [
        asking("large", "7g.80gb", waited=40),
        asking("whole", "", waited=30, resource="nvidia.com/gpu"),
        asking("small", "1g.10gb", waited=20),
    ]
    assert arranged(setting(4), pods)[1] == "whole"


def test_what_fits_no_card_comes_last():
    found = setting()
    found.fleet.reserve("other", 0, Demand((GpuRequest("mig", "1g.10gb", 1),)), 1e12)
    pods = [asking("large", "7g.80gb", waited=9000), asking("small", "1g.10gb"), asking("two", "2g.20gb")]
    assert arranged(found, pods)[-1] == "large"


def test_only_pods_for_nothing_but_mig_instances_have_an_ask():
    mixed = Demand((GpuRequest("mig", "1g.10gb", 1), GpuRequest("whole", None, 1)))
    assert mig_ask(None) is None
    assert mig_ask(mixed) is None
    assert mig_ask(replace(mixed, requests=mixed.requests[:1], understood=False)) is None
    assert mig_ask(replace(mixed, requests=mixed.requests[:1])) == MigAsk((("1g.10gb", 1),))


def test_a_time_that_cannot_be_read_has_not_waited():
    assert waited_seconds("soon", NOON) == 0.0
    assert waited_seconds(at(90), NOON) == pytest.approx(90.0)


class NoSolver:
    """Takes nothing and remembers that it was asked."""

    def __init__(self):
        self.batches = []

    def begin(self, batch, *rest):
        self.batches.append(batch)
        return False

    def busy(self):
        return frozenset()

    def result(self, now):
        return None

    def start(self, wake):
        pass

    def stop(self):
        pass


@pytest.mark.parametrize("order", ["urgency", "arrival"])
def test_a_round_starts_whose_turn_it_is_and_asks_no_solver_who_waits(order):
    found = setting()
    chooser = DeciderChooser(found.decider, lambda: found.now)
    chooser.replaced([node("n1")])
    solver, seen = NoSolver(), Seen()
    planner = PlannerLoop(
        asks_for_gpus=chooser.asks_for_gpus,
        chooser=chooser,
        nominator=Nominator(RecordingApi(), 1),
        policy=lambda: Planner(order=order),
        active=lambda: True,
        observer=seen,
        ungated_grace_seconds=0.0,
        clock=lambda: 100.0,
        solving=solver,
        urgency=UrgencyOrder(found.fleet, found.decider.demand, dict, lambda: NOON),
    )
    planner.replaced([asking("large", "7g.80gb", waited=6100), asking("small", "1g.10gb", waited=6000)])
    made = planner.round()
    assert made is not None
    assert [one.waiting.name for one in made.nominations] == (["small"] if order == "urgency" else ["large"])
    assert len(solver.batches) == (0 if order == "urgency" else 1)
    # Priority comes before any turn.
    planner.replaced(
        [asking("first", "7g.80gb", waited=6100, priority=5), asking("second", "1g.10gb", waited=6000)]
    )
    for one in made.nominations:
        chooser.release(one.waiting.uid)
    made = planner.round()
    planner.stop()
    assert made is not None
    assert [one.waiting.name for one in made.nominations] == ["first"]
