"""One PATCH, and in a number what became of it.

For writers that go on whatever the answer is; what a status means for them is theirs to say.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from cluster.api_errors import ApiRefused, ApiUnreachable

UNREACHABLE = 0


class Patcher(Protocol):
    """The one call of ``cluster.client.Api`` that is needed here."""

    def patch(self, path: str, body: object, content_type: str) -> object:
        """PATCH ``path``; raises ApiRefused or ApiUnreachable."""
        ...


def patched(api: Patcher, path: str, body: object, content_type: str) -> int:
    """Send it; the HTTP status (200 for every success), ``UNREACHABLE`` where no answer came."""
    try:
        api.patch(path, body, content_type)
    except ApiRefused as refused:
        return refused.status
    except ApiUnreachable:
        return UNREACHABLE
    return HTTPStatus.OK
