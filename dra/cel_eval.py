"""Evaluates a device selector, as the in-tree allocator does.

Input: ``device.driver``, ``device.attributes[domain].name``, ``device.capacity[domain].name`` (a quantity)
and
``device.allowMultipleAllocations``. Names without a domain are in the driver's. An unknown domain is an
empty map; an unknown name is an error, and an error aborts scheduling of the pod. ``&&`` and ``||`` absorb
an error of one side when the other side decides (CEL language definition, "logical operators").

Functions: size, has, quantity, isQuantity, semver, isSemver, cel.bind, exists, all, and methods of strings,
quantities and semantic versions listed below. Anything else raises CelUnsupported: a wrong guess would be a
wrong placement.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import total_ordering
from typing import Any

from dra.cel import Call, CelUnsupported, Index, ListOf, Literal, Name, Node, Operation, Select, parse
from dra.quantity import amount
from dra.resource_api import Device


class CelError(Exception):
    """A runtime error of the expression, as CEL defines it: unknown key, wrong types, not a bool."""


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """A Kubernetes quantity."""

    value: Fraction


@total_ordering
@dataclass(frozen=True, slots=True)
class Semver:
    """A semantic version without build metadata; a pre-release is lower than its release."""

    numbers: tuple[int, int, int]
    pre: tuple[str, ...]

    def __lt__(self, other: Semver) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[Any, ...]:
        identifiers = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.pre]
        return (self.numbers, not self.pre, identifiers)


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_RE2_ONLY = re.compile(r"\(\?(?!i\)|:)|\\[pPQzC1-9]|\[\[:|[*+?}]\+")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def device_matches(expression: str, driver: str, device: Device) -> bool:
    """Whether a device of ``driver`` satisfies a selector.

    Raises CelUnsupported when the expression is outside the subset, CelError when CEL itself would fail.
    """
    result = _value(parse(expression), {"device": _device(driver, device)})
    if not isinstance(result, bool):
        raise CelError(f"selector {expression!r} gives {_kind(result)}, not a bool")
    return result


class _Domains(dict[str, dict[str, Any]]):
    """Attributes or capacities by domain; a domain that is not there is empty."""

    def __missing__(self, domain: str) -> dict[str, Any]:
        return {}


def _device(driver: str, device: Device) -> dict[str, Any]:
    attributes, capacity = _Domains(), _Domains()
    for name, attribute in device.attributes.items():
        typed = attribute.typed
        if typed is None:
            raise CelError(f"attribute {name} of device {device.name}: unsupported attribute value")
        kind, value = typed
        domain, key = _qualified(driver, name)
        attributes.setdefault(domain, {})[key] = _semver(str(value)) if kind == "version" else value
    for name, held in device.capacity.items():
        domain, key = _qualified(driver, name)
        capacity.setdefault(domain, {})[key] = _quantity(held.value)
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": bool(device.allow_multiple_allocations),
    }


def _qualified(driver: str, name: str) -> tuple[str, str]:
    domain, slash, key = name.partition("/")
    return (domain, key) if slash else (driver, name)


def _value(node: Node, variables: Mapping[str, Any]) -> Any:
    match node:
        case Literal(value):
            return value
        case Name(name):
            if name not in variables:
                raise CelUnsupported(f"CEL: unknown variable {name!r}")
            return variables[name]
        case Select(operand, key):
            return _lookup(_value(operand, variables), key)
        case Index(operand, key_node):
            return _lookup(_value(operand, variables), _value(key_node, variables))
        case ListOf(items):
            return [_value(item, variables) for item in items]
        case Call(target, function, arguments):
            return _call(target, function, arguments, variables)
        case Operation(symbol, operands):
            return _operation(symbol, operands, variables)


def _lookup(container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        if isinstance(container, _Domains) and isinstance(key, str):
            return container[key]
        if key not in container:
            raise CelError(f"no such key: {key}")
        return container[key]
    if isinstance(container, list) and type(key) is int:
        if not 0 <= key < len(container):
            raise CelError(f"index out of bounds: {key}")
        return container[key]
    raise CelError(f"{_kind(container)} has no field {key!r}")


def _operation(symbol: str, operands: tuple[Node, ...], variables: Mapping[str, Any]) -> Any:
    if symbol in ("&&", "||"):
        return _logical(symbol == "||", operands, variables)
    if symbol == "?:":
        return _value(operands[1 if _boolean(_value(operands[0], variables)) else 2], variables)
    values = [_value(operand, variables) for operand in operands]
    if symbol == "!":
        return not _boolean(values[0])
    if symbol == "-" and len(values) == 1:
        return -_number(values[0])
    left, right = values
    if symbol in ("==", "!="):
        return _equal(left, right) is (symbol == "==")
    if symbol == "in":
        if isinstance(right, dict):
            return left in right
        if isinstance(right, list):
            return any(_equal(left, item) for item in right)
        raise CelError(f"no such overload: in {_kind(right)}")
    if symbol in _COMPARE:
        if _kind(left) != _kind(right) or _kind(left) not in ("number", "string", "bool"):
            raise CelError(f"no such overload: {_kind(left)} {symbol} {_kind(right)}")
        return _COMPARE[symbol](left, right)
    return _arithmetic(symbol, left, right)


def _logical(decisive: bool, operands: tuple[Node, ...], variables: Mapping[str, Any]) -> bool:
    """``||`` is decided by true, ``&&`` by false; an error counts only when the other side does not
    decide.
    """
    failure: CelError | None = None
    for operand in operands:
        try:
            if _boolean(_value(operand, variables)) is decisive:
                return decisive
        except CelError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return not decisive


def _arithmetic(symbol: str, left: Any, right: Any) -> Any:
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if type(left) is not type(right) or type(left) not in (int, float):
        raise CelError(f"no such overload: {_kind(left)} {symbol} {_kind(right)}")
    if symbol == "+":
        return left + right
    if symbol == "-":
        return left - right
    if symbol == "*":
        return left * right
    if type(left) is float:
        raise CelUnsupported("CEL: division of doubles is outside the subset")
    if right == 0:
        raise CelError("division by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if symbol == "/" else left - quotient * right


def _call(
    target: Node | None, function: str, arguments: tuple[Node, ...], variables: Mapping[str, Any]
) -> Any:
    if function == "has" and target is None and len(arguments) == 1 and isinstance(arguments[0], Select):
        container = _value(arguments[0].operand, variables)
        return isinstance(container, dict) and arguments[0].field in container
    if (
        target == Name("cel")
        and function == "bind"
        and len(arguments) == 3
        and isinstance(arguments[0], Name)
    ):
        bound = {**variables, arguments[0].name: _value(arguments[1], variables)}
        return _value(arguments[2], bound)
    if function in ("exists", "all") and target is not None and len(arguments) == 2:
        return _quantified(function, target, arguments, variables)
    values = [_value(argument, variables) for argument in arguments]
    if target is None:
        return _function(function, values)
    return _method(_value(target, variables), function, values)


def _quantified(
    function: str, target: Node, arguments: tuple[Node, ...], variables: Mapping[str, Any]
) -> bool:
    each = _value(target, variables)
    if not isinstance(arguments[0], Name) or not isinstance(each, (list, dict)):
        raise CelUnsupported(f"CEL: {function} over {_kind(each)} is outside the subset")
    decisive = function == "exists"
    failure: CelError | None = None
    for item in each:
        try:
            if _boolean(_value(arguments[1], {**variables, arguments[0].name: item})) is decisive:
                return decisive
        except CelError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return not decisive


def _function(function: str, values: list[Any]) -> Any:
    if len(values) == 1 and isinstance(values[0], str):
        value = values[0]
        if function == "quantity":
            return _quantity(value)
        if function == "isQuantity":
            return amount(value) is not None
        if function == "semver":
            return _semver(value)
        if function == "isSemver":
            return _SEMVER.fullmatch(value) is not None
    if function == "size" and len(values) == 1:
        return _method(values[0], "size", [])
    raise CelUnsupported(f"CEL: function {function} is outside the subset")


_STRING_METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def _method(target: Any, method: str, values: list[Any]) -> Any:
    if method == "size" and not values and isinstance(target, (str, list, dict)):
        return len(target)
    if isinstance(target, str):
        if method in _STRING_METHODS and len(values) == 1 and isinstance(values[0], str):
            return _STRING_METHODS[method](target, values[0])
        if method == "matches" and len(values) == 1 and isinstance(values[0], str):
            return _matches(target, values[0])
        if method in ("lowerAscii", "upperAscii") and not values:
            low = method == "lowerAscii"
            return "".join((c.lower() if low else c.upper()) if c.isascii() else c for c in target)
    if isinstance(target, (Quantity, Semver)):
        return _ordered_method(target, method, values)
    raise CelUnsupported(f"CEL: method {method} of {_kind(target)} is outside the subset")


def _ordered_method(target: Quantity | Semver, method: str, values: list[Any]) -> Any:
    if len(values) == 1 and type(values[0]) is type(target):
        other: Any = values[0]
        mine: Any = target
        if method == "compareTo":
            return (mine > other) - (mine < other)
        if method == "isGreaterThan":
            return mine > other
        if method == "isLessThan":
            return mine < other
    if isinstance(target, Semver) and method in ("major", "minor", "patch") and not values:
        return target.numbers[("major", "minor", "patch").index(method)]
    if isinstance(target, Quantity) and not values:
        if method == "isInteger":
            return target.value.denominator == 1
        if method == "asInteger":
            if target.value.denominator != 1:
                raise CelError("cannot convert value to integer")
            return int(target.value)
        if method == "sign":
            return (target.value > 0) - (target.value < 0)
    raise CelUnsupported(f"CEL: method {method} of {_kind(target)} is outside the subset")


def _matches(text: str, pattern: str) -> bool:
    """RE2 search; patterns that Python's ``re`` may read in another way are refused."""
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        # RE2's $ is the end of the text; Python's also matches before a last newline.
        pattern = pattern[:-1] + r"\Z"
    if _RE2_ONLY.search(pattern) or "$" in pattern:
        raise CelUnsupported(f"CEL: regular expression {pattern!r} is outside the subset")
    try:
        return re.search(pattern, text, re.ASCII) is not None
    except re.error as error:
        raise CelError(f"regular expression {pattern!r}: {error}") from None


def _semver(text: str) -> Semver:
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError(f"not a semantic version: {text!r}")
    pre = tuple(match.group(4).split(".")) if match.group(4) else ()
    return Semver((int(match.group(1)), int(match.group(2)), int(match.group(3))), pre)


def _quantity(text: str | int) -> Quantity:
    value = amount(text)
    if value is None:
        raise CelError(f"not a quantity: {text!r}")
    return Quantity(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError(f"no such overload: {_kind(value)} as bool")
    return value


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise CelError(f"no such overload: -{_kind(value)}")
    number: int | float = value
    return number


def _equal(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    names = {str: "string", list: "list", dict: "map", _Domains: "map", type(None): "null"}
    return names.get(type(value), type(value).__name__.lower())
