"""``slicewise-controller``: the autoscaler as a process.

Parses flags, builds the parts, serves HTTP in the main thread until SIGTERM or SIGINT, stops the parts. A
user's mistake ends in one sentence and exit status 2, never in a traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence

from autoscaler.compose import Options, build
from autoscaler.doors.side import DoorOptions
from autoscaler.nodes.expander import AddressTaken, Tls
from cluster.api_errors import ApiError
from cluster.version import installed_version

log = logging.getLogger("slicewise-controller")


class BadAddress(ValueError):
    """The text is no HOST:PORT."""


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``:PORT`` or ``[IPV6]:PORT``; port 0 lets the system choose. Raises BadAddress."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise BadAddress(f"--listen: got {text!r}, expected HOST:PORT with a port from 0 to 65535")
    return host.strip("[]") or "0.0.0.0", int(port)


def port_number(text: str) -> int:
    """Read a port, 0 to let the system choose. Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a port from 0 to 65535")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    flags = argparse.ArgumentParser(
        prog="slicewise-controller",
        description="Sets replicas of GPU inference workloads from requests in flight, latency and GPU use. "
        "Workloads are named by ConfigMaps labelled slicewise.io/policy=autoscaling.",
    )
    flags.add_argument("--prometheus-url", required=True, metavar="URL", help="Prometheus query API")
    flags.add_argument(
        "--prometheus-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for an answer (%(default)g)",
    )
    flags.add_argument(
        "--prometheus-matchers",
        default="",
        metavar="MATCHERS",
        help='label matchers added to every question, as in cluster="eu-1"',
    )
    flags.add_argument("--prometheus-ca-file", metavar="FILE", help="CA of an https Prometheus, PEM")
    flags.add_argument("--prometheus-token-file", metavar="FILE", help="bearer token, read at each query")
    flags.add_argument("--kubeconfig", metavar="FILE", help="default: in-cluster, then $KUBECONFIG")
    flags.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    flags.add_argument(
        "--namespace",
        default="slicewise-system",
        metavar="NAME",
        help="where the cluster policy, the Lease and what is remembered are (%(default)s)",
    )
    flags.add_argument(
        "--policy-name",
        default="slicewise-policy",
        metavar="NAME",
        help="ConfigMap of the cluster policy (%(default)s)",
    )
    flags.add_argument(
        "--lease", default="slicewise-controller", metavar="NAME", help="name of the Lease (%(default)s)"
    )
    flags.add_argument(
        "--identity", metavar="NAME", help="name in the Lease (default: host name and a suffix)"
    )
    flags.add_argument("--listen", default=":8081", metavar="HOST:PORT", help="HTTP address (%(default)s)")
    flags.add_argument(
        "--expander-port",
        type=port_number,
        metavar="PORT",
        help="serve Cluster Autoscaler's gRPC expander on this port (default: not)",
    )
    flags.add_argument(
        "--expander-cert-file",
        metavar="FILE",
        help="certificate that it shows, PEM; Cluster Autoscaler talks over TLS only",
    )
    flags.add_argument("--expander-key-file", metavar="FILE", help="key of that certificate, PEM")
    flags.add_argument("--dry-run", action="store_true", help="decide and report, write nothing")
    doors = flags.add_argument_group("doors for HPA and KEDA", "closed unless their port is given")
    doors.add_argument(
        "--external-metrics-port",
        type=port_number,
        metavar="PORT",
        help="external.metrics.k8s.io for HPA, over TLS",
    )
    doors.add_argument("--keda-port", type=port_number, metavar="PORT", help="KEDA's external scaler, gRPC")
    doors.add_argument("--serving-cert-file", metavar="FILE", help="certificate of both doors, PEM")
    doors.add_argument("--serving-key-file", metavar="FILE", help="its key; without one KEDA's is plaintext")
    doors.add_argument("--keda-client-ca-file", metavar="FILE", help="only KEDA with a certificate of it")
    doors.add_argument("--pod-name", metavar="NAME", help="our pod, labelled while it leads")
    flags.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(%(default)s)"
    )
    return flags


def options_of(arguments: argparse.Namespace) -> Options:
    """Turn parsed flags into options. Raises ValueError for flags that contradict one another."""
    return Options(
        prometheus_url=arguments.prometheus_url,
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        namespace=arguments.namespace,
        policy_name=arguments.policy_name,
        lease=arguments.lease,
        identity=arguments.identity or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        prometheus_timeout_seconds=arguments.prometheus_timeout,
        prometheus_matchers=arguments.prometheus_matchers,
        prometheus_ca_file=arguments.prometheus_ca_file,
        prometheus_token_file=arguments.prometheus_token_file,
        dry_run=arguments.dry_run,
        version=installed_version(),
        doors=DoorOptions(
            external_metrics_port=arguments.external_metrics_port,
            keda_port=arguments.keda_port,
            host="" if arguments.listen.startswith(":") else parse_address(arguments.listen)[0],
            certificate=arguments.serving_cert_file,
            key=arguments.serving_key_file,
            keda_client_authority=arguments.keda_client_ca_file,
            pod=arguments.pod_name,
        ),
        expander_address=_expander_address(arguments),
        expander_tls=_expander_tls(arguments),
    )


def _expander_address(arguments: argparse.Namespace) -> str | None:
    port: int | None = arguments.expander_port
    if port is None:
        return None
    return f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}"


def _expander_tls(arguments: argparse.Namespace) -> Tls | None:
    certificate, key = arguments.expander_cert_file, arguments.expander_key_file
    if (certificate is None) != (key is None):
        raise ValueError("--expander-cert-file and --expander-key-file: got one, expected both or none")
    if arguments.expander_port is not None and certificate is None:
        log.warning(
            "--expander-port without --expander-cert-file: plaintext, and Cluster Autoscaler talks to the "
            "expander over TLS only"
        )
    return None if certificate is None else Tls(certificate, key)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; return the exit status."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        host, port = parse_address(arguments.listen)
        for flag in (
            "prometheus_ca_file",
            "prometheus_token_file",
            "serving_cert_file",
            "serving_key_file",
            "keda_client_ca_file",
            "expander_cert_file",
            "expander_key_file",
        ):
            path = getattr(arguments, flag)
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"--{flag.replace('_', '-')}: cannot read {path!r}; check path and rights")
        parts = build(options_of(arguments))
    except (ApiError, ValueError) as problem:
        print(f"slicewise-controller: {problem}", file=sys.stderr)
        return 2

    import uvicorn

    from autoscaler.app import create_app

    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as problem:
        print(
            f"slicewise-controller: --listen: cannot listen on {arguments.listen}: {problem}", file=sys.stderr
        )
        return 2
    server = uvicorn.Server(
        uvicorn.Config(create_app(parts), log_config=None, access_log=False, timeout_keep_alive=120)
    )
    log.info("serving on http://%s:%d", *listener.getsockname()[:2])

    def ask_to_stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal once more when it has stopped serving; the parts must still stop after that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    try:
        parts.start()
    except AddressTaken as problem:
        print(f"slicewise-controller: {problem}", file=sys.stderr)
        listener.close()
        return 2
    try:
        server.run(sockets=[listener])
    finally:
        parts.stop()
        listener.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
