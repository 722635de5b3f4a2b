"""Placements of several GPUs published together: the prediction follows the allocator from GPU to GPU."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dra.allocation import Allocation, DeviceId
from dra.allocator import allocate
from dra.catalog import models
from dra.device_order import order_table
from dra.inventory import from_slices
from dra.node_order import Runs
from dra.resource_api import slices_from_json
from dra.slices import to_slices
from dra.turns import packed, turns, unpacked
from scheduler.demand import Demand, GpuRequest
from scheduler.first_fit import Room, first_fit
from scheduler.fleet import Fleet
from scheduler.hardware import profile_slots
from scheduler.packing.plan_problem import (
    Gpu,
    GpuValue,
    Need,
    NodeClass,
    NodeKind,
    Order,
    PlanProblem,
    Profile,
)
from scheduler.packing.plan_replay import Replay
from scheduler.prediction import allowed_gpus, expected, predict, site_of
from tests.dra.fleet_of_one import claim as dra_claim
from tests.dra.fleet_of_one import classes
from tests.scheduler.fleet_objects import claim, inventory, node

H100 = models()["H100-80GB"]
PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
CLASSES = classes()
GPUS = 3
starts = st.lists(st.sampled_from([0, 2, 4, 5, 6]), max_size=3, unique=True)
everywhere = st.lists(starts, min_size=GPUS, max_size=GPUS)
worths = st.lists(st.integers(0, 50), min_size=255, max_size=255).map(lambda w: order_table([51, *w]))


def masks_of(taken):
    return {gpu: sum(1 << start for start in found) for gpu, found in enumerate(taken)}


@settings(max_examples=80, deadline=None)
@given(everywhere, everywhere, worths, st.sampled_from(PROFILES), st.integers(1, 2))
def test_the_prediction_takes_what_the_allocator_takes(taken, published_for, table, profile, count):
    """Also over an order that was published for another state."""
    made = inventory("a", gpus=GPUS, ours=True)
    runs = Runs().now(dict.fromkeys(range(GPUS), H100), masks_of(published_for), {H100.name: table})
    items = slices_from_json(to_slices(made, (0,) * GPUS, {}, runs=runs))
    held = [f"gpu-{gpu}-1g10gb-{start}" for gpu, found in enumerate(taken) for start in found]
    fleet = Fleet()
    fleet.apply_node(node("a"))
    for item in items:
        fleet.apply_slice(item)
    for device in held:
        fleet.apply_claim(claim(f"c-{device}", devices=[device], on="a", driver="gpu.slicewise.io"))
    columns = fleet.view()
    demand = Demand((GpuRequest("mig", profile, count),))
    before = expected(columns)
    assert before.masks[0, :GPUS].tolist() == list(masks_of(taken).values())
    guess = predict(columns, before, demand, fleet.hardware, fleet.profiles)

    own = f"mig-{profile.replace('+', '.')}.slicewise.io"
    wish = dra_claim({"exactly": {"deviceClassName": own, "count": count}})
    allocated = {DeviceId("gpu.slicewise.io", "a", device) for device in held}
    answer = allocate([wish], items, allocated, CLASSES, "a")
    assert bool(guess.feasible[0]) == isinstance(answer, Allocation)
    if isinstance(answer, Allocation):
        read = from_slices("a", items)
        after = list(masks_of(taken).values())
        for result in answer.claims[0]:
            reference = read.devices[result.device.device]
            after[reference.gpu] |= reference.placement.bits
        assert guess.after[0, :GPUS].tolist() == after
        allowed = allowed_gpus(columns, demand, fleet.hardware)[0]
        site = site_of(columns, 0, allowed, fleet.hardware, fleet.profiles)
        assert first_fit(site, Room(tuple(masks_of(taken).values())), demand.requests).masks == tuple(after)


def test_the_plan_walks_the_gpus_in_their_turn():
    kind = NodeKind(
        gpus=(Gpu(0, 0, 0, whole=False),) * 3,
        pools=((0.0,) * 4,),
        needs=(Need(steps=((0, 1),)), Need(steps=((1, 1),))),
        turns=((2, 0, 1), ()),
    )
    problem = PlanProblem(
        kinds=(kind,),
        values=(GpuValue(8, (0.0,) * 256),),
        orders=(Order(((0, 6, 1), (0, 5, 1), (1, 0, 4))),),
        profiles=(Profile("1g.10gb"), Profile("4g.40gb")),
        nodes=(NodeClass(0, (0, 0, 0), (), (0.0, 0.0)),),
        gpus=(0.2, 0.5),
        wanted=(),
    )
    replay = Replay(problem)
    assert replay.place(0, 0, (0, 0, 0)) == (0, 0, 1 << 6)
    assert replay.place(0, 0, (0, 0, 0b1100000)) == (1 << 6, 0, 0b1100000)
    assert replay.place(0, 1, (0, 0, 0)) == (0b1111, 0, 0)


some_turns = st.lists(
    st.dictionaries(st.sampled_from(PROFILES), st.integers(0, 999), min_size=len(PROFILES)),
    min_size=1,
    max_size=16,
)


@given(some_turns)
def test_turns_survive_packing(first_at):
    told = turns(first_at)
    slots = [profile_slots(H100)] * len(first_at)
    assert unpacked(packed(told, slots), slots) == told
    assert all(number >= 0 for number in packed(told, slots))
    for profile, found in told.items():
        places = [first_at[position][profile] for position in found]
        assert places == sorted(places)
