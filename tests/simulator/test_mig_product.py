"""The product's tables and device order place as the rule of the study does, given the same knowledge."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.device_order import device_order, order_table
from scheduler.packing.mig_space import memory_space
from scheduler.packing.mig_values import card_values, rounded_shares
from scheduler.packing.mix import DemandMix
from scheduler.packing.prices import solve_prices
from scheduler.packing.supply import FleetSummary
from simulator.mig_arrivals import draw
from simulator.mig_policy import Fleet
from simulator.mig_registry import MIG_POLICIES
from simulator.mig_run import run

H100 = models()["H100-80GB"]
PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
ARRIVED = {"mig:1g.10gb": 3500.0, "mig:2g.20gb": 2500.0, "mig:3g.40gb": 2500.0, "mig:7g.80gb": 500.0}
SPACE = memory_space(H100, PROFILES)
SHARES = rounded_shares({name.removeprefix("mig:"): count for name, count in ARRIVED.items()}, PROFILES)
FLEET = FleetSummary({H100.name: H100}, {}, {(H100.name, 4): 2})
AS_THE_TABLE_IS_WRITTEN = 2e-5  # compute slices; millionths of an empty card


@settings(deadline=None, max_examples=60)
@given(
    states=st.lists(st.sampled_from(SPACE.states), min_size=8, max_size=8),
    profile=st.integers(0, 3),
    waiting=st.frozensets(st.integers(0, 3)),
)
def test_the_cheapest_card_and_its_first_start_are_those_of_the_rule(states, profile, waiting):
    names = [f"mig:{PROFILES[p]}" for p in waiting]
    mix = DemandMix(dict.fromkeys(ARRIVED, 1.0))
    tables = solve_prices(FLEET, mix, lambda _: 2.5, waiting=names, arrivals=ARRIVED)
    worth, order = tables.gpu_value[H100.name], order_table(tables.mig[H100.name].tolist())
    taken = []
    for state in states:
        fitting = (p for p in device_order(H100, state, order) if p.profile == PROFILES[profile])
        bits = next((p.bits for p in fitting if not p.bits & state), None)
        if bits is not None:
            taken.append((float(worth[state] - worth[state | bits]), state, bits))
    rule = card_values(SPACE, SHARES, waiting)
    losses = [rule[s] - rule[s + number] for s in states for _, number in SPACE.steps[profile][s]]
    assert bool(taken) == bool(losses)
    if taken:
        _, state, bits = min(taken)
        assert rule[state] - rule[state + bits] <= min(losses) + AS_THE_TABLE_IS_WRITTEN


def test_the_same_arrivals_are_placed_the_same_but_for_what_is_known_of_them():
    asked, alike = 0, 0

    class Both:
        def __init__(self):
            self.product = MIG_POLICIES["slicewise-installed"]((), 0)
            self.rule = MIG_POLICIES["slicewise-webhook"]((), 0)

        def choose(self, fleet, profile):
            nonlocal asked, alike
            ours, theirs = self.product.choose(fleet, profile), self.rule.choose(fleet, profile)
            asked += 1
            alike += (fleet.states[ours[0]], ours[1]) == (fleet.states[theirs[0]], theirs[1])
            return ours

    weights = (35.0, 25.0, 25.0, 5.0)
    arrivals = draw(weights, SPACE.compute_slices, capacity=56, load=1.4, jobs=200, seed=3)
    run(Fleet(SPACE, 2, 4), arrivals, Both())
    assert asked == 200
    assert alike >= 0.98 * asked
