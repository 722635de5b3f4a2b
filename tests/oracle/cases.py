"""Random cases for the oracles: slices, classes, claims and what is held, as JSON of the protocol.

Two flavours: hardware, published as our driver or NVIDIA's publishes it, and random slices that make use of
everything the allocator looks at: several pools and drivers (also of one pool name), incomplete pools,
generations that come and go, slices and devices for other nodes, duplicate devices, counters (shared,
too small, unknown, in slices of their own or with the devices), taints, shared capacity with request
policies, binding conditions; claims with several requests, alternatives, mode All, admin access,
tolerations, constraints, selectors that fail, and more devices than a claim may have.

A case is made from (version, seed, number) alone. Objects are as the API server would store them: valid on
their own and with its defaults filled in.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dra.releases import RELEASES, Release, Version
from tests.oracle.hardware import hardware
from tests.oracle.held import holdable, identity
from tests.oracle.selectors import DRIVERS, NAMES, PCIE_ROOT, selector

Json = dict[str, Any]
NODE = "n1"
LABELS = {"zone": "a", "gpus": "8"}
_POOL_NAMES = ("n1", "rack-1", "b")


def make_case(version: Version, seed: int, number: int) -> Json:
    """The case of a number; equal arguments give equal cases."""
    draw = Random(f"{version} {seed} {number}")
    release = RELEASES[version]
    case = hardware(draw, release) if draw.random() < 0.25 else _Anything(draw, release).case()
    return {
        "id": number,
        "node": {"name": NODE, "labels": LABELS},
        # One pool's answer is the same each time; several are met in any order before 1.36.
        "repeat": 1 if release.sorted or len(_pools(case["slices"])) < 2 else 12,
        "timeoutMilliseconds": 300,
        **case,
    }


def _pools(slices: list[Json]) -> set[tuple[str, str]]:
    return {(item["spec"]["driver"], item["spec"]["pool"]["name"]) for item in slices}


class _Anything:
    """Draws one case without regard to any hardware."""

    def __init__(self, draw: Random, release: Release) -> None:
        self._draw = draw
        self._release = release
        self._numbers = 0
        # Pods that ask for little get something; the others find out about refusals.
        self._modest = self._draw.random() < 0.75
        # Many alike devices and large counts: the limit of 32 results, without searches that never end.
        self._crowded = self._draw.random() < 0.06
        # Pods that share devices out among themselves.
        self._sharing = release.consumable and self._draw.random() < 0.12
        self._counters: dict[str, dict[str, int]] = {}

    def case(self) -> Json:
        draw = self._draw
        slices: list[Json] = []
        pairs = [(driver, name) for driver in DRIVERS for name in _POOL_NAMES]
        if self._often(0.3):
            pairs = [(driver, name) for driver, name in pairs if name == NODE]
        for driver, name in draw.sample(pairs, draw.choice((1, 1, 1, 2, 2, 3))):
            slices += self._pool(driver, name)
        draw.shuffle(slices)
        drivers = sorted({item["spec"]["driver"] for item in slices})
        listed = [
            {
                "metadata": {"name": f"c{i}"},
                "spec": {"selectors": self._selectors(drivers, (0, 0, 1, 1, 2) if i else (0,))},
            }
            for i in range(3)
        ]
        claims = [self._claim(drivers) for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 3)))]
        allocated, consumed = self._held(slices)
        return {
            "slices": slices,
            "classes": listed,
            "claims": claims,
            "allocated": allocated,
            "consumed": consumed,
        }

    def _often(self, chance: float) -> bool:
        return self._draw.random() < chance

    # Slices

    def _pool(self, driver: str, name: str) -> list[Json]:
        draw, release = self._draw, self._release
        generation = draw.choice((1, 2, 5))
        where = draw.choices(("n1", "all", "selector", "device", "n2", "mixed"), (60, 10, 9, 9, 4, 8))[0]
        self._counters = {}
        combined = self._often(0.5 if release.version == "1.34" else 0.04)
        if self._often(0.5 if release.partitionable else 0.12):
            for s in range(draw.choice((1, 1, 2, 3))):
                self._counters[f"s{s}"] = {
                    f"c{c}": draw.choice((0, 1, 2, 3, 4, 6, 8)) for c in range(draw.randint(1, 3))
                }
        traits = {
            "shared": self._sharing or self._often(0.4 if release.consumable else 0.1),
            "tainted": self._often(0.25),
            "binding": self._often(0.2),
            "clashing": self._often(0.03),
            "complete": self._often(0.75),
        }
        devices = [
            [
                self._device(driver, traits)
                for _ in range(draw.choice((8, 16, 30) if self._crowded else (0, 1, 2, 3, 4, 5, 6, 8)))
            ]
            for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        if traits["clashing"] and devices[0] and devices[-1]:
            devices[-1][-1]["name"] = devices[0][0]["name"]
        specs: list[Json] = [{"devices": listed, **self._place(where, listed)} for listed in devices]
        sets = [
            {"name": s, "counters": {c: {"value": str(v)} for c, v in counters.items()}}
            for s, counters in self._counters.items()
        ]
        if sets and combined:
            specs[0]["sharedCounters"] = sets
        elif sets:
            place = {"nodeName": NODE} if where in ("n1", "mixed") else {"allNodes": True}
            specs += (
                [{"sharedCounters": [one], **place} for one in sets]
                if self._often(0.2)
                else [{"sharedCounters": sets, **place}]
            )
            if self._often(0.03):
                specs.append({"sharedCounters": sets[:1], **place})
        if self._often(0.3 if self._counters else 0.1):
            specs.append({"devices": [self._device(driver, traits) for _ in range(3)], "nodeName": "n2"})
        total = len(specs)
        published = total + draw.choices((0, 1, -1), (93, 5, 2))[0] or 1
        found = [self._slice(driver, name, generation, published, spec) for spec in specs]
        if self._often(0.03):
            found[0]["spec"]["pool"]["resourceSliceCount"] += 1
        if self._often(0.12):
            old = {"devices": [self._device(driver, traits) for _ in range(2)], **self._place("n1", [])}
            found.append(self._slice(driver, name, generation - 1, 1, old))
        if self._often(0.04):
            new = {"devices": [self._device(driver, traits)], "nodeName": draw.choice(("n2", "n2", NODE))}
            found.append(self._slice(driver, name, generation + 1, draw.choice((1, 2)), new))
        return found

    def _slice(self, driver: str, pool: str, generation: int, count: int, spec: Json) -> Json:
        self._numbers += 1
        name = f"{self._draw.randrange(16):x}-{driver}-{self._numbers}"
        pool_of = {"name": pool, "generation": generation, "resourceSliceCount": count}
        return {"metadata": {"name": name}, "spec": {"driver": driver, "pool": pool_of, **spec}}

    def _place(self, where: str, devices: list[Json]) -> Json:
        if where == "mixed":
            where = self._draw.choice(("n1", "all", "selector", "n2", "device"))
        if where == "device":
            for device in devices:
                kind = self._draw.choice(("n1", "n1", "all", "selector", "n2"))
                device.update(self._place(kind, []))
            return {"perDeviceNodeSelection": True}
        if where == "all":
            return {"allNodes": True}
        if where == "selector":
            return {"nodeSelector": {"nodeSelectorTerms": [self._term()]}}
        return {"nodeName": where}

    def _term(self) -> Json:
        operator, values = self._draw.choice(
            (
                ("In", ["a", "b"]),
                ("In", ["b"]),
                ("NotIn", ["b"]),
                ("Exists", []),
                ("DoesNotExist", []),
            )
        )
        expression = {"key": self._draw.choice(("zone", "zone", "none")), "operator": operator}
        term: Json = {"matchExpressions": [expression | ({"values": values} if values else {})]}
        if self._often(0.3):
            number = str(self._draw.choice((7, 8, 9)))
            operator = self._draw.choice(("Gt", "Lt"))
            term["matchExpressions"].append({"key": "gpus", "operator": operator, "values": [number]})
        if self._often(0.2):
            name = self._draw.choice((NODE, "n2"))
            term["matchFields"] = [{"key": "metadata.name", "operator": "In", "values": [name]}]
        return term

    def _device(self, driver: str, traits: Json) -> Json:
        draw = self._draw
        self._numbers += 1
        device: Json = {
            "name": f"d{draw.randrange(10)}-{self._numbers}",
            "attributes": self._attributes(driver, traits["complete"]),
        }
        shared = traits["shared"] and self._often(0.7)
        if shared:
            device["allowMultipleAllocations"] = True
        capacity = {}
        for name, chance in (("memory", 0.7), ("slots", 0.4), ("other.example.com/width", 0.1)):
            if self._often(chance):
                capacity[name] = self._capacity(shared)
        if capacity:
            device["capacity"] = capacity
        if self._counters and self._often(0.8):
            consumed: list[Json] = []
            for name in draw.sample(sorted(self._counters), draw.randint(1, min(2, len(self._counters)))):
                known = self._counters[name]
                counters = draw.sample(sorted(known), draw.randint(1, len(known)))
                consumed.append(
                    {
                        "counterSet": name,
                        "counters": {c: {"value": str(draw.choice((0, 1, 1, 2, 3)))} for c in counters},
                    }
                )
            if self._often(0.004):
                consumed[0]["counterSet"] = "nowhere"
            elif self._often(0.004):
                consumed[0]["counters"]["nothing"] = {"value": "1"}
            device["consumesCounters"] = consumed
        if traits["tainted"] and self._often(0.5):
            device["taints"] = [self._taint() for _ in range(draw.choice((1, 1, 2)))]
        if traits["binding"] and self._often(0.5):
            device["bindingConditions"] = ["ready"]
            device["bindingFailureConditions"] = ["failed"]
            device["bindsToNode"] = self._often(0.5)
        return device

    def _attributes(self, driver: str, complete: bool) -> Json:
        draw = self._draw
        values: dict[str, tuple[float, Json]] = {
            "type": (0.85, {"string": draw.choice(("gpu", "mig"))}),
            "model": (0.7, {"string": draw.choice(("a", "b", "c"))}),
            "index": (0.8, {"int": draw.randrange(5)}),
            "numa": (0.7, {"int": draw.randrange(2)} if self._often(0.95) else {"string": "0"}),
            "ok": (0.5, {"bool": self._often(0.5)}),
            "rev": (0.4, {"version": draw.choice(("1.2.3", "1.4.0", "2.0.0-rc.1", "2.0.0-rc.2", "10.0.0"))}),
            PCIE_ROOT: (0.5, {"string": f"pci0000:0{draw.randint(1, 2)}"}),
        }
        found = {name: value for name, (chance, value) in values.items() if complete or self._often(chance)}
        if "numa" in found and self._often(0.1):
            found[f"{driver}/numa"] = found.pop("numa")
        return found

    def _capacity(self, shared: bool) -> Json:
        draw = self._draw
        if not shared or self._often(0.1 if self._sharing else 0.4):
            return {"value": draw.choice(("10Gi", "20Gi", "4", "8", "1500m", "0"))}
        unit = draw.choice(("", "Gi", "00m"))
        least, step, steps = draw.choice((1, 2, 3)), draw.choice((1, 2, 5)), draw.choice((2, 3, 4))
        most = least + step * steps
        capacity: Json = {"value": f"{draw.choice((most, most * 2, most + 1))}{unit}"}
        if self._often(0.5):
            allowed: Json = {"min": f"{least}{unit}"}
            if self._often(0.6):
                allowed["step"] = f"{step}{unit}"
            if self._often(0.7):
                allowed["max"] = f"{most}{unit}"
            default = least + step * draw.randrange(steps)
            capacity["requestPolicy"] = {"default": f"{default}{unit}", "validRange": allowed}
        else:
            values = [f"{least + step * k}{unit}" for k in range(steps)]
            capacity["requestPolicy"] = {"default": draw.choice(values), "validValues": values}
            if self._often(0.2):
                del capacity["requestPolicy"]["validValues"]
        return capacity

    def _taint(self) -> Json:
        taint: Json = {"key": self._draw.choice(("broken", "held"))}
        taint["effect"] = self._draw.choice(("NoSchedule", "NoExecute", "None"))
        if self._often(0.5):
            taint["value"] = self._draw.choice(("yes", "no"))
        return taint

    # Claims

    def _claim(self, drivers: list[str]) -> Json:
        requests = [self._request(f"r{r}", drivers) for r in range(self._draw.choice((1, 1, 2, 2, 3)))]
        number = self._draw.choice((0, 0, 0, 0, 1, 1) if self._modest else (0, 0, 1, 2))
        if self._crowded or self._sharing:
            number = 0
        constraints = [self._constraint(requests, drivers) for _ in range(number)]
        return {"requests": requests, "constraints": constraints}

    def _request(self, name: str, drivers: list[str]) -> Json:
        if self._often(0.25):
            number = self._draw.choice((1, 2, 2, 3))
            alternatives = [{"name": f"s{s}", **self._wanted(drivers, every=0.25)} for s in range(number)]
            return {"name": name, "firstAvailable": alternatives}
        wanted = self._wanted(drivers)
        if self._often(0.08):
            wanted["adminAccess"] = self._often(0.8)
        return {"name": name, "exactly": wanted}

    def _wanted(self, drivers: list[str], every: float = 0.0) -> Json:
        draw = self._draw
        wanted: Json = {
            "deviceClassName": "nowhere" if self._often(0.005) else f"c{draw.randrange(3)}",
            "selectors": self._selectors(drivers, (0, 0, 0, 0, 1, 2)),
        }
        if self._often(every or (0.06 if self._modest else 0.18)):
            wanted["allocationMode"] = "All"
        else:
            counts = (1, 2, 3, 4, 7, 12, 20, 33)
            chances = (80, 14, 3, 1, 1, 0, 1, 0) if self._modest else (65, 16, 8, 3, 3, 1, 3, 1)
            if self._crowded:
                counts, chances = (1, 5, 10, 16, 20, 31, 32, 33), (3, 2, 2, 2, 2, 1, 1, 1)
            count = draw.choices(counts, chances)[0]
            wanted |= {"allocationMode": "ExactCount", "count": count}
        if self._often(0.25):
            wanted["tolerations"] = [self._toleration() for _ in range(draw.choice((1, 1, 2)))]
        if self._sharing or self._often((0.2 if self._modest else 0.4) if self._release.consumable else 0.02):
            asked = draw.sample(("memory", "slots"), draw.choice((0, 1, 1, 1, 2)))
            amounts = ("1", "2", "3", "4", "1Gi", "3Gi", "5Gi", "100m", "300m", "700m", "1100m")
            wanted["capacity"] = {"requests": {name: draw.choice(amounts) for name in asked}}
        return wanted

    def _toleration(self) -> Json:
        draw = self._draw
        toleration: Json = {"operator": draw.choice(("Exists", "Equal"))}
        if toleration["operator"] == "Equal" or self._often(0.7):
            toleration["key"] = draw.choice(("broken", "held"))
        if toleration["operator"] == "Equal" and self._often(0.6):
            toleration["value"] = draw.choice(("yes", "no"))
        if self._often(0.3):
            toleration["effect"] = draw.choice(("NoSchedule", "NoExecute"))
        return toleration

    def _constraint(self, requests: list[Json], drivers: list[str]) -> Json:
        names: list[str] = []
        for request in requests:
            names.append(request["name"])
            names += [f"{request['name']}/{sub['name']}" for sub in request.get("firstAvailable", ())]
        attribute = f"{self._draw.choice(drivers)}/{self._draw.choice((*NAMES, 'numa', 'type', 'index'))}"
        if self._often(0.3):
            attribute = PCIE_ROOT
        distinct = self._often(0.05 if self._release.distinct == "error" else 0.45)
        constraint: Json = {"distinctAttribute" if distinct else "matchAttribute": attribute}
        if self._often(0.4):
            constraint["requests"] = self._draw.sample(names, self._draw.randint(1, len(names)))
        return constraint

    def _selectors(self, drivers: list[str], numbers: tuple[int, ...]) -> list[Json]:
        listed = []
        for _ in range(self._draw.choice(numbers)):
            if self._crowded or self._sharing or (self._modest and self._often(0.7)):
                continue
            driver = self._draw.choice(drivers)
            text = selector(self._draw, driver, consumable=self._release.consumable)
            listed.append({"cel": {"expression": text}})
        return listed

    # What others hold

    def _held(self, slices: list[Json]) -> tuple[list[Json], list[Json]]:
        allocated: list[Json] = []
        consumed: list[Json] = []
        for item, device in holdable(self._draw, slices, self._draw.choice((0, 0, 1, 2, 4, 8))):
            taken = identity(item, device)
            if self._release.consumable and device.get("allowMultipleAllocations"):
                capacity = {
                    name: value["value"]
                    if self._often(0.1)
                    else self._draw.choice(("1", "1", "2", "200m", "0"))
                    for name, value in device.get("capacity", {}).items()
                }
                consumed.append({**taken, "capacity": capacity})
            else:
                allocated.append(taken)
        return allocated, consumed
