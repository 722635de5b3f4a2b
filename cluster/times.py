"""Times as the API writes them, RFC 3339, to Unix seconds and back.

``metav1.Time`` has whole seconds, ``metav1.MicroTime`` six decimals; the API server writes both in UTC. A
time without a zone, which only people write, is read as UTC: it means the same on every machine. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime


def unix_seconds(text: str | None) -> float | None:
    """Read an RFC 3339 time; None for none, or for text that is no time."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rfc3339(seconds: float) -> str:
    """Unix seconds as the API's Time, to the nearest second."""
    return datetime.fromtimestamp(round(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(seconds: float) -> str:
    """Unix seconds as the API's MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
