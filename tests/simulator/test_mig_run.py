"""One run of the MIG simulator: the queue, legal states, and what is measured."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.mig_arrivals import Arrivals, draw
from simulator.mig_grid import GRIDS, card_space, mig_model
from simulator.mig_policies.simple import FirstFit
from simulator.mig_policy import Fleet
from simulator.mig_registry import MIG_POLICIES, policies_for
from simulator.mig_run import IllegalPlacement, run

MIX = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
MODELS = {
    "H100-80GB": MIX,
    "A100-40GB": ("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb"),
    "A30-24GB": ("1g.6gb", "2g.12gb", "4g.24gb"),
    "RTX-PRO-6000-Blackwell-96GB": ("1g.24gb", "2g.48gb"),
}


class Watched:
    """A policy that looks over another's shoulder and keeps what it was asked."""

    def __init__(self, policy, grid):
        self._policy, self._grid, self.asked = policy, grid, []
        if hasattr(policy, "pick"):
            self.pick = policy.pick

    def choose(self, fleet, profile):
        self.asked.append((round(fleet.now, 6), profile))
        choice = self._policy.choose(fleet, profile)
        card, number = choice
        legal = [found for _, found in fleet.space.steps[profile][fleet.states[card]]]
        assert number in legal
        self.assert_disjoint(fleet, card, number)
        return choice

    def assert_disjoint(self, fleet, card, number):
        """Cells of running instances never overlap, from the hardware's rule, not from the state number."""
        cells = (1 << fleet.space.card_cells) - 1
        taken = number & cells
        memory = number >> fleet.space.card_cells
        for _, _, other in fleet.running[card].values():
            assert not taken & other & cells
            taken |= other & cells
            memory += other >> fleet.space.card_cells
        if self._grid == "compute":
            assert memory <= fleet.space.model.units


def _arrivals(space, cards, load, jobs, seed, weights):
    return draw(
        weights,
        space.compute_slices,
        capacity=cards * space.model.compute_slices,
        load=load,
        jobs=jobs,
        seed=seed,
    )


@pytest.mark.parametrize("grid", GRIDS)
@given(
    name=st.sampled_from(sorted(MIG_POLICIES)),
    model=st.sampled_from(sorted(MODELS)),
    nodes=st.integers(1, 3),
    gpus=st.integers(1, 3),
    load=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_no_policy_ever_makes_an_illegal_state_and_every_job_runs_once(
    grid, name, model, nodes, gpus, load, seed
):
    assume(policies_for([name], grid))
    space = card_space(mig_model(model), MODELS[model], grid)
    weights = [1.0 + p for p in range(len(MODELS[model]))][::-1]
    fleet = Fleet(space, nodes, gpus)
    arrivals = _arrivals(space, nodes * gpus, load, 40, seed, weights)
    policy = Watched(MIG_POLICIES[name](weights, seed), grid)
    found = run(fleet, arrivals, policy)
    assert len(policy.asked) == 40
    assert fleet.states == [0] * (nodes * gpus)
    assert sum(fleet.finished) == 40
    assert not any(fleet.waiting)
    assert min(found.waits) >= 0.0
    assert 0.0 <= found.gpc_utilisation_percent <= 100.0
    assert 0.0 <= found.gpc_utilisation_makespan_percent <= 100.0
    assert 0.0 <= found.stranded_percent <= 100.0


def test_all_policies_see_the_same_arrivals():
    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    weights = (35.0, 25.0, 25.0, 5.0)
    seen = set()
    for make in MIG_POLICIES.values():
        arrivals = _arrivals(space, 8, 1.4, 60, 7, weights)
        make(weights, 7)
        seen.add(arrivals)
    assert len(seen) == 1
    other_grid = card_space(mig_model("H100-80GB"), MIX, "compute")
    assert _arrivals(other_grid, 8, 1.4, 60, 7, weights) in seen


def test_the_same_seed_at_another_load_is_the_same_jobs_further_apart():
    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    dense = _arrivals(space, 8, 1.4, 50, 3, (1, 1, 1, 1))
    sparse = _arrivals(space, 8, 0.7, 50, 3, (1, 1, 1, 1))
    assert dense.profile == sparse.profile
    assert dense.seconds == sparse.seconds
    assert sparse.at == pytest.approx([2.0 * at for at in dense.at])


def test_offered_load_is_what_the_jobs_bring():
    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    arrivals = _arrivals(space, 8, 1.2, 40_000, 1, (35, 25, 25, 5))
    work = sum(space.compute_slices[p] * s for p, s in zip(arrivals.profile, arrivals.seconds, strict=True))
    assert work / (56 * arrivals.at[-1]) == pytest.approx(1.2, rel=0.03)


def test_waiting_jobs_are_tried_in_arrival_order_with_backfill():
    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    # A 3g runs until 100; the 7g has to wait for the whole card, the 1g behind it need not.
    arrivals = Arrivals(at=(0.0, 1.0, 2.0), profile=(2, 3, 0), seconds=(100.0, 10.0, 5.0))
    found = run(Fleet(space, 1, 1), arrivals, FirstFit())
    assert found.waits == (0.0, 99.0, 0.0)
    assert found.makespan_seconds == 110.0


def test_an_ordering_policy_decides_who_goes_first():
    class SmallestFirst(FirstFit):
        def pick(self, fleet, candidates):
            return min(candidates)

    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    arrivals = Arrivals(at=(0.0, 1.0, 2.0), profile=(3, 3, 0), seconds=(10.0, 10.0, 10.0))
    assert run(Fleet(space, 1, 1), arrivals, FirstFit()).waits == (0.0, 9.0, 18.0)
    assert run(Fleet(space, 1, 1), arrivals, SmallestFirst()).waits == (0.0, 19.0, 8.0)


def test_utilisation_and_stranded_capacity_of_a_run_done_by_hand():
    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    # 1g on unit 0 for 40 s, alone; the window ends with the last arrival at 20.
    arrivals = Arrivals(at=(0.0, 20.0), profile=(0, 0), seconds=(40.0, 20.0))
    found = run(Fleet(space, 1, 1), arrivals, FirstFit())
    assert found.gpc_utilisation_makespan_percent == pytest.approx(100.0 * 60.0 / (7 * 40.0))
    assert found.gpc_utilisation_percent == pytest.approx(100.0 / 7.0)
    # Units 1..7 free: 1g@1, 2g@2, 3g@4 cover all of them, so nothing is stranded.
    assert found.stranded_percent == 0.0


def test_a_policy_that_breaks_the_geometry_is_stopped():
    class Overlapping(FirstFit):
        def choose(self, fleet, profile):
            return 0, 1

    space = card_space(mig_model("H100-80GB"), MIX, "memory")
    arrivals = Arrivals(at=(0.0, 1.0), profile=(0, 0), seconds=(10.0, 10.0))
    with pytest.raises(IllegalPlacement, match=r"1g\.10gb"):
        run(Fleet(space, 1, 1), arrivals, Overlapping())
