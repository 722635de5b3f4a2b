"""Values and functions of device selectors: quantities, semantic versions, strings.

Functions: quantity, isQuantity, sign, semver, isSemver, size. Methods: size, startsWith, endsWith, contains,
matches, lowerAscii, upperAscii; of quantities and versions compareTo, isGreaterThan, isLessThan; isInteger,
asInteger; major, minor, patch. Sources: the CEL language definition and k8s.io/apiserver/pkg/cel/library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import total_ordering
from typing import Any

from dra.cel import CelUnsupported
from dra.quantity import amount


class CelError(Exception):
    """A runtime error of the expression, as CEL defines it: unknown key, wrong types, not a bool."""


class CelCrash(Exception):
    """The expression makes cel-go itself fail: no ``||`` or ``&&`` absorbs that."""


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


def call_function(function: str, values: list[Any]) -> Any:
    """The result of ``function(values)``. Raises CelError and CelUnsupported."""
    if function in _OF_STRINGS and len(values) == 1:
        value = values[0]
        if not isinstance(value, str):
            raise CelError(f"no such overload: {function}({kind_of(value)})")
        if function == "quantity":
            return quantity(value)
        if function == "isQuantity":
            return amount(value) is not None
        if function == "semver":
            return semver(value)
        if function == "isSemver":
            return _SEMVER.fullmatch(value) is not None
    if function == "size" and len(values) == 1:
        return call_method(values[0], "size", [])
    if function == "sign" and len(values) == 1 and isinstance(values[0], Quantity):
        return (values[0].value > 0) - (values[0].value < 0)
    raise CelUnsupported(f"CEL: function {function} is outside the subset")


_OF_STRINGS = frozenset(("quantity", "isQuantity", "semver", "isSemver"))
_ARGUMENTS: Mapping[str, int] = {
    **dict.fromkeys(("size", "lowerAscii", "upperAscii", "isInteger", "asInteger"), 0),
    **dict.fromkeys(("major", "minor", "patch"), 0),
    **dict.fromkeys(("startsWith", "endsWith", "contains", "matches"), 1),
    **dict.fromkeys(("compareTo", "isGreaterThan", "isLessThan"), 1),
}
"""Methods of the subset, and how many arguments they take."""

_STRING_METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def call_method(target: Any, method: str, values: list[Any]) -> Any:
    """The result of ``target.method(values)``. Raises CelError and CelUnsupported."""
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
    raise _no_overload(target, method, values)


def _no_overload(target: Any, method: str, values: list[Any]) -> CelError | CelUnsupported:
    """A method of the subset used on other types fails in CEL too; of others nothing is known."""
    if _ARGUMENTS.get(method) == len(values):
        return CelError(f"no such overload: {method} of {kind_of(target)}")
    return CelUnsupported(f"CEL: method {method} of {kind_of(target)} is outside the subset")


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
    raise _no_overload(target, method, values)


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


def semver(text: str) -> Semver:
    """A semantic version in full form. Raises CelError."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError(f"not a semantic version: {text!r}")
    pre = tuple(match.group(4).split(".")) if match.group(4) else ()
    return Semver((int(match.group(1)), int(match.group(2)), int(match.group(3))), pre)


def quantity(text: str | int) -> Quantity:
    """A Kubernetes quantity. Raises CelError."""
    value = amount(text)
    if value is None:
        raise CelError(f"not a quantity: {text!r}")
    return Quantity(value)


def comparable(left: Any, right: Any) -> bool:
    """Quantities and semantic versions on the left can only be compared with their like."""
    return not isinstance(left, (Quantity, Semver)) or type(left) is type(right)


def equal(left: Any, right: Any) -> bool:
    """``left == right``: values of different types differ. Raises CelError unless ``comparable``."""
    if not comparable(left, right):
        raise CelError(f"no such overload: {kind_of(left)} == {kind_of(right)}")
    return kind_of(left) == kind_of(right) and bool(left == right)


def kind_of(value: Any) -> str:
    """The name of a value's type, for messages and comparisons."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, dict):
        return "map"
    names = {str: "string", list: "list", type(None): "null"}
    return names.get(type(value), type(value).__name__.lower())
