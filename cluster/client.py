"""Talk to the API server: one connection pool, JSON bytes in and out, a deadline on everything.

Configuration, TLS, proxies and credentials (client certificates, service account token with refresh, exec
plugins, OIDC) are the official client's; its models are not used, since decoding them costs 30 times what
msgspec costs. A request answered 401 is tried once more with credentials loaded anew, which covers
rotated tokens and certificates of every kind. Does not retry otherwise, but for a GET on a pooled
connection that the server had closed.

Errors are in ``cluster.api_errors``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from cluster.api_errors import ApiError, ApiRefused, ApiUnreachable, NotConfigured, in_words
from cluster.credentials import authorisation, load_configuration
from cluster.envelopes import ObjectList, Status, know_types, list_decoder, object_decoder
from cluster.watch_stream import WatchStream

__all__ = [
    "APPLY_PATCH",
    "JSON",
    "JSON_PATCH",
    "MERGE_PATCH",
    "METADATA_LIST_ONLY",
    "METADATA_ONLY",
    "STRATEGIC_MERGE_PATCH",
    "Api",
    "ApiError",
    "ApiRefused",
    "ApiUnreachable",
    "NotConfigured",
    "Params",
    "WatchStream",
    "connect",
]

JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
"""``accept`` of an answer that has an object's metadata and nothing else."""
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
"""The same of a list."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

Params = Mapping[str, str | int | bool | None]
T = TypeVar("T")

_POOL_CONNECTIONS = 32  # one a watch and one a concurrent write; more are opened and closed at need


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
        know_types()  # its users' threads come after it
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
        self, path: str, kind: type[T], params: Params | None = None, *, page_size: int = 2000
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

    def list_raw(self, path: str, params: Params | None = None, *, accept: str = JSON) -> bytes:
        """Read a list as bytes."""
        return self.request("GET", path, params=params, accept=accept)

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
        accept: str = JSON,
    ) -> bytes:
        """Send one request and return the body of a 2xx answer. Raises ApiRefused, ApiUnreachable."""
        where = f"{method} {path}"
        response = self._send(method, path, params, body, content_type, read_timeout_seconds, accept)
        try:
            data = self._body(response, where)
        finally:
            response.release_conn()
        if not 200 <= response.status < 300:
            raise _refusal(response, data, where)
        return data

    def watch(
        self,
        path: str,
        params: Params | None = None,
        *,
        read_timeout_seconds: float | None = None,
        accept: str = JSON,
    ) -> WatchStream:
        """Open a watch: iterate the result for raw lines, ``close`` it from anywhere.

        ``read_timeout_seconds`` is the longest silence that is tolerated; keep it above ``timeoutSeconds``
        of ``params``, after which the server ends the watch by itself. Raises as ``request`` does.
        """
        where = f"WATCH {path}"
        params = {**(params or {}), "watch": "1"}
        response = self._send("GET", path, params, None, JSON, read_timeout_seconds, accept)
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
        accept: str,
    ) -> Any:
        """Send, once more with fresh credentials after a 401; return the unread response."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        loads = self._loads
        response = self._send_once(method, path, params, data, content_type, read_timeout_seconds, accept)
        if response.status != 401:
            return response
        with self._lock:
            if self._loads == loads:
                self._load()
        response.drain_conn()
        response.release_conn()
        return self._send_once(method, path, params, data, content_type, read_timeout_seconds, accept)

    def _send_once(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        content_type: str,
        read_timeout_seconds: float | None,
        accept: str,
    ) -> Any:
        import urllib3
        from urllib3.exceptions import HTTPError, ProtocolError

        headers = {"Accept": accept, "User-Agent": self._user_agent}
        if data is not None:
            headers["Content-Type"] = content_type
        with self._lock:  # the official refresh hook is not safe to run twice at once
            headers.update(self._credentials())
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
                    raise ApiUnreachable(f"{method} {path} at {self._host}: {in_words(error)}") from error
            except (HTTPError, OSError) as error:
                raise ApiUnreachable(f"{method} {path} at {self._host}: {in_words(error)}") from error
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _credentials(self) -> dict[str, str]:
        """Request headers that let us in; called under the lock."""
        return authorisation(self._configuration)

    def _body(self, response: Any, where: str) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            return bytes(response.read())
        except (HTTPError, OSError) as error:
            response.close()
            raise ApiUnreachable(f"{where} at {self._host}: answer broke off: {in_words(error)}") from error


def connect(kubeconfig: str | None = None, context: str | None = None, **options: Any) -> Api:
    """Connect to an API server; see ``Api.connect``."""
    return Api.connect(kubeconfig, context, **options)


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
