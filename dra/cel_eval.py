"""Evaluates a device selector, as the in-tree allocator does.

Input: ``device.driver``, ``device.attributes[domain].name``, ``device.capacity[domain].name`` (a quantity)
and ``device.allowMultipleAllocations``. Names without a domain are in the driver's. An unknown domain is an
empty map; an unknown name is an error, and an error aborts scheduling of the pod. ``&&`` and ``||`` absorb
an error of one side when the other side decides (CEL language definition, "logical operators").

Macros: has, cel.bind, exists, all; functions and methods as in ``dra.cel_values``. Anything else raises
CelUnsupported: a wrong guess would be a wrong placement. Types are looked at when a value is used; what the
API server refuses at once because the types are known (``device.driver == 1``) is expected not to come.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from dra.cel import Call, CelUnsupported, Index, ListOf, Literal, Name, Node, Operation, Select, parse
from dra.cel_values import (
    CelCrash,
    CelError,
    Semver,
    call_function,
    call_method,
    comparable,
    equal,
    kind_of,
    quantity,
    semver,
)
from dra.resource_api import Device

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def device_matches(expression: str, driver: str, device: Device) -> bool:
    """Whether a device of ``driver`` satisfies a selector.

    Raises CelUnsupported when the expression is outside the subset, CelError and CelCrash when CEL itself
    would fail.
    """
    result = _value(parse(expression), {"device": _device(driver, device)})
    if not isinstance(result, bool):
        raise CelError(f"selector {expression!r} gives {kind_of(result)}, not a bool")
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
        attributes.setdefault(domain, {})[key] = semver(str(value)) if kind == "version" else value
    for name, held in device.capacity.items():
        domain, key = _qualified(driver, name)
        capacity.setdefault(domain, {})[key] = quantity(held.value)
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
    raise CelError(f"{kind_of(container)} has no field {key!r}")


def _operation(symbol: str, operands: tuple[Node, ...], variables: Mapping[str, Any]) -> Any:
    if symbol in ("&&", "||"):
        return _logical(symbol == "||", operands, variables)
    if symbol == "?:":
        return _value(operands[1 if _boolean(_value(operands[0], variables)) else 2], variables)
    values = [_value(operand, variables) for operand in operands]
    if symbol == "in" and isinstance(values[0], Semver) and _constant(operands[1]):
        # cel-go looks a value up in a constant list by its hash, which a semantic version has not.
        raise CelCrash("semantic versions cannot be looked for in a constant list")
    if symbol == "!":
        return not _boolean(values[0])
    if symbol == "-" and len(values) == 1:
        return -_number(values[0])
    left, right = values
    if symbol == "==":
        return equal(left, right)
    if symbol == "!=":
        return not (comparable(left, right) and equal(left, right))
    if symbol == "in":
        if isinstance(right, dict):
            return left in right
        if isinstance(right, list):
            return any(comparable(left, item) and equal(left, item) for item in right)
        raise CelError(f"no such overload: in {kind_of(right)}")
    if symbol in _COMPARE:
        if kind_of(left) != kind_of(right) or kind_of(left) not in ("number", "string", "bool"):
            raise CelError(f"no such overload: {kind_of(left)} {symbol} {kind_of(right)}")
        return _COMPARE[symbol](left, right)
    return _arithmetic(symbol, left, right)


def _constant(node: Node) -> bool:
    """A list of literals, not empty."""
    return (
        isinstance(node, ListOf)
        and bool(node.items)
        and all(isinstance(item, Literal) for item in node.items)
    )


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
    if symbol == "+" and type(left) is type(right) and isinstance(left, (str, list)):
        return left + right
    if type(left) is not type(right) or type(left) not in (int, float):
        raise CelError(f"no such overload: {kind_of(left)} {symbol} {kind_of(right)}")
    if symbol == "+":
        return _bounded(left + right)
    if symbol == "-":
        return _bounded(left - right)
    if symbol == "*":
        return _bounded(left * right)
    if type(left) is float:
        raise CelUnsupported("CEL: division of doubles is outside the subset")
    if right == 0:
        raise CelError("division by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return _bounded(quotient if symbol == "/" else left - quotient * right)


def _bounded(number: int | float) -> int | float:
    if isinstance(number, int) and not -(1 << 63) <= number < 1 << 63:
        raise CelError("integer overflow")
    return number


def _call(
    target: Node | None, function: str, arguments: tuple[Node, ...], variables: Mapping[str, Any]
) -> Any:
    if function == "has" and target is None and len(arguments) == 1 and isinstance(arguments[0], Select):
        container = _value(arguments[0].operand, variables)
        if not isinstance(container, dict):
            raise CelError(f"{kind_of(container)} has no field {arguments[0].field!r}")
        # The map of domains finds every key, by its default.
        return isinstance(container, _Domains) or arguments[0].field in container
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
        return call_function(function, values)
    return call_method(_value(target, variables), function, values)


def _quantified(
    function: str, target: Node, arguments: tuple[Node, ...], variables: Mapping[str, Any]
) -> bool:
    each = _value(target, variables)
    if not isinstance(arguments[0], Name) or not isinstance(each, (list, dict)):
        raise CelUnsupported(f"CEL: {function} over {kind_of(each)} is outside the subset")
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


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError(f"no such overload: {kind_of(value)} as bool")
    return value


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise CelError(f"no such overload: -{kind_of(value)}")
    number: int | float = value
    return number
