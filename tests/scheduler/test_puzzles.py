"""What is not understood of a pod's GPU demand is named, and only that."""

from __future__ import annotations

import msgspec
import pytest

from cluster.wire import Pod
from dra.resource_api import DeviceClass, ResourceClaim, ResourceClaimTemplate
from scheduler.demand import parse_demand
from scheduler.puzzles import puzzles

WHOLE = "device.driver == 'gpu.slicewise.io' && device.attributes['gpu.slicewise.io'].type == 'gpu'"


class Lookup:
    def __init__(self, claims=(), templates=()):
        self.claims, self.templates = dict(claims), dict(templates)

    def claim(self, namespace, name):
        return self.claims.get(name)

    def template(self, namespace, name):
        return self.templates.get(name)


def pod(limits=None, **claim):
    document = {
        "metadata": {"name": "p", "namespace": "ml"},
        "spec": {
            "containers": [{"name": "c", "image": "m", "resources": {"limits": limits or {}}}],
            "resourceClaims": [{"name": "gpu", **claim}] if claim else [],
        },
    }
    return msgspec.convert(document, Pod, strict=False)


def spec(**request):
    return {"devices": {"requests": [{"name": "gpus", **request}]}}


def template(**request):
    return msgspec.convert({"spec": {"spec": spec(**request)}}, ResourceClaimTemplate, strict=False)


GPU_CLASS = msgspec.convert(
    {
        "metadata": {"name": "gpu.slicewise.io"},
        "spec": {"selectors": [{"cel": {"expression": WHOLE}}]},
    },
    DeviceClass,
    strict=False,
)
ODD = msgspec.convert(
    {
        "metadata": {"name": "odd"},
        "spec": {
            "selectors": [{"cel": {"expression": "device.capacity['x'].memory.isGreaterThan(quantity('1'))"}}]
        },
    },
    DeviceClass,
    strict=False,
)


@pytest.mark.parametrize(
    ("asked", "lookup", "words"),
    [
        (pod({"nvidia.com/mig-small": "1"}), Lookup(), "nvidia.com/mig-small: expected nvidia.com/gpu"),
        (pod(resourceClaimName="mine"), Lookup(), "claim ml/mine: is not there"),
        (pod(resourceClaimTemplateName="t"), Lookup(), "claim template ml/t: is not there"),
        (
            pod(resourceClaimTemplateName="t"),
            Lookup(
                templates={
                    "t": template(firstAvailable=[{"name": "a", "deviceClassName": "gpu.slicewise.io"}])
                }
            ),
            "request gpus: alternatives (firstAvailable)",
        ),
        (
            pod(resourceClaimTemplateName="t"),
            Lookup(
                templates={
                    "t": template(exactly={"deviceClassName": "gpu.slicewise.io", "allocationMode": "All"})
                }
            ),
            "allocationMode All; expected a count",
        ),
        (
            pod(resourceClaimTemplateName="t"),
            Lookup(templates={"t": template(exactly={"deviceClassName": "typo"})}),
            "DeviceClass typo is not there",
        ),
        (
            pod(resourceClaimTemplateName="t"),
            Lookup(templates={"t": template(exactly={"deviceClassName": "odd"})}),
            "DeviceClass odd say more than equality",
        ),
    ],
)
def test_what_is_not_understood_is_named_with_what_would_be(asked, lookup, words):
    classes = {"gpu.slicewise.io": GPU_CLASS, "odd": ODD}
    demand = parse_demand(asked, lookup, classes)
    assert demand is not None
    assert not demand.understood
    (said,) = puzzles(asked, lookup, classes)
    assert words in said


def test_nothing_is_said_of_what_is_understood():
    claims = {
        "mine": msgspec.convert(
            {"spec": spec(exactly={"deviceClassName": "gpu.slicewise.io"})}, ResourceClaim, strict=False
        )
    }
    for asked in (
        pod({"nvidia.com/gpu": "1"}),
        pod(resourceClaimName="mine"),
        pod({"example.com/nic": "1"}),
        pod(),
    ):
        demand = parse_demand(asked, Lookup(claims), {"gpu.slicewise.io": GPU_CLASS})
        assert demand is None or demand.understood
        assert puzzles(asked, Lookup(claims), {"gpu.slicewise.io": GPU_CLASS}) == ()
