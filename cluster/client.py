"""Talk to the API server: one connection pool, JSON bytes in and out, a deadline on everything.

Configuration, TLS, proxies and credentials (client certificates, service account token with refresh, exec
plugins, OIDC) are the official client's; its models are not used, since decoding them costs 30 times what
msgspec costs. A request answered 401 is tried once more with credentials loaded anew, which covers
rotated tokens and certificates of every kind. Does not retry otherwise, but for a GET on a pooled
connection that the server had closed.

Errors:
    ApiError
    ├── NotConfigured      no usable kubeconfig and not in a pod
    ├── ApiUnreachable     network: refused, reset, timed out
    └── ApiRefused         the server's answer was no: status, reason, message, retry_after_seconds
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from cluster.wire import ObjectList, Status, list_decoder, object_decoder

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

Params = Mapping[str, str | int | bool | None]
T = TypeVar("T")

_CHUNK_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 25  # etcd refuses objects above 1.5 MiB; a longer line is not a watch event
_POOL_CONNECTIONS = 32  # one a watch and one a concurrent write; more are opened and closed at need


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
            raise ApiUnreachable(f"{self._where}: watch broken: {_words(error)}") from error

    def close(self) -> None:
        """End the watch; a thread that waits for a line leaves its loop."""
        self._closed = True
        # The response may have ended or been returned to the pool in the meantime.
        with suppress(ValueError, RuntimeError, OSError, AttributeError):
            self._response.shutdown()


class Api:
    """A connection to one API server. Safe to share between threads."""

    def __init__(
        self,
        configure: Callable[[], Any],
        *,
        connect_timeout_seconds: float = 5.0,
        read_timeout_seconds: float = 30.0,
        user_agent: str = "slicewise",
    ) -> None:
        """``configure`` returns a ``kubernetes.client.Configuration``; called again after a 401."""
        self._configure = configure
        self._connect_timeout = connect_timeout_seconds
        self._read_timeout = read_timeout_seconds
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._loads = 0
        self._load()

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None, **options: Any) -> Api:
        """Connect by the given kubeconfig; without one, as the pod's service account when in a pod, else
        by $KUBECONFIG or ~/.kube/config. Nothing is sent yet. Raises NotConfigured.
        """
        return cls(lambda: load_configuration(kubeconfig, context), **options)

    def _load(self) -> None:
        from kubernetes.client.rest import RESTClientObject

        configuration = self._configure()
        configuration.connection_pool_maxsize = max(
            _POOL_CONNECTIONS, configuration.connection_pool_maxsize or 0
        )
        configuration.keep_alive = True  # so that the kernel notices a peer that vanished
        self._configuration = configuration
        self._host = str(configuration.host).rstrip("/")
        # The official client's pool: its handling of TLS, SNI and proxies, without its models.
        self._pool = RESTClientObject(configuration).pool_manager
        self._loads += 1

    @property
    def host(self) -> str:
        """URL of the API server."""
        return self._host

    def get(self, path: str, kind: type[T], params: Params | None = None) -> T:
        """Read one object."""
        return _decoded(object_decoder(kind), self.request("GET", path, params=params), path)

    def list_page(self, path: str, kind: type[T], params: Params | None = None) -> ObjectList[T]:
        """Read one page of a list."""
        return _decoded(list_decoder(kind), self.list_raw(path, params), path)

    def list_objects(
        self, path: str, kind: type[T], params: Params | None = None, *, page_size: int = 500
    ) -> list[T]:
        """Read a whole list, page by page."""
        items: list[T] = []
        token = ""
        while True:
            page = self.list_page(
                path, kind, {**(params or {}), "limit": page_size, "continue": token or None}
            )
            items.extend(page.items or ())
            token = page.metadata.continue_token
            if not token:
                return items

    def list_raw(self, path: str, params: Params | None = None) -> bytes:
        """Read a list as bytes."""
        return self.request("GET", path, params=params)

    def post(self, path: str, body: object, content_type: str = JSON, params: Params | None = None) -> bytes:
        """Create."""
        return self.request("POST", path, params=params, body=body, content_type=content_type)

    def put(self, path: str, body: object, content_type: str = JSON, params: Params | None = None) -> bytes:
        """Replace."""
        return self.request("PUT", path, params=params, body=body, content_type=content_type)

    def patch(
        self, path: str, body: object, content_type: str = MERGE_PATCH, params: Params | None = None
    ) -> bytes:
        """Change in part."""
        return self.request("PATCH", path, params=params, body=body, content_type=content_type)

    def delete(self, path: str, body: object = None, params: Params | None = None) -> bytes:
        """Delete."""
        return self.request("DELETE", path, params=params, body=body)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        content_type: str = JSON,
        read_timeout_seconds: float | None = None,
    ) -> bytes:
        """Send one request and return the body of a 2xx answer. Raises ApiRefused, ApiUnreachable."""
        where = f"{method} {path}"
        response = self._send(method, path, params, body, content_type, read_timeout_seconds)
        try:
            data = self._body(response, where)
        finally:
            response.release_conn()
        if not 200 <= response.status < 300:
            raise _refusal(response, data, where)
        return data

    def watch(
        self, path: str, params: Params | None = None, *, read_timeout_seconds: float | None = None
    ) -> WatchStream:
        """Open a watch: iterate the result for raw lines, ``close`` it from anywhere.

        ``read_timeout_seconds`` is the longest silence that is tolerated; keep it above ``timeoutSeconds``
        of ``params``, after which the server ends the watch by itself. Raises as ``request`` does.
        """
        where = f"WATCH {path}"
        response = self._send("GET", path, {**(params or {}), "watch": "1"}, None, JSON, read_timeout_seconds)
        if response.status != 200:
            try:
                data = self._body(response, where)
            finally:
                response.release_conn()
            raise _refusal(response, data, where)
        return WatchStream(response, where)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: object,
        content_type: str,
        read_timeout_seconds: float | None,
    ) -> Any:
        """Send, once more with fresh credentials after a 401; return the unread response."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        loads = self._loads
        response = self._send_once(method, path, params, data, content_type, read_timeout_seconds)
        if response.status != 401:
            return response
        with self._lock:
            if self._loads == loads:
                self._load()
        response.drain_conn()
        response.release_conn()
        return self._send_once(method, path, params, data, content_type, read_timeout_seconds)

    def _send_once(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        content_type: str,
        read_timeout_seconds: float | None,
    ) -> Any:
        import urllib3
        from urllib3.exceptions import HTTPError, ProtocolError

        headers = {"Accept": JSON, "User-Agent": self._user_agent}
        if data is not None:
            headers["Content-Type"] = content_type
        with self._lock:  # the official refresh hook is not safe to run twice at once
            for setting in self._configuration.auth_settings().values():
                if setting["value"]:
                    headers[setting["key"]] = setting["value"]
            pool = self._pool
        url = self._host + path
        query = _query(params)
        if query:
            url += ("&" if "?" in path else "?") + query
        timeout = urllib3.Timeout(
            connect=self._connect_timeout,
            read=self._read_timeout if read_timeout_seconds is None else read_timeout_seconds,
        )
        for again in (method == "GET", False):
            try:
                return pool.request(
                    method,
                    url,
                    body=data,
                    headers=headers,
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
            except ProtocolError as error:
                if not again:
                    raise ApiUnreachable(f"{method} {path} at {self._host}: {_words(error)}") from error
            except (HTTPError, OSError) as error:
                raise ApiUnreachable(f"{method} {path} at {self._host}: {_words(error)}") from error
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _body(self, response: Any, where: str) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(response.read())
        except (HTTPError, OSError) as error:
            response.close()
            raise ApiUnreachable(f"{where} at {self._host}: answer broke off: {_words(error)}") from error


def connect(kubeconfig: str | None = None, context: str | None = None, **options: Any) -> Api:
    """Connect to an API server; see ``Api.connect``."""
    return Api.connect(kubeconfig, context, **options)


def load_configuration(kubeconfig: str | None, context: str | None) -> Any:
    """Return the official client's Configuration for the given file, the pod or the user's default file.

    Raises NotConfigured.
    """
    # Imported here: the policy models are used by commands that never talk to an API server.
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, load_incluster_config
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config

    configuration = Configuration()
    try:
        if kubeconfig is None and context is None and os.environ.get(SERVICE_HOST_ENV_NAME):
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise NotConfigured(
            f"{kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION}: got {_words(error)}, expected a kubeconfig"
            + (f" with context {context!r}" if context else "")
            + " or a pod's service account; give --kubeconfig, set KUBECONFIG or run in a pod"
        ) from error
    return configuration


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes, path: str) -> T:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ApiUnreachable(
            f"GET {path}: got an answer that is not the expected JSON ({error}); "
            "check what stands between us and the API server"
        ) from error


def _query(params: Params | None) -> str:
    pairs = [
        (key, str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in (params or {}).items()
        if value is not None
    ]
    return urlencode(pairs)


def _refusal(response: Any, data: bytes, where: str) -> ApiRefused:
    try:
        status = object_decoder(Status).decode(data)
    except msgspec.DecodeError:
        status = Status(message=data[:200].decode("utf-8", "replace").strip() or "(no body)")
    wait = response.headers.get("Retry-After", "")
    return ApiRefused(
        response.status,
        status.reason or str(response.reason or ""),
        status.message,
        where=where,
        retry_after_seconds=float(wait) if wait.isascii() and wait.isdecimal() else None,
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
