"""The virtual driver publishes a slice anew exactly when first-fit would otherwise take another device."""

import msgspec
import pytest

from deploy.demo.fleet import ZONES, DemoNode, Shape
from deploy.demo.placement_orders import ByWorth, Fixed
from deploy.demo.virtual_driver import VirtualDriver
from dra.catalog import models
from dra.mig import geometry
from dra.node_order import Runs, run_holds
from dra.resource_api import ResourceClaim
from tests.polling import until

SHAPE = Shape("h100", 1, "g", "H100-80GB", "NVIDIA-H100-80GB-HBM3", 2, True, "nvswitch", 64, 512)


class Server:
    """Stands for the API server: keeps what is patched."""

    def __init__(self):
        self.patched = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def request(self, method, path, body, content_type=""):
        if method == "PATCH":
            self.patched.append([device["name"] for device in body["spec"]["devices"]])


def claim(device, uid="c"):
    results = [{"request": "r", "driver": "gpu.slicewise.io", "pool": "h100-1", "device": device}]
    return msgspec.convert(
        {
            "metadata": {"name": uid, "namespace": "d", "uid": uid},
            "status": {"allocation": {"devices": {"results": results}}},
        },
        ResourceClaim,
    )


@pytest.fixture
def driver_of():
    made = []

    def make(order):
        server = Server()
        driver = VirtualDriver(lambda: server, [DemoNode("h100-1", ZONES[0], SHAPE)], "slicewise", {}, order)
        driver.publish()
        driver.start()
        made.append(driver)
        return driver, server

    yield make
    for driver in made:
        driver.stop()


H100 = models()["H100-80GB"]
MODELS = dict.fromkeys(range(2), H100)


def device(placement, gpu=0):
    return f"gpu-{gpu}-{placement.profile.replace('.', '').replace('+', '-')}-{placement.start}"


def runs_at(mask):
    return {run[0][1].profile: run for run in Runs().now(MODELS, {0: mask, 1: 0}, {})}


def test_only_profiles_whose_order_is_spoilt_are_published_anew(driver_of):
    driver, server = driver_of(ByWorth())
    before = runs_at(0)
    for taken in geometry(H100).placements:
        masks, after = {0: taken.bits, 1: 0}, runs_at(taken.bits)
        spoilt = [name for name, run in before.items() if not run_holds(run, after[name], masks)]
        if 0 < len(spoilt) < len(before):
            break
    assert 0 < len(spoilt) < len(before)
    driver.changed("ADDED", claim(device(taken)))
    until(lambda: len(server.patched) == len(spoilt), 5.0, "the slices that are spoilt")
    driver.stop()
    assert server.patched == [[device(p, gpu) for gpu, p in after[name]] for name in spoilt]
    assert driver.masks() == {"h100-1": (taken.bits, 0)}
    assert not driver.problems


def test_what_changes_no_first_choice_is_not_published(driver_of):
    driver, server = driver_of(ByWorth())
    driver.changed("ADDED", claim("gpu-1-1g10gb-0"))  # without a table the first GPU comes first
    driver.stop()
    assert server.patched == []
    assert driver.masks() == {"h100-1": (0, 1)}


def test_a_fixed_order_is_never_published_anew(driver_of):
    driver, server = driver_of(Fixed("descending"))
    driver.changed("ADDED", claim("gpu-0-3g40gb-4"))
    driver.stop()
    assert server.patched == []
    assert driver.masks() == {"h100-1": (0b11110000, 0)}
