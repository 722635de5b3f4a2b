"""The device order through the API server, each side with the rights of its own account."""

import itertools

import pytest

from autoscaler.device_order import DeviceOrderWriter
from cluster.api_errors import ApiRefused
from cluster.client import Api
from deploy.demo.placement_orders import ByWorth, order_reflector
from dra.catalog import models
from dra.device_order import CONFIG_MAP, order_table
from dra.inventory import Gpu
from dra.node_order import Runs
from scheduler.packing.mig_values import mask_values
from scheduler.packing.prices import PriceTables
from tests.polling import SOON_SECONDS, until

H100 = models()["H100-80GB"]
WORTH = mask_values(H100, {"1g.10gb": 35.0, "3g.40gb": 25.0, "7g.80gb": 5.0})
NAMESPACE = "slicewise-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"


class Silent:
    def written(self, changed):
        self.changed = changed

    def refused(self, problem):
        raise AssertionError(problem)


@pytest.fixture
def account(control_plane):
    open_ones = []

    def connect(name):
        open_ones.append(Api.connect(str(control_plane.kubeconfig_for(name))))
        return open_ones[-1]

    yield connect
    for api in open_ones:
        api.close()


def test_what_the_controller_writes_reaches_the_driver(control_plane, account):
    control_plane.request("DELETE", PATH, accepted=(200, 404))  # of a controller of an earlier test
    book = ByWorth()
    watch = order_reflector(account("slicewise-node"), NAMESPACE, book)
    watch.start()
    try:
        assert watch.synced.wait(SOON_SECONDS)
        tables = PriceTables(version=1, mig={H100.name: WORTH})
        writer = DeviceOrderWriter(
            account("slicewise-controller"), NAMESPACE, lambda: tables, active=lambda: True, observer=Silent()
        )
        writer.turn()
        told_tables = {H100.name: order_table(WORTH.tolist())}
        gpus = [Gpu(0, "GPU-0", H100, True)]
        # A node's order is read anew for each look, hence its own names.
        for mask in (0, 0b1, 0b11110000):
            expected = tuple(Runs().now({0: H100}, {0: mask}, told_tables))
            looks = itertools.count()
            until(
                lambda mask=mask, expected=expected, looks=looks: (
                    book.of(f"node-{mask}-{next(looks)}", gpus, (mask,)).runs == expected
                ),
                10.0,
                f"the order with {mask:#b} taken",
            )
    finally:
        watch.stop()
        control_plane.request("DELETE", PATH, accepted=(200, 404))


def test_the_driver_may_not_write_the_order(account):
    with pytest.raises(ApiRefused) as refused:
        account("slicewise-node").patch(PATH, {"data": {}})
    assert refused.value.status == 403
