"""Device selectors evaluate as CEL does in the scheduler, or are refused by name."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.cel import CelUnsupported, parse
from dra.cel_eval import device_matches
from dra.cel_values import CelError, Semver
from dra.resource_api import Device

DEVICE = msgspec.convert(
    {
        "name": "gpu-0",
        "attributes": {
            "type": {"string": "gpu"},
            "productName": {"string": "NVIDIA A100-SXM4-80GB"},
            "index": {"int": 3},
            "healthy": {"bool": True},
            "driverVersion": {"version": "580.65.6"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:01"},
        },
        "capacity": {"memory": {"value": "80Gi"}},
    },
    Device,
)
A = "device.attributes['gpu.nvidia.com']"


def matches(expression):
    return device_matches(expression, "gpu.nvidia.com", DEVICE)


@pytest.mark.parametrize(
    "expression",
    [
        "device.driver == 'gpu.nvidia.com'",
        f"{A}.type == 'gpu' && {A}[\"index\"] == 3",
        f"{A}.healthy",
        f"!({A}.index < 3) || false",
        f"'type' in {A} && !('nothing' in {A})",
        f"has({A}.type) && !has({A}.nothing)",
        f"{A}.productName.lowerAscii().matches('^.*a100.*$')",
        f"{A}.productName.startsWith('NVIDIA') && {A}.productName.contains('SXM4')",
        f"{A}.type in ['gpu', 'mig']",
        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0",
        "device.capacity['gpu.nvidia.com'].memory.isGreaterThan(quantity('79Gi'))",
        "device.capacity['gpu.nvidia.com'].memory == quantity('81920Mi')",
        f"{A}.driverVersion.compareTo(semver('580.0.0')) > 0",
        f"{A}.driverVersion.major() == 580",
        "device.attributes['resource.kubernetes.io'].pcieRoot == 'pci0000:01'",
        "size(device.attributes['unknown.example']) == 0",
        f"cel.bind(a, {A}, a.type == 'gpu' && a.index == 3)",
        f"{A}.index % 2 == 1 ? true : false",
        f"{A}.index - 1 + 2 * 3 == 8",
        f"['x', 'gpu'].exists(t, t == {A}.type)",
        "!device.allowMultipleAllocations",
        f"{A}.index == 3.0",
        f"{A}.index != '3' // another type is not equal",
        r"""'a\'b' == "a'b" && r'\d' == '\\d'""",
        "-7 / 2 == -3 && -7 % 2 == -1",
    ],
)
def test_selectors_that_hold(expression):
    assert matches(expression)


@pytest.mark.parametrize(
    "expression",
    [
        f"{A}.type == 'mig'",
        f"{A}.healthy == 1",
        "'type' in device.attributes['unknown.example']",
        f"{A}.driverVersion.isLessThan(semver('580.65.6'))",
    ],
)
def test_selectors_that_do_not_hold(expression):
    assert not matches(expression)


@pytest.mark.parametrize(
    "expression",
    [
        f"{A}.nothing == 'x'",
        "device.attributes['unknown.example'].type == 'gpu'",
        f"{A}.index",
        f"{A}.type < 3",
        f"{A}.type && true",
        "1 / 0 == 1",
        "quantity('many') == quantity('1')",
        f"{A}.nothing == 'x' && true",
    ],
)
def test_what_fails_in_cel_is_an_error(expression):
    with pytest.raises(CelError):
        matches(expression)


def test_and_and_or_absorb_an_error_when_the_other_side_decides():
    broken = f"{A}.nothing == 'x'"
    assert matches(f"{broken} || true")
    assert matches(f"true || {broken}")
    assert not matches(f"{broken} && false")
    assert not matches(f"false && {broken}")


@pytest.mark.parametrize(
    "expression",
    [
        "device.?attributes == 1",
        "{'a': 1}.a == 1",
        f"{A}.type.replace('g', 'c') == 'cpu'",
        f"{A}.type.matches('(?P<x>g)pu')",
        "math.greatest(1, 2) == 2",
        "request.x == 1",
        "1u == 1u",
        "0x10 == 16",
        "'''a''' == 'a'",
        "device.driver ==",
        "(((",
        "",
        "(" * 500 + "true" + ")" * 500,
        "!" * 500 + "true",
        " && ".join(["true"] * 1000),
        "device" + ".driver" * 1000,
    ],
)
def test_what_is_outside_the_subset_is_refused_and_never_guessed(expression):
    with pytest.raises(CelUnsupported):
        matches(expression)


def test_a_list_attribute_is_an_error_as_with_default_gates():
    device = msgspec.convert({"attributes": {"a": {"strings": ["x"]}}}, Device)
    with pytest.raises(CelError, match="unsupported attribute value"):
        device_matches("true", "d.example", device)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_either_parses_or_is_refused(text):
    try:
        parse(text)
    except CelUnsupported:
        return


def test_semantic_versions_order_pre_releases_below_the_release():
    order = [
        Semver((1, 0, 0), ("alpha",)),
        Semver((1, 0, 0), ("alpha", "1")),
        Semver((1, 0, 0), ("beta",)),
        Semver((1, 0, 0), ()),
        Semver((1, 0, 10), ()),
    ]
    assert sorted(order) == order
