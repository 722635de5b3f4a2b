"""Random cases of hardware: nodes as our driver or NVIDIA's publishes them, pods in the usual forms."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import msgspec

from dra.catalog import models
from dra.classes import device_classes
from dra.releases import Release
from dra.slices import nvidia_slices, to_slices
from tests.dra.fleet_of_one import PROFILES, classes, node
from tests.oracle.held import holdable, identity

Json = dict[str, Any]


def hardware(draw: Random, release: Release) -> Json:
    """A node or two as a driver would publish them, partly taken, and a pod in the usual forms."""
    slices: list[Json] = []
    allocated: list[Json] = []
    drivers: list[str] = []
    names: list[str | None] = []
    with_grid = [model for model in models().values() if model.profiles]
    for name in ("n1", "n2")[: draw.choice((1, 1, 2))]:
        mig = draw.random() < (0.85 if release.partitionable else 0.15)
        model = draw.choice(with_grid) if mig else models()["L40S-48GB"]
        inventory = node(name, model.name, draw.randint(1, 4 if release.sorted else 3))
        published: Literal["1.34", "1.35+"] = "1.34" if release.version == "1.34" else "1.35+"
        if draw.random() < 0.6:
            weights = {profile: draw.random() for profile in PROFILES}
            masks = [draw.randrange(1 << gpu.model.units) for gpu in inventory.gpus]
            new = to_slices(inventory, masks, weights, version=published)
        else:
            new = nvidia_slices(inventory, version=published)
        drivers.append(new[0]["spec"]["driver"] if draw.random() < 0.97 else "gpu.nvidia.com")
        names = names or [profile.name for profile in model.profiles if profile.plain]
        slices += new
        allocated += [identity(s, d) for s, d in holdable(draw, new, draw.choice((0, 1, 2, 5)))]
    draw.shuffle(slices)
    claims: list[Json] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        requests: list[Json] = []
        for r in range(draw.choice((1, 1, 2))):
            count = draw.choice((1, 1, 1, 2))
            wanted = [
                _usual(draw, drivers[0], draw.choice(names or [None]), count)
                for _ in range(draw.choice((1, 1, 1, 3)))
            ]
            if len(wanted) == 1:
                requests.append({"name": f"r{r}", "exactly": wanted[0]})
            else:
                alternatives = [{"name": f"s{i}", **one} for i, one in enumerate(wanted)]
                requests.append({"name": f"r{r}", "firstAvailable": alternatives})
        attribute = draw.choice(("parentUUID", "nvlinkIsland", "model", "uuid"))
        distinct = release.distinct != "error" and draw.random() < 0.5
        kind = "distinctAttribute" if distinct else "matchAttribute"
        constraints = [{kind: f"gpu.slicewise.io/{attribute}"}] if draw.random() < 0.25 else []
        claims.append({"requests": requests, "constraints": constraints})
    listed = {name: msgspec.to_builtins(item) for name, item in classes().items()}
    listed.update({item["metadata"]["name"]: item for item in device_classes(PROFILES)})
    return {
        "slices": slices,
        "classes": list(listed.values()),
        "claims": claims,
        "allocated": allocated,
        "consumed": [],
    }


def _usual(draw: Random, driver: str, profile: str | None, count: int) -> Json:
    """A request for whole GPUs or partitions, as the users of a driver write it."""
    if draw.random() < 0.06:
        return {"deviceClassName": driver, "allocationMode": "All"}
    request: Json = {"allocationMode": "ExactCount", "count": count}
    if profile is None or draw.random() < 0.3:
        return {"deviceClassName": driver, **request}
    if driver == "gpu.slicewise.io":
        return {"deviceClassName": f"mig-{profile}.slicewise.io", **request}
    text = f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"
    return {"deviceClassName": "mig.nvidia.com", "selectors": [{"cel": {"expression": text}}], **request}
