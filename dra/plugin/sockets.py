"""Where the kubelet looks for a plugin, and the servers that stand there.

The DRA socket is served first, then the registration socket appears in the folder that the kubelet watches.
With a pod's UID in both names two pods of a rolling upgrade stand side by side (kubelet 1.33 and later): the
kubelet prefers the one that connected last and keeps the other. A socket that nobody serves any more is
removed at the start. Deregistering is removing the registration socket; 30 s later the kubelet deletes the
driver's slices, unless another instance has registered.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from dra.plugin.handler import Handler
from dra.plugin.service import HealthStream, Registration, add_plugin, add_registration

log = logging.getLogger(__name__)

_MOST_PATH_BYTES = 107  # sockaddr_un.sun_path less its end
_WORKERS = 6  # calls at once; each health watcher keeps one
_GRACE_SECONDS = 5.0
_PROBE_SECONDS = 0.5
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 64))


class SocketRefused(Exception):
    """A socket cannot be made: the message says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class SocketPaths:
    """Both sockets of one instance."""

    registration: Path
    plugin: Path


def socket_paths(driver: str, registry: Path, plugins: Path, pod_uid: str) -> SocketPaths:
    """The paths by the kubelet's conventions. ``pod_uid`` "": an instance that is alone on its node.

    Raises SocketRefused for a path that the kernel cannot take.
    """
    suffix = f"-{pod_uid}" if pod_uid else ""
    paths = SocketPaths(registry / f"{driver}{suffix}-reg.sock", plugins / driver / f"dra{suffix}.sock")
    for path in (paths.registration, paths.plugin):
        length = len(str(path).encode())
        if length > _MOST_PATH_BYTES:
            raise SocketRefused(
                f"{path}: got {length} bytes, expected at most {_MOST_PATH_BYTES} for a unix socket; choose "
                "a shorter --kubelet-root"
            )
    return paths


class PluginServer:
    """The two servers of one instance."""

    def __init__(self, driver: str, paths: SocketPaths, handler: Handler, health: HealthStream) -> None:
        self.paths = paths
        self.registration = Registration(driver, str(paths.plugin))
        self._handler = handler
        self._health = health
        self._driver = driver
        self._servers: list[grpc.Server] = []

    def start(self) -> None:
        """Serve. Raises SocketRefused."""
        for path in (self.paths.plugin, self.paths.registration):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise SocketRefused(
                    f"{path.parent}: {problem.strerror}; is it mounted and writable?"
                ) from problem
        _remove_dead(self.paths.registration.parent.glob(f"{self._driver}*-reg.sock"))
        _remove_dead(self.paths.plugin.parent.glob("dra*.sock"))
        plugin = grpc.server(ThreadPoolExecutor(_WORKERS, "dra"), options=_OPTIONS)
        add_plugin(plugin, self._handler, self._health)
        self._serve(plugin, self.paths.plugin)
        registration = grpc.server(ThreadPoolExecutor(2, "registration"), options=_OPTIONS)
        add_registration(registration, self.registration)
        self._serve(registration, self.paths.registration)

    @property
    def present(self) -> bool:
        """Whether both sockets are still in their folders: the kubelet's folder may have been wiped."""
        return self.paths.registration.exists() and self.paths.plugin.exists()

    def stop(self) -> None:
        """Deregister, let running calls end, and remove the sockets. May be called twice."""
        for server in reversed(self._servers):  # registration first
            server.stop(_GRACE_SECONDS).wait()
        self._servers.clear()
        for path in (self.paths.registration, self.paths.plugin):
            path.unlink(missing_ok=True)

    def _serve(self, server: grpc.Server, path: Path) -> None:
        path.unlink(missing_ok=True)
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as problem:
            raise SocketRefused(f"{path}: cannot be listened on: {problem}") from problem
        server.start()
        self._servers.append(server)


def _remove_dead(paths: Iterable[Path]) -> None:
    """Remove sockets that nobody listens on: those of a driver that was killed."""
    for path in paths:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                log.info("removed the socket %s, which nobody serves", path)
                path.unlink(missing_ok=True)
            except OSError as problem:
                log.warning("%s: left alone: %s", path, problem)
