"""How a Prometheus is asked: the flags beside --prometheus-url, named as the controller's, and the client."""

from __future__ import annotations

import argparse
from pathlib import Path

from metrics.prometheus import Prometheus


def add_access(flags: argparse.ArgumentParser, *, timeout_seconds: float) -> None:
    """How it is asked; ``timeout_seconds`` of one query by default."""
    flags.add_argument(
        "--prometheus-timeout",
        type=float,
        default=timeout_seconds,
        metavar="SECONDS",
        help="how long to wait for an answer (default: %(default)g)",
    )
    flags.add_argument("--prometheus-matchers", default="", metavar="MATCHERS", help='e.g. cluster="eu-1"')
    flags.add_argument("--prometheus-ca-file", metavar="FILE", help="CA of an https Prometheus")
    flags.add_argument("--prometheus-token-file", metavar="FILE", help="file with a bearer token")


def prometheus(options: argparse.Namespace) -> Prometheus:
    """The client; to be closed. Raises OSError for an unreadable file, ValueError for a wrong URL."""
    token = options.prometheus_token_file
    bearer = Path(token).read_text().strip() if token else None
    return Prometheus(
        options.prometheus_url,
        options.prometheus_timeout,
        bearer_token=None if bearer is None else lambda: bearer,
        ca_file=options.prometheus_ca_file,
    )
