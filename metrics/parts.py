"""Several quantities in one PromQL answer: joined by ``or``, each tagged with its name in the label ``PART``.

Pure: query text.
"""

from __future__ import annotations

from typing import Final

PART: Final = "slicewise_part"


def tagged(promql: str, part: str) -> str:
    """The query, its series named ``part``."""
    return f'label_replace({promql}, "{PART}", "{part}", "", "")'
