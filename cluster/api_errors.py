"""What can go wrong between us and the API server.

ApiError
├── NotConfigured      no usable kubeconfig and not in a pod
├── ApiUnreachable     network: refused, reset, timed out
└── ApiRefused         the server's answer was no: status, reason, message, retry_after_seconds
"""

from __future__ import annotations


class ApiError(Exception):
    """Base of what can go wrong between us and the API server."""


class NotConfigured(ApiError):
    """There is no way to find or enter the API server."""


class ApiUnreachable(ApiError):
    """No answer came: connection refused or reset, name not found, deadline passed."""


class ApiRefused(ApiError):
    """The API server answered with an error.

    ``status`` is the HTTP status, ``reason`` the API's word for it (NotFound, Conflict, Expired, …).
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        where: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        at = f"{where}: " if where else ""
        super().__init__(f"{at}the API server refused with {status} {reason}: {message}")


def in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
