"""Claims are read as GPU demand only where they are understood; allocations become occupied units."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.claims import DeviceRequest, claim_masks, claim_requests, occupancy
from dra.resource_api import ResourceClaim, ResourceClaimSpec
from tests.dra.fleet_of_one import cel, claim, classes, exactly, node, nvidias, our_mig, ours, read_back

N = "device.attributes['gpu.nvidia.com']"
S = "device.attributes['gpu.slicewise.io']"


def read(device_claim, known=None):
    return claim_requests(ResourceClaimSpec(devices=device_claim), classes() if known is None else known)


def allocated(*devices, pool="n1", driver="gpu.slicewise.io", **fields):
    results = [{"request": "r", "driver": driver, "pool": pool, "device": d, **fields} for d in devices]
    return msgspec.convert({"status": {"allocation": {"devices": {"results": results}}}}, ResourceClaim)


@pytest.mark.parametrize("known", [None, {}], ids=["class objects", "class names alone"])
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("gpu.nvidia.com", DeviceRequest(None, True, 1, None, True)),
        ("gpu.slicewise.io", DeviceRequest(None, True, 1, None, True)),
        (exactly("gpu.slicewise.io", count=4), DeviceRequest(None, True, 4, None, True)),
        ("mig-1g.10gb.slicewise.io", DeviceRequest("1g.10gb", False, 1, None, True)),
        ("mig-1g.10gb.me.slicewise.io", DeviceRequest("1g.10gb+me", False, 1, None, True)),
        (
            exactly("mig.nvidia.com", selectors=cel(f"{N}.profile == '1g.5gb'")),
            DeviceRequest("1g.5gb", False, 1, None, True),
        ),
        (
            exactly("mig.nvidia.com", selectors=cel(f"'profile' in {N} && '2g.10gb' == {N}['profile']")),
            DeviceRequest("2g.10gb", False, 1, None, True),
        ),
        (
            exactly("gpu.slicewise.io", selectors=cel(f"{S}.model == 'H100-80GB'")),
            DeviceRequest(None, True, 1, "H100-80GB", True),
        ),
        (
            exactly("gpu.nvidia.com", selectors=cel(f"{N}.productName in ['NVIDIA A100-SXM4-80GB']")),
            DeviceRequest(None, True, 1, "A100-80GB", True),
        ),
    ],
)
def test_the_usual_forms_are_understood(request_, expected, known):
    assert read(claim(request_), known) == (expected,)


@pytest.mark.parametrize(
    "request_",
    [
        "mig.nvidia.com",
        "unknown-class",
        exactly(
            "gpu.nvidia.com", selectors=cel("device.capacity['x'].memory.isGreaterThan(quantity('1Gi'))")
        ),
        exactly("gpu.nvidia.com", selectors=cel(f"{N}.type == 'gpu' || true")),
        exactly("gpu.nvidia.com", selectors=cel(f"{N}.productName == 'Radeon'")),
        exactly("gpu.nvidia.com", selectors=cel("device.?x")),
        exactly("gpu.nvidia.com", selectors=cel(f"{N}.type == 'mig'")),
        exactly("gpu.nvidia.com", selectors=cel("device.driver == 'gpu.slicewise.io'")),
        exactly("gpu.nvidia.com", allocationMode="All"),
        exactly("gpu.nvidia.com", capacity={"requests": {"memory": "1Gi"}}),
        {"firstAvailable": [{"name": "a", "deviceClassName": "gpu.nvidia.com"}]},
    ],
)
def test_anything_else_is_not_understood_and_not_guessed(request_):
    (found,) = read(claim(request_))
    assert not found.understood
    assert found.profile is None
    assert not found.whole


def test_admin_access_and_devices_of_other_drivers_take_no_gpu():
    nic = exactly("gpu.nvidia.com", adminAccess=True)
    assert read(claim(nic)) == (DeviceRequest(None, False, 0, None, True),)
    expression = "device.driver == 'dra.net'"
    known = {
        "nic": msgspec.convert({"spec": {"selectors": cel(expression)}}, type(classes()["gpu.nvidia.com"]))
    }
    assert read(claim("nic"), known) == (DeviceRequest(None, False, 1, None, True),)


def test_a_constraint_is_noted_on_the_requests_that_it_ties():
    tied = claim(
        "gpu.nvidia.com",
        "gpu.nvidia.com",
        constraints=[{"requests": ["r1"], "matchAttribute": "gpu.nvidia.com/uuid"}],
    )
    assert [r.constrained for r in read(tied)] == [False, True]
    every = claim("gpu.nvidia.com", constraints=[{"matchAttribute": "gpu.nvidia.com/uuid"}])
    assert [r.constrained for r in read(every)] == [True]


def test_allocated_devices_occupy_their_units():
    inventories = {name: read_back(ours(node(name)), name) for name in ("n1", "n2")}
    held = [
        allocated("gpu-0-1g5gb-6", "gpu-0-3g20gb-0"),
        allocated("gpu-1", pool="n2"),
        allocated("gpu-1-4g20gb-0"),
        allocated("gpu-1", driver="gpu.nvidia.com"),
        allocated("gpu-1-1g5gb-6", adminAccess=True),
        allocated("gpu-9"),
        ResourceClaim(),
    ]
    assert occupancy(held, inventories) == {"n1": (0b01001111, 0b00001111), "n2": (0, 0xFF)}
    assert claim_masks(held[0], inventories["n1"]) == (0b01001111, 0)
    assert claim_masks(held[1], inventories["n1"]) == (0, 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 51), max_size=8), st.booleans())
def test_occupancy_is_the_union_of_the_devices_and_never_exceeds_the_gpu(picks, as_nvidia):
    inventory = read_back(nvidias(node()) if as_nvidia else ours(node()))
    names = list(inventory.devices)
    chosen = [names[i] for i in picks]
    masks = claim_masks(allocated(*chosen, driver=inventory.driver), inventory)
    expected = [0, 0]
    for name in chosen:
        ref = inventory.devices[name]
        expected[ref.gpu] |= inventory.whole_mask(ref.gpu) if ref.placement is None else ref.placement.bits
    assert masks == tuple(expected)
    assert all(mask <= 0xFF for mask in masks)


def test_our_profile_helper_matches_the_published_class():
    assert read(our_mig("3g.20gb"))[0].profile == "3g.20gb"
