"""Shadow fleets: what they hold, when they are late, and which headroom they settle on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.shadows import CANDIDATES, Conditions, Shadows

UNDER = Conditions(
    per_replica=16.0,
    least=1,
    most=50,
    raise_tolerance=0.05,
    window_seconds=300.0,
    lead_seconds=100.0,
    patience_seconds=1.0,
)
LAST = len(CANDIDATES) - 1
WORTH = 50.0


def follow(loads: list[float], begun: int = 4, under: Conditions = UNDER, spread: float = 10.0) -> Shadows:
    shadows = Shadows.begun(begun, 0.0)
    for look, load in enumerate(loads):
        shadows = shadows.seen(load, spread, load, 4.0, under, 10.0 * (look + 1))
    return shadows


def test_more_headroom_holds_more_replicas_and_costs_more():
    shadows = follow([100.0] * 100)
    assert shadows.replicas[0] == 7.0
    assert shadows.replicas[LAST] == 12.0  # 100 + 8 x 10 in flight
    assert list(shadows.replicas) == sorted(shadows.replicas)
    assert list(shadows.cost) == sorted(shadows.cost)


def test_a_raise_serves_one_lead_later_and_is_late_until_then():
    shadows = follow([40.0] * 60, begun=4)
    before = shadows.late[0]
    late = []
    for look in range(60, 160):
        shadows = shadows.seen(100.0, 10.0, 100.0, 4.0, UNDER, 10.0 * (look + 1))
        late.append(shadows.late[0] > before)
        before = shadows.late[0]
    assert shadows.replicas[0] == 7.0
    assert late[0]
    # 100 s until the replicas serve, and then what waits is to be cleared.
    assert 10 <= sum(late) <= 60
    assert not late[-1]


def test_lowering_waits_for_a_window_and_keeps_the_highest_wish_in_it():
    shadows = follow([100.0] * 40 + [20.0] * 20 + [60.0] + [20.0] * 8)
    assert shadows.replicas[0] == 7.0
    shadows = follow([100.0] * 40 + [20.0] * 20 + [60.0] + [20.0] * 12)
    assert shadows.replicas[0] == 4.0
    assert follow([100.0] * 40 + [20.0] * 90).replicas[0] == 2.0


def test_calm_traffic_lowers_the_headroom_within_hours_and_bursts_raise_it():
    calm = follow([100.0] * 3 * 360, begun=7)
    start = Shadows.begun(4, 0.0).chosen(0.012, 120.0, WORTH)
    assert start == 1.5
    assert calm.chosen(0.012, 120.0, WORTH) < start
    assert follow([100.0] * 12 * 360, begun=7).chosen(0.012, 120.0, WORTH) < calm.chosen(0.012, 120.0, WORTH)
    bursts = follow(([100.0] * 60 + [140.0] * 30) * 40)
    assert bursts.chosen(0.012, 120.0, WORTH) >= 3.0


def knowing(late: list[float], cost: list[float]) -> Shadows:
    """Fleets with a day's experience: the late shares and costs of each candidate."""
    day = 86_400.0
    return Shadows.begun(4, 0.0).recalled([share * day for share in late], cost, day, day)


def test_misses_that_no_headroom_prevents_buy_none():
    dearer = [10.0 + deviations for deviations in CANDIDATES]
    common = knowing([0.2] * len(CANDIDATES), dearer)
    worth_it = knowing([0.2 - 0.02 * deviations for deviations in CANDIDATES], dearer)
    # What is left of the prior asks for a little.
    assert common.chosen(0.008, 30.0, WORTH) <= 1.0
    assert worth_it.chosen(0.008, 30.0, WORTH) == CANDIDATES[-1]


def test_what_fewer_late_requests_may_cost_is_the_users_to_say():
    # A deviation has one in a thousand fewer late and takes a tenth of the fleet more: a hundred times that.
    # What is left of the prior asks for a little.
    dear = knowing([0.2 - 0.001 * each for each in CANDIDATES], [10.0 + each for each in CANDIDATES])
    assert dear.chosen(0.008, 30.0, WORTH) <= 2.0
    assert dear.chosen(0.008, 30.0, 3.0 * WORTH) == CANDIDATES[-1]


def test_no_more_headroom_than_the_aim_takes():
    cheap = knowing([0.05 * 0.2**deviations for deviations in CANDIDATES], [10.0] * len(CANDIDATES))
    chosen = CANDIDATES.index(cheap.chosen(0.008, 30.0, WORTH))
    assert cheap.late_shares(30.0)[chosen] <= 0.008 < cheap.late_shares(30.0)[chosen - 1]


def test_the_fleets_answer_for_nothing_that_they_begin_with():
    shadows = follow([400.0] * 19, begun=1)
    assert shadows.answered == 0.0
    assert max(shadows.late) == 0.0


def test_spare_room_from_whole_numbers_is_used():
    # 33 in flight take three replicas of 16 anyway: no headroom has 15 to spare already.
    loads = [33.0 + 12.0 * (look % 7 == 0) for look in range(6 * 720)]
    shadows = follow(loads, begun=3, spread=6.0)
    assert shadows.late[0] == 0.0
    assert shadows.chosen(0.012, 30.0, WORTH) <= 0.5


def test_where_nothing_can_be_learned_all_keep_what_the_workload_has():
    shadows = follow([100.0] * 100).alike(9, 1000.0)
    assert set(shadows.replicas) == {9.0}
    assert set(shadows.queue) == {0.0}
    assert shadows.answered > 0.0


def test_a_look_too_soon_changes_nothing_and_a_long_silence_counts_for_a_minute():
    shadows = follow([100.0] * 100)
    assert shadows.seen(100.0, 10.0, 100.0, 4.0, UNDER, 1005.0) == shadows
    later = shadows.seen(100.0, 10.0, 100.0, 4.0, UNDER, 9000.0)
    assert later.answered - shadows.answered <= 60.0


def test_experience_of_another_set_of_candidates_is_not_taken_up():
    begun = Shadows.begun(3, 0.0)
    assert begun.recalled((1.0,), (1.0,), 5.0, 5.0) == begun
    told = follow([100.0] * 100)
    again = begun.recalled(told.late, told.cost, told.answered, told.age_seconds)
    assert again.late_shares(60.0) == told.late_shares(60.0)


@given(
    st.lists(st.floats(0.0, 3000.0), min_size=1, max_size=80),
    st.floats(0.0, 50.0),
    st.integers(1, 5),
    st.integers(5, 60),
)
def test_fleets_stay_within_bounds_and_shares_are_shares(
    loads: list[float], spread: float, least: int, most: int
):
    shadows = follow(loads, begun=5, under=replace(UNDER, least=least, most=most), spread=spread)
    assert all(min(least, 5) <= there <= most for there in shadows.replicas)
    assert all(0.0 <= share <= 1.0 for share in shadows.late_shares(60.0))
    assert shadows.chosen(0.01, 60.0, WORTH) in CANDIDATES


@pytest.mark.parametrize("aim", [0.001, 0.01, 0.05])
def test_a_lower_aim_never_chooses_less(aim: float):
    shadows = follow(([100.0] * 60 + [125.0] * 30) * 20)
    assert shadows.chosen(aim / 2.0, 60.0, WORTH) >= shadows.chosen(aim, 60.0, WORTH)
