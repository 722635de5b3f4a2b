"""Vectorised prediction against the exact walk of one node, and that against a brute-force allocator."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.mig import Placement, geometry
from scheduler.demand import Demand, GpuRequest
from scheduler.first_fit import NO_ROOM, NoRoom, Room, Site, first_fit
from scheduler.fleet import Fleet
from scheduler.prediction import allowed_gpus, expected, predict, site_of
from tests.scheduler.fleet_objects import claim, node, slices

H100 = models()["H100-80GB"]
PLACEMENTS = geometry(H100).placements
PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")


def site(gpus: int, order: tuple[Placement, ...] = PLACEMENTS) -> Site:
    return Site((0xFF,) * gpus, (order,) * gpus, (True,) * gpus, {}, 0)


requests = st.lists(
    st.one_of(
        st.builds(GpuRequest, st.just("mig"), st.sampled_from(PROFILES), st.integers(1, 2)),
        st.builds(GpuRequest, st.just("whole"), st.none(), st.integers(1, 2)),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda request: (request.kind, request.profile),
)
reachable = st.sampled_from([int(m) for m in np.flatnonzero(geometry(H100).reachable)])


def test_first_fit_takes_the_first_published_placement():
    ascending, descending = PLACEMENTS, tuple(reversed(PLACEMENTS))
    one = (GpuRequest("mig", "1g.10gb", 1),)
    assert first_fit(site(1, ascending), Room((0,)), one) == Room((1,))
    assert first_fit(site(1, descending), Room((0,)), one) == Room((1 << 6,))


def test_first_fit_backtracks_when_a_later_request_would_not_fit():
    # 1g at unit 0 blocks 4g@0: the allocator goes back and takes another unit.
    wanted = (GpuRequest("mig", "1g.10gb", 1), GpuRequest("mig", "4g.40gb", 1))
    assert first_fit(site(1), Room((0,)), wanted) == Room((0b11111,))
    assert first_fit(site(1), Room((1,)), wanted) is NO_ROOM


def brute(masks: list[int], wanted: list[GpuRequest]) -> bool:
    """Whether any set of placements serves the demand."""
    steps = [(r.kind, r.profile) for r in wanted for _ in range(r.count)]

    def place(index: int) -> bool:
        if index == len(steps):
            return True
        kind, profile = steps[index]
        bits = [0xFF] if kind == "whole" else [p.bits for p in PLACEMENTS if p.profile == profile]
        for gpu in range(len(masks)):
            for taken in bits:
                if not masks[gpu] & taken:
                    masks[gpu] |= taken
                    if place(index + 1):
                        return True
                    masks[gpu] &= ~taken
        return False

    return place(0)


@settings(max_examples=150, deadline=None)
@given(st.lists(reachable, min_size=1, max_size=2), requests)
def test_first_fit_finds_room_exactly_where_there_is_some(masks: list[int], wanted: list[GpuRequest]):
    found = first_fit(site(len(masks)), Room(tuple(masks)), wanted)
    assert isinstance(found, Room | NoRoom)
    assert isinstance(found, Room) == brute(list(masks), wanted)
    if isinstance(found, Room):
        assert all(before & after == before for before, after in zip(masks, found.masks, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 2, 4, 5, 6]), max_size=3, unique=True), min_size=4, max_size=4),
    requests,
)
def test_all_rows_at_once_agree_with_one_row_at_a_time(taken: list[list[int]], wanted: list[GpuRequest]):
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.apply_node(node(name))
        for item in slices(name):
            fleet.apply_slice(item)
    for index, starts in enumerate(taken):
        name, gpu = ("a", "b")[index // 2], index % 2
        for start in starts:
            device = f"gpu-{gpu}-mig-1g10gb-19-{start}"
            fleet.apply_claim(claim(f"c-{index}-{start}", devices=[device], on=name))
    demand = Demand(tuple(wanted))
    columns = fleet.view()
    before = expected(columns)
    guess = predict(columns, before, demand, fleet.hardware, fleet.profiles)
    allowed = allowed_gpus(columns, demand, fleet.hardware)
    for row in range(2):
        exact = first_fit(
            site_of(columns, row, allowed[row], fleet.hardware, fleet.profiles),
            Room(tuple(int(m) for m in before.masks[row, :2])),
            demand.requests,
        )
        assert bool(guess.feasible[row]) == isinstance(exact, Room)
        if isinstance(exact, Room):
            assert tuple(guess.after[row, :2].tolist()) == exact.masks
        else:
            assert guess.after[row].tolist() == before.masks[row].tolist()


def test_models_the_pod_refuses_are_not_used():
    fleet = Fleet()
    fleet.apply_node(node("h", allocatable={"nvidia.com/gpu": "2"}))
    fleet.apply_node(node("l", product="NVIDIA-L40S", allocatable={"nvidia.com/gpu": "2"}))
    demand = Demand((GpuRequest("whole", None, 1),), models=frozenset({"L40S-48GB"}))
    columns = fleet.view()
    found = predict(columns, expected(columns), demand, fleet.hardware, fleet.profiles)
    assert found.feasible.tolist() == [False, True]
