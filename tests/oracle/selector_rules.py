"""Rules of device selectors that are easily missed (see ``tests.oracle.rules``)."""

from __future__ import annotations

from tests.oracle.small_cases import Rule, case, claim, device, index, one, pool, rev

SELECTOR_RULES = (
    Rule(
        "a semantic version equals nothing but versions: comparing it with a string fails",
        "cel.Semver.Equal",
        "1.36",
        case(pool([rev("a")]), claim(one(expression="device.attributes['gpu.slicewise.io'].rev == '1.2.3'"))),
        "error",
    ),
    Rule(
        "but it is unequal to a string",
        "cel-go: != is not ==",
        "1.36",
        case(pool([rev("a")]), claim(one(expression="device.attributes['gpu.slicewise.io'].rev != '1.2.3'"))),
        [["r0=a"]],
    ),
    Rule(
        "a semantic version cannot be looked for in a constant list",
        "cel-go: evalSetMembership",
        "1.36",
        case(
            pool([rev("a")]), claim(one(expression="device.attributes['gpu.slicewise.io'].rev in ['1.2.3']"))
        ),
        "error",
    ),
    Rule(
        "which nothing absorbs, for it is a crash inside cel-go",
        "cel-go: evalSetMembership",
        "1.36",
        case(
            pool([rev("a")]),
            claim(one(expression="device.attributes['gpu.slicewise.io'].rev in ['1.2.3'] || true")),
        ),
        "error",
    ),
    Rule(
        "while other errors are absorbed by the side that decides",
        "cel-go: evalOr",
        "1.36",
        case(
            pool([rev("a")]),
            claim(one(expression="device.attributes['gpu.slicewise.io'].rev == '1.2.3' || true")),
        ),
        [["r0=a"]],
    ),
    Rule(
        "the map of domains has every domain, by its default",
        "cel: newStringInterfaceMapWithDefault",
        "1.36",
        case(pool([device("a")]), claim(one(expression="has(device.attributes.nowhere)"))),
        [["r0=a"]],
    ),
    Rule(
        "a method of another type fails at run time",
        "cel-go: no such overload",
        "1.36",
        case(
            pool([index("a", 1)]),
            claim(one(expression="device.attributes['gpu.slicewise.io'].index.startsWith('a')")),
        ),
        "error",
    ),
    Rule(
        "the sign of a quantity is a function",
        "k8s.io/apiserver/pkg/cel/library/quantity.go",
        "1.36",
        case(
            pool([device("a", capacity={"memory": {"value": "1Gi"}})]),
            claim(one(expression="sign(device.capacity['gpu.slicewise.io'].memory) == 1")),
        ),
        [["r0=a"]],
    ),
)
