"""Random CEL selectors for the oracle's cases: from the replay's subset, all of which the API server accepts.

That is, they compile, so types that are known (driver, capacity) are used rightly; attributes have no known
type, so expressions over them may fail at run time, and some do on purpose.
"""

from __future__ import annotations

from random import Random

DRIVERS = ("gpu.slicewise.io", "gpu.nvidia.com", "nic.example.com")
PCIE_ROOT = "resource.kubernetes.io/pcieRoot"
NAMES = ("type", "model", "index", "numa", "ok", "rev")
_STRINGS = ("gpu", "mig", "a", "b", "c", "pci0000:01", "pci0000:02", "GPU")
_QUANTITIES = ("10Gi", "20Gi", "1", "4", "500m", "16")


def selector(draw: Random, driver: str, *, consumable: bool) -> str:
    """One expression, mostly about what devices of ``driver`` have."""
    if draw.random() < 0.01:
        return f"device.attributes['{driver}'].nowhere == 1"
    found = _expression(draw, driver, consumable, depth=0)
    return f"device.driver == '{driver}' && ({found})" if draw.random() < 0.6 else found


def _expression(draw: Random, driver: str, consumable: bool, depth: int) -> str:
    if depth < 2 and draw.random() < 0.45:
        left = _expression(draw, driver, consumable, depth + 1)
        right = _expression(draw, driver, consumable, depth + 1)
        return draw.choice(
            (
                f"{left} && {right}",
                f"({left}) || {right}",
                f"!({left})",
                f"(({left}) ? ({right}) : ({left}))",
                f"[{left}, {right}].exists(x, x)",
                f"({left}) == ({right})",
            )
        )
    return _test(draw, driver, consumable)


def _test(draw: Random, driver: str, consumable: bool) -> str:
    domain = driver if draw.random() < 0.95 else draw.choice((*DRIVERS, "resource.kubernetes.io", "none.io"))
    name = draw.choice(NAMES)
    text, number = draw.choice(_STRINGS), draw.randrange(5)
    attributes, capacity = f"device.attributes['{domain}']", f"device.capacity['{domain}']"
    value = f"{attributes}.{name}"
    guard = f"'{name}' in {attributes}"
    amount = draw.choice(("memory", "slots"))
    quantity = draw.choice(_QUANTITIES)
    part = draw.choice(("major", "minor", "patch"))
    compare = draw.choice(("==", "!=", "<", "<=", ">", ">="))
    choices = [
        f"device.driver == '{draw.choice(DRIVERS)}'",
        f"device.driver in ['{domain}', '{text}']",
        f"device.driver.startsWith('gpu') && {guard}",
        f"device.driver.{draw.choice(('contains', 'endsWith'))}('{draw.choice(('nvidia', '.io', 'x'))}')",
        f"device.driver.matches('^{draw.choice(('gpu', 'nic', '[a-g]+'))}[.](nv|slice)')",
        f"size(device.driver) {compare} {13 + number}",
        f"{attributes}.type == '{draw.choice(('gpu', 'mig'))}'",
        f"{attributes}.model in ['a', '{text}']",
        f"{guard} && {value} == '{text}'",
        f"{guard} && {value} == {number}",
        f"has({value})",
        f"has({value}) && {value} != '{text}'",
        f"{value} == '{text}'",
        f"{attributes}.index {compare} {number}",
        f"{attributes}.index % 2 == {number % 2}",
        f"{attributes}.index + 1 {compare} {number}",
        f"-{attributes}.index {compare} -{number}",
        f"{attributes}.index * {number} - 1 {compare} {number} / 2",
        f"'ok' in {attributes} && {attributes}.ok",
        f"{attributes}.ok == {draw.choice(('true', 'false'))}",
        f"!{attributes}.ok",
        f"{attributes}.rev.{draw.choice(('isGreaterThan', 'isLessThan'))}(semver('1.{number}.0'))",
        f"has({attributes}.rev) && {attributes}.rev.compareTo(semver('2.0.0')) {compare} 0",
        f"has({attributes}.rev) && {attributes}.rev.{part}() {compare} {number}",
        f"isSemver('{draw.choice(('1.2.3', '1.2', 'v1.2.3', '1.2.3-rc.1'))}')",
        f"{attributes}.model.lowerAscii() == 'a'",
        f"{attributes}.type.upperAscii() == 'GPU'",
        f"{attributes}.model.{draw.choice(('startsWith', 'endsWith', 'contains'))}('{text}')",
        f"{attributes}.model.size() {compare} {number}",
        f"device.attributes['resource.kubernetes.io'].pcieRoot == 'pci0000:0{1 + number % 2}'",
        f"size({attributes}) {compare} {number}",
        f"cel.bind(a, {attributes}, 'model' in a && a.model == '{text}')",
        f"cel.bind(a, {attributes}, a.numa == {number % 2})",
        f"['{text}', 'a'].exists(x, x == {attributes}.model)",
        f"['b', 'a'].all(x, x != {attributes}.model)",
        f"{attributes}.exists(x, x == '{name}')",
        f"({guard} ? {value} == '{text}' : {draw.choice(('true', 'false'))})",
        f"{capacity}.{amount}.compareTo(quantity('{quantity}')) {compare} 0",
        f"'{amount}' in {capacity} && {capacity}.{amount}.isGreaterThan(quantity('{quantity}'))",
        f"has({capacity}.{amount}) && {capacity}.{amount}.isLessThan(quantity('{quantity}'))",
        f"has({capacity}.{amount}) && {capacity}.{amount} == quantity('{quantity}')",
        f"has({capacity}.{amount}) && {capacity}.{amount}.isInteger()",
        f"has({capacity}.{amount}) && {capacity}.{amount}.asInteger() {compare} {number}",
        f"has({capacity}.{amount}) && sign({capacity}.{amount}) == 1",
        f"isQuantity('{draw.choice(('1Gi', '1.5', 'x', '1ki', '0.1e2'))}')",
        f"quantity('{quantity}').isLessThan(quantity('10Gi'))",
        f"has(device.attributes.{name})",
        f"({attributes}).{name} in [{number}, 1]",
        f"has({value}) && !({value} in ['{text}'])",
        f"'{domain}' in device.attributes",
        f"{attributes}['{name}'] == '{text}'",
        draw.choice(("true", "false")),
    ]
    if consumable:
        choices += ["device.allowMultipleAllocations", "!device.allowMultipleAllocations"] * 2
    return draw.choice(choices)
