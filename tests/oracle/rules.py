"""Rules of the real allocators that are easily missed, each as one small case with its answer.

``source`` names the function of k8s.io/dynamic-resource-allocation (or the library behind it) that the
rule is in. The replay is tested against the answer everywhere, the real allocator where it is built.
"""

from __future__ import annotations

from tests.oracle.selector_rules import SELECTOR_RULES
from tests.oracle.small_cases import (
    GPU,
    NIC,
    Json,
    Rule,
    case,
    claim,
    counters,
    device,
    every,
    index,
    one,
    pool,
    takes,
    told,
)

DISTINCT = {"distinctAttribute": f"{GPU}/index"}
MATCH = {"matchAttribute": f"{GPU}/index"}
SHARED: Json = {"allowMultipleAllocations": True}
STEPS = {
    "memory": {
        "value": "2",
        "requestPolicy": {"default": "500m", "validRange": {"min": "500m", "step": "250m"}},
    }
}

RULES = (
    Rule(
        "free counters are kept by pool name alone: a second driver's pool of that name goes unchecked",
        "checkAvailableCounters",
        "1.36",
        case(
            pool([takes("a", 1), takes("b", 1)], {"sharedCounters": counters(1)})
            + pool([takes("x", 1, "t")], {"sharedCounters": counters(0, "t")}, driver=NIC),
            claim(one(2)),
        ),
        [["r0=a", "r0=x"]],
    ),
    Rule(
        "counters of another driver's pool of the same name are shared where set and counter have one name",
        "checkAvailableCounters",
        "1.36",
        case(
            pool([takes("a", 1)], {"sharedCounters": counters(1)})
            + pool([takes("x", 1)], {"sharedCounters": counters(5)}, driver=NIC),
            claim(one(2)),
        ),
        "none",
    ),
    Rule(
        "one overdrawn counter blocks all devices of the pool that consume counters",
        "checkAvailableCounters",
        "1.36",
        case(
            pool([takes("a", 2), takes("b", 1, "t")], {"sharedCounters": counters(1) + counters(9, "t")}),
            claim(one()),
            allocated=("a",),
        ),
        "none",
    ),
    Rule(
        "a shared device in use takes its counters no second time",
        "allocateDevice: skipCounterCheck",
        "1.36",
        case(
            pool(
                [takes("a", 1, capacity={"memory": {"value": "4"}}, **SHARED)],
                {"sharedCounters": counters(1)},
            ),
            claim(one(capacity={"requests": {"memory": "1"}})),
            consumed=(("a", {"memory": "1"}),),
        ),
        [["r0=a"]],
    ),
    Rule(
        "a shared device without capacities takes its counters once for every pod",
        "deviceCapacityInUse",
        "1.36",
        case(
            pool([takes("a", 1, **SHARED)], {"sharedCounters": counters(1)}),
            claim(one()),
            consumed=(("a", {}),),
        ),
        "none",
    ),
    Rule(
        "devices in a slice that has counters are not looked at",
        "buildPool",
        "1.36",
        case(
            pool({"devices": [takes("a", 1)], "sharedCounters": counters(4)}, [takes("b", 1)]), claim(one())
        ),
        [["r0=b"]],
    ),
    Rule(
        "counter slices of other nodes' pools count: All fails when such a pool is incomplete",
        "GatherPools",
        "1.36",
        case(
            pool([device("a")])
            + pool({"sharedCounters": counters(1), "nodeName": "n2"}, driver=NIC, name="n2", count=2),
            claim(every()),
        ),
        "error",
    ),
    Rule(
        "slices of the node come before those for all nodes, and the first tells resourceSliceCount",
        "NewAllocator: slicesOnNode, slicesShared",
        "1.36",
        case(
            pool({"devices": [device("a")], "allNodes": True, "pool": told(9)}, [device("b")]), claim(one())
        ),
        [["r0=a"]],
    ),
    Rule(
        "a claim that needs more than 32 devices is an error",
        "Allocate: minDevicesPerClaim",
        "1.36",
        case(pool([device(f"d{i}") for i in range(9)]), claim(one(33))),
        "error",
    ),
    Rule(
        "an alternative that would be the claim's 33rd result is passed over",
        "allocateOne: errAllocationResultMaxSizeExceeded",
        "1.36",
        case(pool([device(f"d{i:02}") for i in range(50)]), claim([one(20), one(1)], one(20))),
        [["r0/s1=d00", *(f"r1=d{i:02}" for i in range(1, 21))]],
    ),
    Rule(
        "a share is rounded up in whole units where the policy has a step",
        "roundUpRange",
        "1.36",
        case(
            pool([device("a", capacity=STEPS, **SHARED)]),
            *[claim(one(capacity={"requests": {"memory": "600m"}}))] * 3,
        ),
        "none",
    ),
    Rule(
        "in mode All a broken constraint is an error before capacity is looked at",
        "allocateDevice",
        "1.36",
        case(
            pool(
                [
                    index("a", 1, capacity={"memory": {"value": "1"}}, **SHARED),
                    index("b", 2, capacity={"memory": {"value": "1"}}, **SHARED),
                ]
            ),
            claim(one(expression="device.attributes['gpu.slicewise.io'].index == 2")),
            claim(every(), constraints=(MATCH,)),
        ),
        "error",
    ),
    Rule(
        "distinctAttribute forgets a request when one of its devices is given back, then takes equals",
        "distinctAttributeConstraint.remove",
        "1.36",
        case(
            pool([index("a", 1), index("b", 2), index("c", 1)]),
            claim(
                one(2),
                one(expression="device.attributes['gpu.slicewise.io'].index == 2"),
                constraints=({**DISTINCT, "requests": ["r0"]},),
            ),
        ),
        [["r0=a", "r0=c", "r1=b"]],
    ),
    Rule(
        "devices of one request are taken in increasing order only",
        "allocateOne: startLocation",
        "1.36",
        case(pool([index("a", 1), index("b", 1), index("c", 2)]), claim(one(3), constraints=(DISTINCT,))),
        "none",
    ),
    Rule(
        "before 1.36 the next device may stand before the last one",
        "allocateOne",
        "1.34",
        case(pool([index("a", 1), device("b"), index("c", 2)]), claim(one(2), constraints=(DISTINCT,))),
        [["r0=a", "r0=c"]],
    ),
    Rule(
        "distinctAttribute compares pointers, so any two devices that have the attribute are distinct",
        "distinctAttributeConstraint.matchesAttribute",
        "1.34",
        case(pool([index("a", 1), index("b", 1)]), claim(one(2), constraints=(DISTINCT,))),
        [["r0=a", "r0=b"]],
    ),
    Rule(
        "distinctAttribute is not known",
        "Allocate: constraints",
        "1.35",
        case(pool([index("a", 1)]), claim(one(), constraints=(DISTINCT,))),
        "error",
    ),
    Rule(
        "after the first device of an alternative with mode All the first alternative goes on",
        "allocateOne: subRequestIndex",
        "1.35",
        case(
            pool([index("a", 1), index("b", 2), index("c", 2), index("d", 2)]),
            claim(
                [
                    one(2, expression="device.attributes['gpu.slicewise.io'].index == 1"),
                    every(expression="device.attributes['gpu.slicewise.io'].index == 2"),
                ]
            ),
        ),
        [["r0/s1=b", "r0/s0=a"]],
    ),
    Rule(
        "the same in 1.34",
        "allocateOne: subRequestIndex",
        "1.34",
        case(
            pool([index("a", 1), index("b", 2), index("c", 2), index("d", 2)]),
            claim(
                [
                    one(2, expression="device.attributes['gpu.slicewise.io'].index == 1"),
                    every(expression="device.attributes['gpu.slicewise.io'].index == 2"),
                ]
            ),
        ),
        [["r0/s1=b", "r0/s0=a"]],
    ),
    Rule(
        "in 1.36 an alternative with mode All gets all of its devices",
        "allocateOne: subRequestIndex",
        "1.36",
        case(
            pool([index("a", 1), index("b", 2), index("c", 2)]),
            claim(
                [
                    one(2, expression="device.attributes['gpu.slicewise.io'].index == 1"),
                    every(expression="device.attributes['gpu.slicewise.io'].index == 2"),
                ]
            ),
        ),
        [["r0/s1=b", "r0/s1=c"]],
    ),
    Rule(
        "while All is prepared, matches are remembered under the alternative before",
        "Allocate: requestKey.subRequestIndex",
        "1.35",
        case(
            pool([index("a", 1), index("b", 2)]),
            claim(
                [
                    every(expression="device.attributes['gpu.slicewise.io'].index == 3"),
                    every(expression="device.attributes['gpu.slicewise.io'].index == 2"),
                ]
            ),
        ),
        "none",
    ),
    Rule(
        "devices of incomplete pools are taken",
        "allocateOne",
        "1.34",
        case(pool([device("a")], count=2), claim(one())),
        [["r0=a"]],
    ),
    Rule(
        "nothing is taken of incomplete pools",
        "allocateOne",
        "1.35",
        case(pool([device("a")], count=2), claim(one())),
        "none",
    ),
    Rule(
        "a pool of which the node sees a part is incomplete for it",
        "GatherPools",
        "1.34",
        case(pool([device("a")], {"devices": [device("b")], "nodeName": "n2"}), claim(every())),
        "error",
    ),
    Rule(
        "slices for other nodes make a pool complete",
        "checkSlicesInPool",
        "1.35",
        case(pool([device("a")], {"devices": [device("b")], "nodeName": "n2"}), claim(every())),
        [["r0=a"]],
    ),
    Rule(
        "reaching an invalid pool is an error",
        "allocateOne",
        "1.34",
        case(pool([device("a"), device("a")]), claim(one())),
        "error",
    ),
    Rule(
        "an invalid pool is left out",
        "allocateOne",
        "1.35",
        case(pool([device("a"), device("a")]), claim(one())),
        "none",
    ),
    Rule(
        "a request for capacity is an error while sharing is off",
        "Allocate",
        "1.34",
        case(pool([device("a")]), claim(one(capacity={"requests": {"memory": "1"}}))),
        "error",
    ),
    Rule(
        "a request for capacity is ignored while sharing is off",
        "Allocate",
        "1.35",
        case(pool([device("a")]), claim(one(capacity={"requests": {"memory": "1"}}))),
        [["r0=a"]],
    ),
    Rule(
        "with default gates devices that consume counters are never taken, and taints do not matter",
        "allocateDevice",
        "1.35",
        case(
            pool([takes("a", 1), device("b", taints=[{"key": "x", "effect": "NoSchedule"}])]),
            claim(one()),
        ),
        [["r0=b"]],
    ),
    Rule(
        "the same in 1.34",
        "allocateDevice",
        "1.34",
        case(
            pool([takes("a", 1), device("b", taints=[{"key": "x", "effect": "NoSchedule"}])]),
            claim(one()),
        ),
        [["r0=b"]],
    ),
    Rule(
        "slices with binding conditions come last, and their devices with such conditions are never taken",
        "GatherPools",
        "1.34",
        case(pool([device("a", bindingConditions=["ready"]), device("b")], [device("c")]), claim(one())),
        [["r0=c"]],
    ),
    Rule(
        "a slice that selects nodes for each device is left out while partitionable devices are off",
        "GatherPools",
        "1.35",
        case(
            pool({"devices": [device("a", nodeName="n1")], "perDeviceNodeSelection": True, "nodeName": "n1"}),
            claim(one()),
        ),
        "none",
    ),
    *SELECTOR_RULES,
)
