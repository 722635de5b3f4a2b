"""Label selectors as text, the form in which ``/scale`` names a workload's pods.

The grammar of the API server (apimachinery ``labels.Parse``): ``key=value``, ``key==value``, ``key!=value``,
``key in (a,b)``, ``key notin (a,b)``, ``key``, ``!key``, joined by commas. Numeric comparisons (``key>1``) do
not occur in workload selectors and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dra.requirements import holds

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]

_REQUIREMENT = re.compile(
    r"""\s*(?:
        !\s*(?P<absent>[\w./-]+)
      | (?P<key>[\w./-]+)\s*(?:
            (?P<equality>==|=|!=)\s*(?P<value>[\w.-]*)
          | \s(?P<set>in|notin)\s*\((?P<values>[\w.,\s-]*)\)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)


class SelectorRefused(ValueError):
    """The text is no label selector."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition; a pod without the label meets DoesNotExist and NotIn, as in the API server."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def met_by(self, labels: Mapping[str, str]) -> bool:
        return holds(self.operator, labels.get(self.key), self.values)


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must be met."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.met_by(labels) for requirement in self.requirements)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The labels that every match carries, for an index."""
        return tuple(
            (r.key, next(iter(r.values)))
            for r in self.requirements
            if r.operator == "In" and len(r.values) == 1
        )


def parse_selector(text: str) -> Selector:
    """Read a selector. Raises SelectorRefused, also for an empty one: it would select every pod."""
    requirements: list[Requirement] = []
    at = 0
    while at < len(text):
        found = _REQUIREMENT.match(text, at)
        if found is None:
            raise SelectorRefused(f"{text!r} is no label selector (stopped at {text[at : at + 20]!r})")
        requirements.append(_requirement(found))
        at = found.end()
    if not requirements:
        raise SelectorRefused("is empty and would select every pod")
    return Selector(tuple(requirements))


def _requirement(found: re.Match[str]) -> Requirement:
    if found["absent"]:
        return Requirement(found["absent"], "DoesNotExist")
    if found["equality"]:
        operator: Operator = "NotIn" if found["equality"] == "!=" else "In"
        return Requirement(found["key"], operator, frozenset({found["value"]}))
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], "In" if found["set"] == "in" else "NotIn", values)
    return Requirement(found["key"], "Exists")
