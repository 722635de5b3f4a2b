"""``slicewise-scheduler``: the scheduler extender as a process.

    slicewise-scheduler --kubeconfig FILE --listen :8080           live, against a cluster (in a pod: no
                                                                   --kubeconfig)
    slicewise-scheduler --from-snapshot FILE --listen 127.0.0.1:0  the same answers from a file, with no
                                                                   cluster

Parses flags, builds the parts, serves in the main thread until SIGTERM or SIGINT, stops the parts. A user's
mistake ends in one sentence and exit status 2, never in a traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scheduler.extender.server import CannotListen, ExtenderServer, Tls, listen, settle_memory

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from metrics.prometheus import Prometheus

log = logging.getLogger("slicewise-scheduler")

# Solving prices and applying events share the interpreter with requests: hand it over ten times sooner than
# the default.
_SWITCH_SECONDS = 0.0005


class BadFlag(ValueError):
    """A flag that cannot be used; the text says which, what came and what was expected."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    flags = argparse.ArgumentParser(
        prog="slicewise-scheduler",
        description="Scheduler extender: filters and ranks nodes for GPU pods by what each placement costs.",
    )
    flags.add_argument(
        "--listen",
        default=":8080",
        metavar="HOST:PORT",
        help="HTTP address; port 0: the system chooses (%(default)s)",
    )
    source = flags.add_mutually_exclusive_group()
    source.add_argument("--kubeconfig", metavar="FILE", help="default: in-cluster, then $KUBECONFIG")
    source.add_argument(
        "--from-snapshot", metavar="FILE", help="serve a file of kubectl slicewise snapshot; no cluster"
    )
    flags.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    flags.add_argument(
        "--policy-namespace",
        default="slicewise-system",
        metavar="NAME",
        help="where the cluster policy is (%(default)s)",
    )
    flags.add_argument(
        "--policy-name",
        default="slicewise-policy",
        metavar="NAME",
        help="ConfigMap of the cluster policy (%(default)s)",
    )
    flags.add_argument(
        "--prometheus-url",
        metavar="URL",
        help="learn from it how much pods slow their neighbours down (default: the policy's numbers stand)",
    )
    flags.add_argument("--prometheus-ca-file", metavar="FILE", help="CA of an https Prometheus, PEM")
    flags.add_argument("--prometheus-token-file", metavar="FILE", help="bearer token, read at each query")
    flags.add_argument("--bind", action="store_true", help="offer /scheduler/bind (a bindVerb is configured)")
    flags.add_argument("--tls-cert-file", metavar="FILE", help="serve HTTPS with this certificate")
    flags.add_argument("--tls-key-file", metavar="FILE", help="key of the certificate")
    flags.add_argument(
        "--tls-client-ca-file", metavar="FILE", help="serve only clients with a certificate of this CA"
    )
    flags.add_argument(
        "--drain-seconds",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="serve on so long after SIGTERM, not ready (%(default)s)",
    )
    flags.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(%(default)s)"
    )
    return flags


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``:PORT`` or ``[IPV6]:PORT``. Raises BadFlag."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise BadFlag(f"--listen: got {text!r}, expected HOST:PORT with a port from 0 to 65535")
    return host.strip("[]") or "0.0.0.0", int(port)


