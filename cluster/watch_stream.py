"""The lines of a watch, from an HTTP response that may fall silent, break off or be closed under us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from cluster.api_errors import ApiUnreachable, in_words

_CHUNK_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 25  # etcd refuses objects above 1.5 MiB; a longer line is not a watch event


class WatchStream:
    """The lines of a watch as they come; ``close`` may be called from another thread and ends the wait."""

    def __init__(self, response: Any, where: str) -> None:
        self._response = response
        self._where = where
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines without their newline; ends when the server ends the watch or on close.

        Raises ApiUnreachable when the connection breaks or stays silent beyond the read timeout.
        """
        parts: list[bytes] = []
        length = 0
        try:
            while True:
                data = self._read()
                if not data:
                    break
                *lines, rest = data.split(b"\n")
                for line in lines:
                    parts.append(line)
                    whole = b"".join(parts).strip()
                    parts, length = [], 0
                    if whole:
                        yield whole
                if rest:
                    parts.append(rest)
                    length += len(rest)
                if length > _LONGEST_LINE_BYTES:
                    raise ApiUnreachable(
                        f"{self._where}: got a watch line above {_LONGEST_LINE_BYTES} bytes, "
                        "expected one object a line; check what stands between us and the API server"
                    )
            if parts and not self._closed:
                raise ApiUnreachable(f"{self._where}: the watch broke off in the middle of a line")
        finally:
            self._response.close()

    def _read(self) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(self._response.read1(_CHUNK_BYTES))
        except (HTTPError, OSError, ValueError) as error:
            # ValueError: read of a response that close() has already closed.
            if self._closed:
                return b""
            raise ApiUnreachable(f"{self._where}: watch broken: {in_words(error)}") from error

    def close(self) -> None:
        """End the watch; a thread that waits for a line leaves its loop."""
        self._closed = True
        # The response may have ended or been returned to the pool in the meantime.
        with suppress(ValueError, RuntimeError, OSError, AttributeError):
            self._response.shutdown()
