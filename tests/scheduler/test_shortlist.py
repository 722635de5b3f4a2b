import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.envelopes import object_decoder
from cluster.wire import Pod
from scheduler.shortlist import shortlist, states_preferences


def _found(prices: list[float], zones: list[int], most: int) -> list[int] | None:
    kept = shortlist(np.array(prices), np.array(zones, dtype=np.int32), most)
    return None if kept is None else kept.tolist()


def test_the_cheapest_stay_and_of_equals_the_first() -> None:
    assert _found([3.0, 1.0, 2.0, 1.0, 1.0], [-1] * 5, 2) == [1, 3]


def test_the_cheapest_node_of_every_zone_stays() -> None:
    assert _found([1.0, 1.0, 9.0, 8.0, 9.0], [0, 0, 1, 1, 2], 1) == [0, 3, 4]


def test_nothing_is_shortened_when_few_or_none_fit() -> None:
    assert _found([1.0, 2.0], [0, 0], 2) is None
    assert _found([np.inf] * 5, [0] * 5, 2) is None


def test_nodes_without_room_are_left_out_when_some_have_it() -> None:
    assert _found([np.inf, 4.0, np.inf, 3.0], [0] * 4, 3) == [1, 3]


prices = st.lists(st.sampled_from([1.0, 2.0, 2.0 + 1e-12, 5.0, np.inf]), min_size=1, max_size=40)


@given(prices, st.integers(1, 10), st.data())
def test_the_best_price_of_all_and_of_each_zone_is_kept(
    found: list[float], most: int, data: st.DataObject
) -> None:
    zones = data.draw(st.lists(st.integers(-1, 2), min_size=len(found), max_size=len(found)))
    kept = _found(found, zones, most)
    if kept is None:
        return
    assert kept == sorted(set(kept))
    assert all(np.isfinite(found[position]) for position in kept)
    for zone in set(zones):
        own = [price for price, where in zip(found, zones, strict=True) if where == zone]
        if np.isfinite(min(own)):
            assert round(min(own), 9) in {round(found[k], 9) for k in kept if zones[k] == zone}
    assert len(kept) <= most + len(set(zones))


def _pod(spec: dict[str, object]) -> Pod:
    return object_decoder(Pod).decode(json.dumps({"spec": spec}))


def test_a_pod_with_preferences_of_its_own_is_known() -> None:
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}
    assert states_preferences(_pod({"affinity": {"nodeAffinity": preferred}}))
    assert states_preferences(_pod({"affinity": {"podAntiAffinity": preferred}}))
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    assert states_preferences(_pod({"topologySpreadConstraints": [spread]}))


def test_hard_demands_are_no_preferences() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    required: dict[str, object] = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
    }
    assert not states_preferences(_pod({"topologySpreadConstraints": [spread]}))
    assert not states_preferences(_pod({"affinity": {"nodeAffinity": required}}))
    assert not states_preferences(_pod({}))
