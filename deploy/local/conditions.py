"""What an object's conditions say (metav1.Condition, and their kin of pods, nodes and definitions).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def condition(document: Mapping[str, Any], kind: str) -> str:
    """The status of an object's condition, "" where it has none: a new definition lists them as null."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")
