"""What each baseline of the MIG simulator chooses, and the two grids they choose on."""

from __future__ import annotations

import random

import pytest

from dra.inventory import Gpu, NodeInventory
from dra.nvlink import pcie_only
from dra.slices import nvidia_slices
from simulator.mig_grid import StudyRefused, card_space, full_name, mig_model
from simulator.mig_policies.nvidia_dra import name_order
from simulator.mig_policy import Fleet
from simulator.mig_registry import MIG_POLICIES

MIX = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
WEIGHTS = (35.0, 25.0, 25.0, 5.0)


def _space(grid="memory"):
    return card_space(mig_model("H100-80GB"), MIX, grid)


def _start(name, profile, *states, grid="memory", gpus=1):
    """(card, start) that a policy takes on cards in these states."""
    space = _space(grid)
    fleet = Fleet(space, len(states) // gpus, gpus)
    fleet.states[:] = states
    fleet.waiting[profile] = fleet.arrived[profile] = 1
    card, number = MIG_POLICIES[name](WEIGHTS, 1).choose(fleet, profile)
    return card, {found: start for start, found in space.steps[profile][states[card]]}[number]


def test_first_fit_takes_the_lowest_start_of_the_first_card():
    assert _start("first-fit", 0, 0, 0b1) == (0, 0)
    assert _start("first-fit", 0, 0b1, 0) == (0, 1)


def test_ascending_takes_the_fullest_card_that_fits():
    assert _start("ascending", 1, 0b1, 0b1111, 0b11111111) == (1, 4)


def test_hami_keeps_the_longest_run():
    # 1g beside a 4-unit instance: at 4 three are left in one piece from 5, at 6 only two and one.
    assert _start("hami", 0, 0b1111) == (0, 4)
    # 3g leaves a run of four on either side; after 3g@4 more placements of the small profiles remain.
    assert _start("hami", 2, 0b0) == (0, 4)


def test_hami_2_10_puts_1g_and_3g_high_and_the_others_low():
    assert _start("hami-2.10", 0, 0) == (0, 6)
    assert _start("hami-2.10", 2, 0) == (0, 4)
    assert _start("hami-2.10", 1, 0) == (0, 0)


def test_fgd_spares_the_windows_the_mix_asks_for():
    # Beside 3g@4 every 1g breaks the 3g@0 window alike; beside 1g@6 only starts in the broken half are free.
    assert _start("fgd", 0, 0b01000000)[1] in (4, 5)


def test_slicewise_puts_small_instances_where_no_window_breaks():
    card, start = _start("slicewise-webhook", 0, 0, 0b01000000)
    assert card == 1
    assert start in (4, 5)


def test_slicewise_node_takes_the_first_card_of_a_node():
    # One node of two cards: first-fit over GPUs reaches the empty one first.
    assert _start("slicewise-node", 0, 0, 0b01000000, gpus=2)[0] == 0
    assert _start("slicewise-webhook", 0, 0, 0b01000000, gpus=2)[0] == 1


def test_nvidia_dra_takes_starts_in_the_order_of_the_published_names():
    space = _space()
    model = space.model
    gpu = Gpu(0, "GPU-0", model, True)
    inventory = NodeInventory(
        node="n",
        regime="nvidia",
        driver="gpu.nvidia.com",
        pool="n",
        gpus=(gpu,),
        topology=pcie_only(model, 1),
        orders=((),),
        devices={},
        static={},
        shared_replicas=0,
    )
    names = [
        device
        for document in nvidia_slices(inventory)
        for device in document["spec"].get("devices", ())
        if "profile" in device["attributes"]
    ]
    for profile, name in enumerate(MIX):
        published = [
            int(d["name"].rsplit("-", 1)[1]) for d in names if d["attributes"]["profile"]["string"] == name
        ]
        assert name_order(space, profile) == tuple(published)


def test_random_reaches_every_legal_placement():
    space = _space()
    fleet = Fleet(space, 1, 2)
    policy = MIG_POLICIES["random"](WEIGHTS, 5)
    assert {policy.choose(fleet, 1) for _ in range(200)} == {
        (card, number) for card in range(2) for _, number in space.steps[1][0]
    }


def test_the_compute_grid_has_a_slot_for_each_slice_and_memory_as_an_amount():
    space = _space("compute")
    three, one = 2, 0
    low, high = space.steps[three][0]
    assert [low[0], high[0]] == [0, 4]
    # 3g@0 leaves slot 3; with both 3g all memory is gone, so nobody can have it.
    assert 3 in [start for start, _ in space.steps[one][low[1]]]
    assert space.steps[one][low[1] + high[1]] == ()
    assert space.stranded(low[1] + high[1]) == 1
    assert _space("memory").stranded(255) == 0


def test_a_slot_of_a_model_with_three_units_a_slice_is_three_units():
    model = mig_model("RTX-PRO-6000-Blackwell-96GB")
    space = card_space(model, ("1g.24gb", "2g.48gb", "4g.96gb"), "compute")
    assert [start for start, _ in space.steps[0][0]] == [0, 1, 2, 3]
    assert [start for start, _ in space.steps[1][0]] == [0, 2]


@pytest.mark.parametrize("grid", ["memory", "compute"])
def test_states_are_exactly_those_that_random_walks_reach(grid):
    space, source, seen = _space(grid), random.Random(1), {0}
    for _ in range(400):
        state = 0
        while True:
            legal = [number for steps in space.steps for _, number in steps[state]]
            if not legal:
                break
            state += source.choice(legal)
            seen.add(state)
    assert seen <= set(space.states)
    assert len(seen) > 0.7 * len(space.states)


def test_short_names_mean_the_smallest_plain_profile():
    model = mig_model("H100-80GB")
    assert full_name(model, "1g") == "1g.10gb"
    assert full_name(model, "1g.20gb") == "1g.20gb"
    with pytest.raises(StudyRefused, match=r"'5g'.*1g\.10gb"):
        full_name(model, "5g")
    with pytest.raises(StudyRefused, match="placements are unknown"):
        mig_model("H200-141GB")
    with pytest.raises(StudyRefused, match="no such model"):
        mig_model("H100")
