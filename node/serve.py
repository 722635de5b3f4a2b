"""``slicewise-node serve`` as a process: arguments, cards, signals, exit status."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading

from cluster.api_errors import NotConfigured
from cluster.version import installed_version
from dra.cards import CardRefused, NoDriver
from dra.driver.checkpoint import CheckpointRefused
from dra.nvml import open_cards
from dra.plugin.sockets import SocketRefused
from node.endpoint import EndpointRefused
from node.light_api import connect
from node.options import OptionsRefused, serve_options
from node.service import NodeService


def run(told: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        options = serve_options(told)
    except OptionsRefused as problem:
        return _refuse(str(problem), 2)
    cards = open_cards(system_files=options.sys_root)
    if isinstance(cards, NoDriver):
        return _refuse(cards.advice)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        api = connect(options.kubeconfig, user_agent="slicewise-node")
        service = NodeService(options, cards, cards.versions(), api, installed_version())
    except (NotConfigured, EndpointRefused, SocketRefused, CardRefused, OSError) as problem:
        return _refuse(str(problem))
    try:
        service.start()
    except (CheckpointRefused, CardRefused, SocketRefused, OSError) as problem:
        service.stop()
        return _refuse(str(problem))
    stopping.wait()
    service.stop()
    return 0


def _refuse(words: str, status: int = 1) -> int:
    print(f"slicewise-node serve: {words}", file=sys.stderr)
    return status
