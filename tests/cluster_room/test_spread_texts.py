"""Texts spread over ConfigMaps: where each lies, what is written, and that a broken-off write loses none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.learned_store import CONFIG_MAP
from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.client import Api
from cluster.spread_texts import MAPS_KEY, MOST_MAPS, SpreadTexts, map_names
from cluster.wire import ConfigMap

RBAC = Path(__file__).parents[2] / "deploy" / "manifests" / "rbac.yaml"
KEY = "texts.json"
LIMIT = 500


class Maps:
    """An API server with ConfigMaps; after ``left`` more writes it is away."""

    def __init__(self, data: dict[str, dict[str, str]] | None = None) -> None:
        self.data = data or {}
        self.written: list[str] = []
        self.left = 10**9

    def get(self, path: str, kind: type[ConfigMap]) -> ConfigMap:
        if self.left < 0:
            raise ApiUnreachable("the API server is away")
        name = path.rpartition("/")[2]
        if name not in self.data:
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        return ConfigMap(data=self.data[name])

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        name = path.rpartition("/")[2]
        if name not in self.data:
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        self._write(name, {**self.data[name], **body["data"]})

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        self._write(body["metadata"]["name"], body["data"])

    def _write(self, name: str, data: Mapping[str, str]) -> None:
        self.left -= 1
        if self.left < 0:
            raise ApiUnreachable("the API server is away")
        self.data[name] = dict(data)
        self.written.append(name)


def texts_on(api: Maps) -> SpreadTexts:
    return SpreadTexts(cast(Api, api), "ns", "memory", KEY, "a-test", "nothing", limit_bytes=LIMIT)


def many(number: int, text: str = "x" * 20) -> dict[str, str]:
    return {f"workload-{index}": text for index in range(number)}


def test_what_fits_stays_one_config_map_without_a_number():
    api = Maps()
    texts = texts_on(api)
    assert texts.read() == {}
    assert texts.write(many(5))
    assert api.data == {"memory": {KEY: json.dumps(many(5), separators=(",", ":"))}}
    assert texts_on(api).read() == many(5)


def test_beyond_that_it_is_spread_and_no_map_is_larger_than_the_limit():
    api = Maps()
    texts = texts_on(api)
    texts.read()
    assert texts.write(many(100))
    assert len(api.data) in (8, 16)
    assert api.data["memory"][MAPS_KEY] == str(len(api.data))
    assert all(len(data[KEY]) <= LIMIT for data in api.data.values())
    assert sum(len(json.loads(data[KEY])) for data in api.data.values()) == 100
    assert texts_on(api).read() == many(100)


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
    api = Maps()
    texts = texts_on(api)
    texts.read()
    texts.write(many(100))
    for reader in (texts, texts_on(api)):
        reader.read()
        api.written.clear()
        reader.write(many(100) | {"workload-7": f"news of {id(reader)}"})
        assert len(api.written) == 1
        assert "workload-7" in json.loads(api.data[api.written[0]][KEY])


def test_a_text_stays_where_it_is_while_others_come_and_go():
    api = Maps()
    texts = texts_on(api)
    texts.read()
    texts.write(many(100))
    before = {name: json.loads(data[KEY]) for name, data in api.data.items()}
    texts.write(many(50))
    after = {name: json.loads(data[KEY]) for name, data in api.data.items()}
    assert before.keys() == after.keys()
    assert all(after[name].keys() <= before[name].keys() for name in before)


def test_the_most_maps_suffice_for_more_than_ten_thousand_kibibytes():
    assert len(map_names("memory")) == MOST_MAPS
    api = Maps()
    texts = SpreadTexts(cast(Api, api), "ns", "memory", KEY, "a-test", "nothing")
    texts.read()
    assert texts.write(many(10_000, "x" * 1024))
    assert all(len(data[KEY]) < 2**20 for data in api.data.values())
    assert len(texts_on(api).read() or {}) == 10_000


@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 20), st.integers(0, 20))
def test_a_write_that_breaks_off_anywhere_loses_nothing_and_can_be_repeated(
    first: int, second: int, left: int, left_again: int
):
    api = Maps()
    texts = texts_on(api)
    texts.read()
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


def test_nothing_is_known_while_one_of_the_maps_cannot_be_read(caplog: pytest.LogCaptureFixture):
    api = Maps()
    texts_on(api).write(many(100))
    texts, api.left = texts_on(api), -1
    assert texts.read() is None
    assert texts.read() is None
    assert caplog.text.count("cannot read ConfigMap ns/memory, nothing: the API server is away") == 1
    api.left = 0
    assert texts.read() == many(100)


@pytest.mark.parametrize("maps", ["", "x", "0", "17", "²"])
def test_a_number_of_maps_that_makes_no_sense_is_told(maps: str, caplog: pytest.LogCaptureFixture):
    api = Maps({"memory": {KEY: '{"a":"b"}', MAPS_KEY: maps}})
    assert texts_on(api).read() == {"a": "b"}
    assert f"maps: got {maps!r}, expected a number of ConfigMaps from 1 to 16" in caplog.text


def test_a_map_that_is_broken_costs_only_its_own_texts(caplog: pytest.LogCaptureFixture):
    api = Maps()
    texts_on(api).write(many(100))
    lost = json.loads(api.data["memory-1"][KEY])
    api.data["memory-1"][KEY] = "no JSON"
    texts = texts_on(api)
    assert texts.read() == {name: text for name, text in many(100).items() if name not in lost}
    assert "ConfigMap ns/memory-1: " in caplog.text
    assert texts.write(many(100))
    assert texts_on(api).read() == many(100)


def test_the_controller_may_write_all_maps_of_its_memory():
    roles = [one for one in yaml.safe_load_all(RBAC.read_text()) if one["kind"] == "Role"]
    (role,) = (one for one in roles if one["metadata"]["name"] == "slicewise-autoscaler-memory")
    (named,) = (rule for rule in role["rules"] if "resourceNames" in rule)
    assert set(map_names(CONFIG_MAP)) <= set(named["resourceNames"])
    assert {"get", "patch"} <= set(named["verbs"])
