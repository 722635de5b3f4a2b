"""Server credentials of a gRPC port that follow their files: a rotated certificate serves what connects next.

gRPC asks at every handshake whether there is a newer configuration (``grpc.dynamic_ssl_server_credentials``);
files whose times have not changed cost three ``stat``. A pair that is not usable, or only half written,
leaves the old one serving. Shared by the KEDA door and Cluster Autoscaler's expander.
"""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from typing import Any

import grpc

log = logging.getLogger(__name__)


def server_credentials(certificate: str, key: str, client_authority: str | None = None) -> Any:
    """TLS from PEM files; with ``client_authority`` clients must show a certificate of it. Raises OSError."""
    files = _Files(certificate, key, client_authority)
    return grpc.dynamic_ssl_server_credentials(files.read(), files.newer, client_authority is not None)


class _Files:
    def __init__(self, certificate: str, key: str, client_authority: str | None) -> None:
        self._certificate, self._key, self._authority = certificate, key, client_authority
        self._seen = self._times()

    def read(self) -> Any:
        authority = None if self._authority is None else Path(self._authority).read_bytes()
        pair = Path(self._key).read_bytes(), Path(self._certificate).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], authority)

    def newer(self) -> Any:
        """The configuration of changed files, None for the one that serves. Called by gRPC's threads."""
        times = self._times()
        if times == self._seen:
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            found = self.read()
        except (OSError, ssl.SSLError) as problem:
            if times:
                self._seen = times  # said once, and looked at again when the files change
                log.warning(
                    "%s: the new certificate is not usable, the old one stays: %s", self._key, problem
                )
            return None
        self._seen = times
        log.info("%s: new serving certificate", self._certificate)
        return found

    def _times(self) -> tuple[int, ...]:
        paths = [path for path in (self._certificate, self._key, self._authority) if path is not None]
        try:
            return tuple(os.stat(path).st_mtime_ns for path in paths)
        except OSError:
            return ()
