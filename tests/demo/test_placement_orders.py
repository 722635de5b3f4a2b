"""The virtual driver's orders of MIG placements: told by ConfigMap, or fixed."""

from cluster.wire import ConfigMap
from deploy.demo.placement_orders import ByWorth, Fixed, Published
from dra.catalog import models
from dra.device_order import CONFIG_MAP, KEY, order_table, render_tables
from dra.inventory import Gpu
from dra.node_order import Runs
from dra.resource_api import ObjectMeta
from scheduler.packing.mig_values import mask_values

H100 = models()["H100-80GB"]
TABLE = order_table(mask_values(H100, {"1g.10gb": 35.0, "3g.40gb": 25.0, "7g.80gb": 5.0}).tolist())


GPUS = tuple(Gpu(i, f"GPU-{i}", H100, True) for i in range(2))


def best(masks, tables):
    models = {gpu.index: gpu.model for gpu in GPUS}
    return Published(runs=tuple(Runs().now(models, dict(enumerate(masks)), tables)))


def config_map(text, name=CONFIG_MAP):
    return ConfigMap(metadata=ObjectMeta(name=name), data={KEY: text})


def test_without_a_table_the_order_does_least_harm():
    assert ByWorth().of("n", GPUS, (1, 0)) == best((1, 0), {})


def test_new_tables_are_used_and_told():
    book, told = ByWorth(), []
    book.renewed = lambda: told.append(True)
    book.changed("ADDED", config_map(render_tables({H100.name: TABLE})))
    assert told == [True]
    assert book.of("n", GPUS, (1, 0)) == best((1, 0), {H100.name: TABLE}) != best((1, 0), {})


def test_nonsense_another_object_and_a_deletion_leave_the_order_as_it_is():
    book = ByWorth()
    book.replaced([config_map(render_tables({H100.name: TABLE}))])
    book.changed("MODIFIED", config_map("{"))
    book.changed("MODIFIED", config_map(render_tables({}), name="another"))
    book.changed("DELETED", config_map(""))
    assert book.of("n", GPUS, (0, 0)) == best((0, 0), {H100.name: TABLE})


def test_nodes_are_apart():
    book = ByWorth()
    first = book.of("n", GPUS, (1, 0))
    book.of("m", GPUS, (0, 1 << 6))
    assert book.of("n", GPUS, (1, 0)) == first


def test_fixed_orders_go_by_start_whatever_is_occupied():
    for direction, first in (("ascending", 0), ("descending", 6)):
        found = Fixed(direction).of("n", GPUS, (1, 0))
        assert found.runs is None
        for order in found.orders:
            assert next(p.start for p in order if p.profile == "1g.10gb") == first
        assert Fixed(direction).of("n", GPUS, (0xFF, 0)) == found
