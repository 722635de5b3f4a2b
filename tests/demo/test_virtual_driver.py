"""The virtual driver publishes a GPU anew exactly when first-fit would otherwise take another device."""

import threading

import msgspec
import pytest

from deploy.demo.fleet import ZONES, DemoNode, Shape
from deploy.demo.placement_orders import ByWorth, Fixed
from deploy.demo.virtual_driver import VirtualDriver
from dra.catalog import models
from dra.device_order import device_order, order_holds
from dra.resource_api import ResourceClaim

SHAPE = Shape("h100", 1, "g", "H100-80GB", "NVIDIA-H100-80GB-HBM3", 2, True, "nvswitch", 64, 512)


class Server:
    """Stands for the API server: keeps what is patched."""

    def __init__(self):
        self.patched, self.came = [], threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def request(self, method, path, body, content_type=""):
        if method == "PATCH":
            self.patched.append([device["name"] for device in body["spec"]["devices"]])
            self.came.set()


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
EMPTY = device_order(H100, 0, None)


def place(holds):
    """The first place of the order that, once taken, leaves the published order good, or spoils it."""
    return next(p for p in EMPTY if order_holds(H100, p.bits, EMPTY, None) == holds)


def device(placement, gpu=0):
    return f"gpu-{gpu}-{placement.profile.replace('.', '').replace('+', '-')}-{placement.start}"


def test_a_gpu_whose_order_is_spoilt_is_published_anew(driver_of):
    driver, server = driver_of(ByWorth())
    taken = place(holds=False)
    driver.changed("ADDED", claim(device(taken)))
    assert server.came.wait(5.0)
    (names,) = server.patched
    assert names[:-1] == [device(p) for p in device_order(H100, taken.bits, None)]
    assert driver.masks() == {"h100-1": (taken.bits, 0)}
    assert not driver.problems


def test_a_gpu_whose_order_still_holds_is_left_alone(driver_of):
    driver, server = driver_of(ByWorth())
    driver.changed("ADDED", claim(device(place(holds=True))))
    driver.changed("ADDED", claim(device(place(holds=False), gpu=1), uid="d"))
    assert server.came.wait(5.0)
    assert [names[0].split("-")[1] for names in server.patched] == ["1"]


def test_a_fixed_order_is_never_published_anew(driver_of):
    driver, server = driver_of(Fixed("descending"))
    driver.changed("ADDED", claim("gpu-0-3g40gb-4"))
    driver.stop()
    assert server.patched == []
    assert driver.masks() == {"h100-1": (0b11110000, 0)}
