"""The virtual driver's orders of MIG placements: told by ConfigMap, or fixed."""

from cluster.wire import ConfigMap
from deploy.demo.placement_orders import ByWorth, Fixed
from dra.catalog import models
from dra.device_order import CONFIG_MAP, KEY, device_order, order_table, render_tables
from dra.resource_api import ObjectMeta
from scheduler.packing.mig_values import mask_values

H100 = models()["H100-80GB"]
TABLE = order_table(mask_values(H100, {"1g.10gb": 35.0, "3g.40gb": 25.0, "7g.80gb": 5.0}).tolist())


def config_map(text, name=CONFIG_MAP):
    return ConfigMap(metadata=ObjectMeta(name=name), data={KEY: text})


def test_without_a_table_the_order_does_least_harm():
    assert ByWorth().order(H100, 1) == device_order(H100, 1, None)


def test_new_tables_are_used_and_told():
    book, told = ByWorth(), []
    book.renewed = lambda: told.append(True)
    book.changed("ADDED", config_map(render_tables({H100.name: TABLE})))
    assert told == [True]
    assert book.order(H100, 1) == device_order(H100, 1, TABLE)
    assert book.holds(H100, 1, device_order(H100, 1, TABLE))


def test_nonsense_another_object_and_a_deletion_leave_the_order_as_it_is():
    book = ByWorth()
    book.replaced([config_map(render_tables({H100.name: TABLE}))])
    book.changed("MODIFIED", config_map("{"))
    book.changed("MODIFIED", config_map(render_tables({}), name="another"))
    book.changed("DELETED", config_map(""))
    assert book.order(H100, 0) == device_order(H100, 0, TABLE)


def test_fixed_orders_go_by_start_and_always_hold():
    for direction, first in (("ascending", 0), ("descending", 6)):
        order = Fixed(direction).order(H100, 0b1)
        assert next(p.start for p in order if p.profile == "1g.10gb") == first
        assert Fixed(direction).holds(H100, 0xFF, order)
