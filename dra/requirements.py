"""Whether a label meets one requirement of a selector: the operators of apimachinery's label selectors and of
core/v1 NodeSelectorRequirement, which means the same by those that both have. Pure.
"""

from __future__ import annotations

from collections.abc import Collection


def holds(operator: str, value: str | None, values: Collection[str]) -> bool:
    """Whether ``value`` (None: there is no such label) meets the requirement.

    ``operator``: In, NotIn, Exists, DoesNotExist, Gt or Lt. A label that is not there meets NotIn. Gt and Lt
    compare whole numbers; what is none does not hold, nor does an operator that is not known.
    """
    match operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                have, limit = int(value or ""), int(next(iter(values)))
            except (ValueError, StopIteration):
                return False
            return have > limit if operator == "Gt" else have < limit
        case _:
            return False
