"""The writer of the device order: once, only for a change that some pod could tell, never blind."""

import json

import pytest

from autoscaler.device_order import DeviceOrderWriter
from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.wire import ConfigMap
from dra.catalog import models
from dra.device_order import CONFIG_MAP, KEY, order_table, parse_tables, render_tables
from scheduler.packing.mig_values import mask_values
from scheduler.packing.prices import PriceTables

H100 = models()["H100-80GB"]
REST = mask_values(H100, {"1g.10gb": 35.0, "3g.40gb": 25.0, "7g.80gb": 5.0})
OTHER = mask_values(H100, {"4g.40gb": 25.0, "3g.40gb": 5.0})
PATH = f"/api/v1/namespaces/slicewise-system/configmaps/{CONFIG_MAP}"


class ApiStandIn:
    """Holds one ConfigMap and counts what is asked of it."""

    def __init__(self, text=None):
        self.text, self.calls, self.down = text, [], False

    def _enter(self, call):
        self.calls.append(call)
        if self.down:
            raise ApiUnreachable("the API server is away")

    def get(self, path, kind):
        self._enter("get")
        if self.text is None:
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        assert (path, kind) == (PATH, ConfigMap)
        return ConfigMap(data={KEY: self.text})

    def patch(self, path, body):
        self._enter("patch")
        if self.text is None:
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        self.text = body["data"][KEY]

    def post(self, path, body):
        self._enter("post")
        assert body["metadata"]["name"] == CONFIG_MAP
        self.text = body["data"][KEY]


class Told:
    def __init__(self):
        self.changes, self.problems = [], []

    def written(self, changed):
        self.changes.append(changed)

    def refused(self, problem):
        self.problems.append(problem)


@pytest.fixture
def scene():
    return Scene()


class Scene:
    def __init__(self):
        self.api, self.told, self.leads = ApiStandIn(), Told(), True
        self.shown = PriceTables(version=1, mig={H100.name: REST})
        self.writer = DeviceOrderWriter(
            self.api,
            "slicewise-system",
            lambda: self.shown,
            active=lambda: self.leads,
            observer=self.told,
        )

    def show(self, worth, *asked):
        told = {H100.name: frozenset(asked)} if asked else {}
        self.shown = PriceTables(version=self.shown.version + 1, mig={H100.name: worth}, mig_asked=told)


def test_the_first_order_creates_the_config_map(scene):
    scene.writer.turn()
    assert scene.api.calls == ["get", "patch", "post"]
    assert parse_tables(scene.api.text) == {H100.name: order_table(REST.tolist())}
    assert scene.told.changes == [(H100.name,)]


def test_tables_that_order_alike_are_not_written_again(scene):
    scene.writer.turn()
    scene.show(3.0 * REST)
    scene.writer.turn()
    assert scene.api.calls.count("patch") == 1


def test_a_profile_that_is_newly_expected_is_told_and_one_that_is_no_longer_waits(scene):
    for asked in (["1g.10gb"], ["1g.10gb", "3g.40gb"], ["3g.40gb"]):
        scene.show(REST, *asked)
        scene.writer.turn()
    assert scene.told.changes == [(H100.name,)] * 2
    assert parse_tables(scene.api.text)[H100.name].expected == {"1g.10gb", "3g.40gb"}


def test_a_new_order_is_written_over_the_old_one(scene):
    scene.writer.turn()
    scene.show(OTHER)
    scene.writer.turn()
    assert scene.told.changes == [(H100.name,)] * 2
    assert parse_tables(scene.api.text) == {H100.name: order_table(OTHER.tolist())}


def test_an_order_that_is_there_already_is_not_written(scene):
    scene.api.text = render_tables({H100.name: order_table(REST.tolist())})
    scene.writer.turn()
    assert scene.api.calls == ["get"]


def test_other_models_keep_what_they_were_told(scene):
    scene.api.text = render_tables({"A100-80GB": order_table(OTHER.tolist())})
    scene.writer.turn()
    assert set(parse_tables(scene.api.text)) == {"A100-80GB", H100.name}


def test_nonsense_in_the_config_map_is_written_over(scene):
    scene.api.text = json.dumps({"version": 99})
    scene.writer.turn()
    assert set(parse_tables(scene.api.text)) == {H100.name}


def test_only_the_leader_writes(scene):
    scene.leads = False
    scene.writer.turn()
    assert scene.api.calls == []


def test_after_an_outage_it_looks_before_it_writes(scene):
    scene.writer.turn()
    scene.show(OTHER)
    scene.api.down = True
    scene.writer.turn()
    assert scene.told.problems == ["the API server is away"]
    scene.api.down = False
    scene.api.calls.clear()
    scene.writer.turn()
    assert scene.api.calls == ["get", "patch"]
    assert scene.told.changes == [(H100.name,)] * 2