def tls_of(flags: argparse.Namespace) -> Tls | None:
    """The TLS files, checked as far as possible before anything is started. Raises BadFlag."""
    if not (flags.tls_cert_file or flags.tls_key_file or flags.tls_client_ca_file):
        return None
    if not (flags.tls_cert_file and flags.tls_key_file):
        raise BadFlag("--tls-cert-file and --tls-key-file: got one of them, expected both or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(flags.tls_cert_file, flags.tls_key_file)
    except OSError as error:
        raise BadFlag(
            f"--tls-cert-file {flags.tls_cert_file}, --tls-key-file {flags.tls_key_file}: {error}; "
            "expected PEM files of a certificate and its key"
        ) from error
    if flags.tls_client_ca_file:
        try:
            context.load_verify_locations(flags.tls_client_ca_file)
        except OSError as error:
            raise BadFlag(
                f"--tls-client-ca-file {flags.tls_client_ca_file}: {error}; expected a PEM file of CAs"
            ) from error
    return Tls(flags.tls_cert_file, flags.tls_key_file, flags.tls_client_ca_file)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit status."""
    flags = parser().parse_args(argv)
    logging.basicConfig(
        level=flags.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    sys.setswitchinterval(_SWITCH_SECONDS)
    from cluster.api_errors import ApiError
    from cluster.policy import PolicyRefused
    from scheduler.snapshot import SnapshotRefused

    try:
        host, port = parse_address(flags.listen)
        tls = tls_of(flags)
        listener = listen(host, port)
        with listener:
            run = _snapshot if flags.from_snapshot else _live
            run(flags, tls, listener)
    except (BadFlag, CannotListen, SnapshotRefused, PolicyRefused, ApiError) as mistake:
        print(f"slicewise-scheduler: {mistake}", file=sys.stderr)
        return 2
    return 0


def _snapshot(flags: argparse.Namespace, tls: Tls | None, listener: socket.socket) -> None:
    from scheduler.service import from_snapshot
    from scheduler.snapshot import read

    # The snapshot is dropped before serving: its raw objects are several times the fleet's size.
    service = from_snapshot(read(flags.from_snapshot), flags.from_snapshot)
    server = _server(service.web(lambda: server.draining()), flags, tls)
    service.start()
    try:
        settle_memory()
        _serve(server, listener, tls, f"{len(service.fleet.rows)} nodes of {flags.from_snapshot}")
    finally:
        service.stop()


def _live(flags: argparse.Namespace, tls: Tls | None, listener: socket.socket) -> None:
    from cluster.client import Api
    from scheduler.live import ApiBinder, Live
    from scheduler.planner.gates import GateWatch
    from scheduler.planner.nominate import Nominator
    from scheduler.windows.guard import WindowGuard

    prometheus = _prometheus(flags)
    api = Api.connect(flags.kubeconfig, flags.context)
    live = Live(
        api,
        policy_namespace=flags.policy_namespace,
        policy_name=flags.policy_name,
        prometheus=prometheus,
    )
    planner = live.service.exposition.planner
    gates = GateWatch(
        nominator=Nominator(api, concurrency=2),
        timeout_seconds=lambda: live.policy().planner.gate_timeout_seconds,
        released=lambda pods: planner.gate_timeouts.inc(len(pods)),
    )
    live.feed.listen("pods", gates)
    releases = live.service.exposition.batch.releases
    windows = WindowGuard(
        api,
        released=lambda _held, outcome: releases.labels("guard" if outcome == "done" else "error").inc(),
    )
    live.feed.listen("pods", windows.pods)
    jobs = windows.job_reflector(api)
    app = live.service.web(lambda: server.draining(), ApiBinder(api) if flags.bind else None)
    server = _server(app, flags, tls)
    live.start()
    gates.start()
    jobs.start()
    windows.start()
    try:
        _serve(server, listener, tls, f"the cluster at {api.host}")
    finally:
        windows.stop()
        jobs.stop()
        gates.stop()
        live.stop()
        if prometheus is not None:
            prometheus.close()
        api.close()


def _prometheus(flags: argparse.Namespace) -> Prometheus | None:
    for flag, path in (
        ("--prometheus-ca-file", flags.prometheus_ca_file),
        ("--prometheus-token-file", flags.prometheus_token_file),
    ):
        if path is not None and not os.access(path, os.R_OK):
            raise BadFlag(f"{flag}: cannot read {path!r}; check path and rights")
    if flags.prometheus_url is None:
        return None
    # Imported here: it brings 19 MiB that a scheduler without it need not have.
    from metrics.prometheus import Prometheus, token_in

    try:
        return Prometheus(
            flags.prometheus_url,
            bearer_token=token_in(flags.prometheus_token_file),
            ca_file=flags.prometheus_ca_file,
        )
    except ValueError as error:
        raise BadFlag(f"--prometheus-url: {error}") from error


def _server(app: ASGIApp, flags: argparse.Namespace, tls: Tls | None) -> ExtenderServer:
    return ExtenderServer(app, tls=tls, drain_seconds=flags.drain_seconds)


def _serve(server: ExtenderServer, listener: socket.socket, tls: Tls | None, what: str) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    shown = f"[{host}]" if ":" in host else host
    # On stdout, and flushed: with port 0 this line is how a script learns the address.
    print(f"serving {what} on {scheme}://{shown}:{port}", flush=True)
    server.serve_on(listener)


if __name__ == "__main__":
    sys.exit(main())
