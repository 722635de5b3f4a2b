"""An answer that is no data, and why."""

from __future__ import annotations

from typing import Any

from metrics.samples import NoData


def absent(answer: Any, cause: str) -> str:
    """The reason that it gives; fails where there is a value, or another cause."""
    assert isinstance(answer, NoData), answer
    assert answer.cause == cause, answer
    assert answer.reason
    return answer.reason
