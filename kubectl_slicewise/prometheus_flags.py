"""How a Prometheus is asked: the flags beside --prometheus-url, named as the controller's, and the client."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from metrics.prometheus import Prometheus


def add_access(flags: argparse.ArgumentParser, *, timeout_seconds: float) -> None:
    """How it is asked; ``timeout_seconds`` of one query by default."""
    flags.add_argument(
        "--prometheus-timeout",
        type=above_zero,
        default=timeout_seconds,
        metavar="SECONDS",
        help="how long to wait for an answer (default: %(default)g)",
    )
    flags.add_argument(
        "--prometheus-matchers",
        default="",
        metavar="MATCHERS",
        help='label matchers added to every question, as in cluster="eu-1" (default: none)',
    )
    flags.add_argument("--prometheus-ca-file", metavar="FILE", help="CA of an https Prometheus, PEM")
    flags.add_argument("--prometheus-token-file", metavar="FILE", help="file with a bearer token")


def above_zero(text: str) -> float:
    """A flag's number above 0. Raises argparse.ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0")
    return number


def no_answer(reason: str) -> str:
    """What is said where Prometheus gave none, for ``reason``."""
    return (
        f"{reason}; expected a Prometheus query API there: check --prometheus-url, the token, the CA and the "
        "network"
    )


def prometheus(options: argparse.Namespace) -> Prometheus:
    """The client; to be closed. Raises ValueError for a wrong URL or a file that cannot be read."""
    token = options.prometheus_token_file
    bearer = _read("--prometheus-token-file", token).strip() if token else None
    if options.prometheus_ca_file:
        _read("--prometheus-ca-file", options.prometheus_ca_file)
    return Prometheus(
        options.prometheus_url,
        options.prometheus_timeout,
        bearer_token=None if bearer is None else lambda: bearer,
        ca_file=options.prometheus_ca_file,
    )


def _read(flag: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        got = getattr(problem, "strerror", None) or problem
        raise ValueError(f"{flag}: {path}: got {got}, expected a text file; check path and rights") from None
