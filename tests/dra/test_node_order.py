"""Over a node's published runs first-fit takes the best card and the best place on it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.device_order import order_table
from dra.mig import geometry
from dra.node_order import UNEXPECTED_WRITE_WORTH, WRITE_WORTH, Runs, best_run, run_holds, run_places
from dra.slice_parts import MOST_DEVICES

H100 = models()["H100-80GB"]
A30 = models()["A30-24GB"]
STATES = [mask for mask in range(256) if geometry(H100).reachable[mask]]
masks_of = st.lists(st.sampled_from(STATES), min_size=1, max_size=8)
tables = st.one_of(
    st.none(),
    st.lists(st.integers(0, 50), min_size=256, max_size=256).map(lambda w: order_table([51, *w[1:]])),
)
profiles = st.sampled_from([profile.name for profile in H100.profiles if profile.starts])


def first_fit(run, masks):
    return next(((gpu, p) for gpu, p in run if not p.bits & masks[gpu]), None)


@settings(max_examples=200, deadline=None)
@given(profiles, masks_of, tables)
def test_first_fit_takes_the_least_loss_of_the_node(profile, masks, table):
    run = best_run(H100, profile, range(len(masks)), dict(enumerate(masks)), table)
    every = {(gpu, p) for gpu in range(len(masks)) for p in geometry(H100).placements if p.profile == profile}
    assert set(run) == every
    assert len(run) == len(every)
    taken = first_fit(run, masks)
    fitting = [(gpu, p) for gpu, p in every if not p.bits & masks[gpu]]
    if taken is None:
        assert not fitting
    elif table is None:
        assert taken[0] == min(gpu for gpu, _ in fitting)
    else:
        worth = table.worth
        lost = {(gpu, p): worth[masks[gpu]] - worth[masks[gpu] | p.bits] for gpu, p in fitting}
        least = min(lost.values())
        assert lost[taken] == least
        assert taken[0] == min(gpu for (gpu, _), loss in lost.items() if loss == least)


expectations = st.one_of(st.none(), st.frozensets(profiles))


def lost(device, masks, table):
    gpu, placement = device
    return table.worth[masks[gpu]] - table.worth[masks[gpu] | placement.bits]


def spare(profile, table):
    """What a pod may lose before its profile is published anew."""
    return WRITE_WORTH if table.expected is None or profile in table.expected else UNEXPECTED_WRITE_WORTH


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(STATES), min_size=3, max_size=3), tables, expectations), max_size=6
    )
)
def test_what_is_kept_costs_no_pod_more_than_a_write_is_worth(moments):
    runs, gpus = Runs(), dict.fromkeys(range(3), H100)
    before = None
    for masks, told, expected in moments:
        now, table = dict(enumerate(masks)), told and replace(told, expected=expected)
        book = {} if table is None else {H100.name: table}
        found, best = runs.now(gpus, now, book), Runs().now(gpus, now, book)
        for index, (run, wanted) in enumerate(zip(found, best, strict=True)):
            taken, ideal = first_fit(run, masks), first_fit(wanted, masks)
            if table is None or ideal is None:
                assert taken == ideal
            else:
                assert lost(taken, masks, table) - lost(ideal, masks, table) <= spare(taken[1].profile, table)
            if before is not None and run_holds(before[index], wanted, now, table):
                assert run == before[index]
        before = found


def test_a_profile_that_nobody_expects_is_published_anew_for_larger_losses_only():
    worth = [1000 - 10 * mask.bit_count() for mask in range(256)]
    for bits in (0b1, 0b10):
        worth[bits] -= 100  # an instance on the first two units costs a tenth of the card more
    masks = {0: 0b100, 1: 0b100}
    for expected, held in ((["1g.10gb"], False), (["2g.20gb"], True), (None, False)):
        table = order_table([*worth[:255], 0], expected)
        best = best_run(H100, "1g.10gb", (0, 1), {0: 0, 1: 0}, table)
        low_first = tuple(sorted(best, key=lambda one: (one[0], one[1].start)))
        assert run_holds(low_first, best, {0: 0, 1: 0}, table) is held
        assert run_holds(best, best, masks, table)


def test_a_table_for_other_cards_says_nothing():
    other = {H100.name: order_table([3.0, 2.0, 2.5, 1.0])}
    assert Runs().now({0: H100}, {0: 1}, other) == Runs().now({0: H100}, {0: 1}, {})


def test_another_gpu_is_another_order():
    runs = Runs()
    small = runs.now({0: H100}, {0: 0}, {})
    large = runs.now({0: H100, 1: H100}, {0: 0, 1: 0}, {})
    assert [len(run) for run in large] == [2 * len(run) for run in small]


def test_a_slice_has_room_for_its_run_and_models_stand_apart():
    models_of = dict.fromkeys(range(16), H100) | dict.fromkeys(range(16, 20), A30)
    places = list(run_places(models_of))
    for model, profile, positions in places:
        starts = model.profile(profile).starts
        assert len(starts) * len(positions) <= MOST_DEVICES
        assert {models_of[position] for position in positions} == {model}
    assert [positions for model, profile, positions in places if profile == "1g.10gb"] == [
        tuple(range(9)),
        tuple(range(9, 16)),
    ]
    assert [positions for model, profile, positions in places if profile == "7g.80gb"] == [tuple(range(16))]
