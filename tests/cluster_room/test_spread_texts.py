"""Texts spread over ConfigMaps: where each lies, what is written, and what one that fails takes along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler import learned_store, workload_page
from autoscaler.batch import memory as batch_memory
from cluster.numbered_maps import MAPS_KEY, MOST_MAPS, map_names
from cluster.spread_texts import SpreadTexts, json_object
from tests.cluster_room.kept_maps import Maps

RBAC = Path(__file__).parents[2] / "deploy" / "manifests" / "rbac.yaml"
KEY = "texts.json"
LIMIT = 500


def texts_on(api: Maps, limit_bytes: int = LIMIT) -> SpreadTexts:
    return SpreadTexts(
        api.api, "ns", "memory", json_object(KEY), "a-test", "nothing", limit_bytes=limit_bytes
    )


def many(number: int, text: str = "x" * 20) -> dict[str, str]:
    return {f"workload-{index}": text for index in range(number)}


def spread(number: int) -> tuple[Maps, SpreadTexts]:
    """So many texts that were written."""
    api = Maps()
    texts = texts_on(api)
    texts.read()
    assert texts.write(many(number))
    api.written.clear()
    return api, texts


def held_by(api: Maps, name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(api.data[name][KEY])
    return found


def test_what_fits_stays_one_config_map_without_a_number():
    api, _ = spread(5)
    assert api.data == {"memory": {KEY: json.dumps(many(5), separators=(",", ":")), MAPS_KEY: "1"}}
    assert texts_on(api).read() == many(5)


def test_no_texts_make_no_config_map():
    api, texts = spread(0)
    assert api.data == {}
    assert texts.write(many(1))
    assert texts.write({})
    assert held_by(api, "memory") == {}


def test_beyond_that_it_is_spread_and_no_map_is_larger_than_the_limit():
    api, _ = spread(100)
    assert len(api.data) in (8, 16)
    assert api.data["memory"][MAPS_KEY] == str(len(api.data))
    assert all(len(data[KEY]) <= LIMIT for data in api.data.values())
    assert sum(len(json.loads(data[KEY])) for data in api.data.values()) == 100
    assert texts_on(api).read() == many(100)


def test_the_empty_name_lies_in_the_first():
    api, texts = spread(100)
    assert texts.write({**many(100), "": "first"})
    assert held_by(api, "memory")[""] == "first"


def test_what_one_map_held_before_is_read_and_moves_when_it_grows():
    old = many(10, "learned before")
    api = Maps({"memory": {KEY: json.dumps(old)}})
    texts = texts_on(api)
    assert texts.read() == old
    assert texts.write(old | {f"new-{index}": "x" * 20 for index in range(60)})
    again = texts_on(api).read() or {}
    assert {name: again[name] for name in old} == old
    assert len(again) == 70


def test_only_maps_whose_texts_changed_are_written():
    api, texts = spread(100)
    for reader in (texts, texts_on(api)):
        reader.read()
        api.written.clear()
        reader.write(many(100) | {"workload-7": f"news of {id(reader)}"})
        assert len(api.written) == 1
        assert "workload-7" in held_by(api, api.written[0])
        assert reader.written_bytes == len(api.data[api.written[0]][KEY])
        reader.write(many(100) | {"workload-7": f"news of {id(reader)}"})
        assert (len(api.written), reader.written_bytes) == (1, 0)


def test_a_text_stays_where_it_is_while_a_few_others_go():
    api, texts = spread(100)
    before = {name: held_by(api, name) for name in api.data}
    texts.write(many(80))
    after = {name: held_by(api, name) for name in api.data}
    assert before.keys() == after.keys()
    assert all(after[name].keys() <= before[name].keys() for name in before)


def test_maps_that_are_no_longer_needed_are_deleted():
    api, texts = spread(100)
    there = set(api.data)
    assert texts.write(many(20))
    assert set(api.deleted) == there - set(api.data)
    assert len(api.data) == 4 < len(there)
    assert texts_on(api).read() == many(20)
    assert texts.write(many(3))
    assert api.data == {"memory": {KEY: json.dumps(many(3), separators=(",", ":")), MAPS_KEY: "1"}}
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


def test_a_number_that_has_just_fallen_or_grown_stays():
    api, texts = spread(0)
    for number in range(100, 0, -1):
        texts.write(many(number))
        before = len(api.deleted)
        texts.write(many(number + 1))
        texts.write(many(number))
        assert len(api.deleted) == before


def test_where_nothing_may_be_deleted_the_maps_stay_and_what_is_written_is_read(
    caplog: pytest.LogCaptureFixture,
):
    api, texts = spread(100)
    api.kept = set(api.data)
    for text in ("new", "newer"):
        assert texts.write(many(3, text))
        assert texts_on(api).read() == many(3, text)
    assert set(api.data) == api.kept
    assert caplog.text.count("cannot delete ConfigMap") == 1


def test_the_most_maps_suffice_for_more_than_ten_thousand_kibibytes():
    assert len(map_names("memory")) == MOST_MAPS
    api = Maps()
    texts = texts_on(api, 1_000_000)
    texts.read()
    assert texts.write(many(10_000, "x" * 1024))
    assert all(len(data[KEY]) < 2**20 for data in api.data.values())
    assert len(texts_on(api).read() or {}) == 10_000


def test_what_has_no_room_in_the_most_maps_is_left_out_and_told_once(caplog: pytest.LogCaptureFixture):
    api, texts = spread(1000)
    assert len(api.data) == MOST_MAPS
    assert all(LIMIT * 0.8 < len(data[KEY]) <= LIMIT for data in api.data.values())
    kept = texts_on(api).read() or {}
    assert 150 < len(kept) < 1000
    assert texts.write(many(1000))
    assert api.written == [], "always the same are left out"
    told = f"ConfigMaps ns/memory: {MOST_MAPS} of them have no room for {1000 - len(kept)} texts more"
    assert caplog.text.count(told) == 1
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 20), st.integers(0, 20))
def test_a_write_that_breaks_off_anywhere_loses_nothing_and_can_be_repeated(
    first: int, second: int, left: int, left_again: int
):
    api, texts = spread(0)
    texts.write(many(first, "old"))
    for attempt in (left, left_again):
        api.left = attempt
        texts.write(many(second, "new and longer"))
        api.left = 10**9
        found = texts_on(api).read()
        assert found is not None
        assert all(found[name] in ("old", "new and longer") for name in many(min(first, second)))
        assert found.keys() <= many(max(first, second)).keys()
    assert texts.write(many(second, "new and longer"))
    assert texts_on(api).read() == many(second, "new and longer")


@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 30))
def test_whoever_follows_a_write_that_broke_off_goes_on_from_there(first: int, second: int, left: int):
    api, texts = spread(0)
    texts.write(many(first, "old"))
    api.left = left
    texts.write(many(second, "new and longer"))
    api.left = 10**9
    follower = texts_on(api)
    follower.read()
    assert follower.write(many(second, "newest"))
    assert texts_on(api).read() == many(second, "newest")


def test_nothing_is_known_while_the_api_server_is_away(caplog: pytest.LogCaptureFixture):
    api, _ = spread(100)
    texts, api.left = texts_on(api), -1
    assert texts.read() is None
    assert texts.read() is None
    assert caplog.text.count("cannot read ConfigMap ns/memory, nothing: the API server is away") == 1
    api.left = 0
    assert texts.read() == many(100)


@pytest.mark.parametrize("maps", ["", "x", "0", "3", "17", "²"])
def test_a_number_of_maps_that_makes_no_sense_is_told(maps: str, caplog: pytest.LogCaptureFixture):
    api, _ = spread(100)
    api.data["memory"][MAPS_KEY] = maps
    assert texts_on(api).read() == many(100)
    assert f"maps: got {maps!r}, expected a power of two from 1 to 16" in caplog.text


def test_a_map_that_is_broken_costs_only_its_own_texts(caplog: pytest.LogCaptureFixture):
    api, _ = spread(100)
    lost = held_by(api, "memory-1")
    api.data["memory-1"][KEY] = "no JSON"
    texts = texts_on(api)
    assert texts.read() == {name: text for name, text in many(100).items() if name not in lost}
    assert "ConfigMap ns/memory-1: " in caplog.text
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


@pytest.mark.parametrize("gone", ["memory", "memory-1", "memory-7"])
def test_a_map_that_is_gone_costs_only_its_own_texts_and_is_told(gone: str, caplog: pytest.LogCaptureFixture):
    api, _ = spread(100)
    lost = held_by(api, gone)
    del api.data[gone]
    texts = texts_on(api)
    assert texts.read() == {name: text for name, text in many(100).items() if name not in lost}
    assert caplog.text.count(f"ConfigMap ns/{gone}: it is gone, and what it held is lost") == 1
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


def test_a_map_that_was_deleted_since_it_was_written_comes_back_when_all_are_written():
    api, texts = spread(100)
    del api.data["memory-1"]
    texts.write(many(100))
    assert "memory-1" not in api.data
    texts.forget_written()
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


def test_a_map_that_may_not_be_read_is_not_written_before_it_was(caplog: pytest.LogCaptureFixture):
    api, _ = spread(100)
    unknown = held_by(api, "memory-1")
    texts, api.refused = texts_on(api), {"memory-1"}
    assert texts.read() == {name: text for name, text in many(100).items() if name not in unknown}
    assert not texts.complete
    assert {name for name in many(100) if texts.unread(name)} == unknown.keys()
    assert "cannot read ConfigMap ns/memory-1, nothing" in caplog.text
    assert texts.read_rest() == {}
    assert texts.write(many(300, "new")), "what may be written is"
    api.refused = set()
    assert held_by(api, "memory-1") == unknown
    others = [name for name in api.data if name != "memory-1"]
    assert all(set(held_by(api, name).values()) == {"new"} for name in others)
    assert texts.read_rest() == unknown
    assert texts.complete
    assert texts.write(many(100, "newer"))
    assert texts_on(api).read() == many(100, "newer")


def test_a_map_that_may_not_be_written_stops_no_other(caplog: pytest.LogCaptureFixture):
    api, texts = spread(100)
    api.refused = {"memory-1"}
    assert not texts.write(many(100, "new"))
    assert not texts.write(many(100, "new"))
    api.refused = set()
    assert len(api.written) == len(api.data) - 1
    assert caplog.text.count("cannot write ConfigMap ns/memory-1, nothing") == 1
    assert texts.write(many(100, "new"))
    assert api.written[-1] == "memory-1"
    assert texts_on(api).read() == many(100, "new")


def test_maps_that_may_not_be_made_leave_those_there_are_as_they_were():
    api, texts = spread(5)
    api.refused = set(map_names("memory")) - {"memory"}
    assert not texts.write(many(100))
    assert (api.written, texts_on(api).read()) == ([], many(5))


def test_turns_go_round_all_maps_and_are_as_large_as_asked_for():
    api, texts = spread(100)
    size = {name: len(data[KEY]) for name, data in api.data.items()}
    seen: list[str] = []
    current = many(100)
    for turn in range(len(api.data)):
        in_turn = texts.next_in_turn(2 * max(size.values()))
        mine = [name for name in many(100) if in_turn(name)]
        seen += mine
        assert len(mine) <= 3 * LIMIT / len('"workload-10":"xxxxxxxxxxxxxxxxxxxx",')
        current |= dict.fromkeys(mine, f"{turn:020}")
        assert texts.write(current)
        assert 2 * max(size.values()) <= texts.written_bytes <= 3 * max(size.values())
    assert {*seen} == many(100).keys()
    counts = [seen.count(name) for name in many(100)]
    assert max(counts) - min(counts) <= 1
    everything = texts.next_in_turn(10**9)
    assert all(everything(name) for name in many(100))


def test_the_controller_may_write_and_delete_all_maps_of_what_it_keeps():
    roles = [one for one in yaml.safe_load_all(RBAC.read_text()) if one["kind"] == "Role"]
    (role,) = (one for one in roles if one["metadata"]["name"] == "slicewise-autoscaler-memory")
    (named,) = (rule for rule in role["rules"] if "resourceNames" in rule)
    kept = (learned_store.CONFIG_MAP, batch_memory.CONFIG_MAP, workload_page.CONFIG_MAP)
    assert set(named["resourceNames"]) == {one for name in kept for one in map_names(name)}
    assert {"get", "patch", "delete"} <= set(named["verbs"])
