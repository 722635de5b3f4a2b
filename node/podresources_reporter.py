"""``slicewise-node report``: publishes which GPU and MIG instance of this node is whose.

For nodes under NVIDIA's device plugin (with our driver, or NVIDIA's for dynamic resource allocation, claims
already say it). The kubelet's socket is asked every ``--period-seconds``; the API server hears only of
changes, one server-side apply of a ConfigMap each, and nobody but Slicewise watches those. An annotation of
the Node would be sent to every watcher of nodes in the cluster, and needs the right to patch Nodes.

The ConfigMap is owned by the Node, so it goes with it. A copy that someone deleted or changed is put right
after at most ``--refresh-seconds``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from cluster.api_errors import ApiError, NotConfigured
from cluster.client import Api
from cluster.wire import Node
from dra.cards import Card, CardRefused, Cards, NoDriver
from node.podresources import SOCKET, KubeletAway, PodResources
from node.podresources_report import (
    DEFAULT_NAMESPACE,
    KEY,
    LABEL,
    DeviceReport,
    build_report,
    config_map_name,
    encode,
)

log = logging.getLogger(__name__)

FIELD_MANAGER = "slicewise-node"
_APPLY = "application/apply-patch+yaml"


class Kubelet(Protocol):
    """Who tells what pods hold."""

    def held(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        """Pod, resource, device ids. Raises KubeletAway."""


class Reporter:
    """Asks and publishes. ``step`` once a period; state is what was published last."""

    def __init__(
        self,
        node: str,
        kubelet: Kubelet,
        cards: Callable[[], Sequence[Card]],
        publish: Callable[[DeviceReport], None],
        refresh_seconds: float,
    ) -> None:
        """``publish`` raises ApiError; ``cards`` may raise CardRefused."""
        self._node = node
        self._kubelet = kubelet
        self._cards = cards
        self._publish = publish
        self._refresh_seconds = refresh_seconds
        self._told: DeviceReport | None = None
        self._held: object = None
        self._at_seconds = float("-inf")
        self.problem = ""

    def step(self, now_seconds: float) -> bool:
        """Ask once; publish what is new, or when it is time to put the copy right. True when published.

        What fails is told in ``problem`` and tried again at the next step.
        """
        try:
            held = self._kubelet.held()
            due = now_seconds - self._at_seconds >= self._refresh_seconds
            if held == self._held and not due:
                return False
            # The cards change (a new MIG layout) only while nothing is held of them, so that pods tell.
            report = build_report(self._node, self._cards(), held)
            if report != self._told or due:
                self._publish(report)
        except (KubeletAway, CardRefused, ApiError) as problem:
            if str(problem) != self.problem:
                log.warning("the node's devices are not reported: %s", problem)
            self.problem = str(problem)
            return False
        new = report != self._told
        self._told, self._held, self._at_seconds, self.problem = report, held, now_seconds, ""
        return new or due


def config_map(report: DeviceReport, namespace: str, owner: Node | None) -> dict[str, Any]:
    """The object to apply."""
    metadata: dict[str, Any] = {
        "name": config_map_name(report.node),
        "namespace": namespace,
        "labels": {LABEL: "true"},
    }
    if owner is not None and owner.metadata.uid:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": report.node, "uid": owner.metadata.uid}
        ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: encode(report)}}


def publisher(api: Api, node: str, namespace: str) -> Callable[[DeviceReport], None]:
    """Publishes by server-side apply: one request makes or changes the ConfigMap."""
    owner: list[Node] = []
    path = f"/api/v1/namespaces/{quote(namespace)}/configmaps/{quote(config_map_name(node))}"

    def publish(report: DeviceReport) -> None:
        if not owner:
            owner.append(api.get(f"/api/v1/nodes/{quote(node)}", Node))
        body = msgspec.json.encode(config_map(report, namespace, owner[0]))
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        api.patch(path, body, content_type=_APPLY, params=params)

    return publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``slicewise-node report``."""
    add = parser.add_argument
    add("--node-name", default=os.environ.get("NODE_NAME", ""), help="this node's name [$NODE_NAME]")
    add("--kubeconfig", help="how to reach the API server, outside a pod")
    add(
        "--kubelet-root",
        type=Path,
        default=Path("/var/lib/kubelet"),
        help="the kubelet's folder [%(default)s]",
    )
    add("--namespace", default=DEFAULT_NAMESPACE, help="where the ConfigMaps stand [%(default)s]")
    add("--period-seconds", type=float, default=1.0, help="between questions to the kubelet [%(default)g]")
    add(
        "--refresh-seconds", type=float, default=300.0, help="between rewrites of the ConfigMap [%(default)g]"
    )


def run(options: argparse.Namespace) -> int:
    """Report until told to end; exit status 0 ended, 1 no NVML or no API server, 2 wrong usage."""
    from dra.nvml import open_cards
    from node.light_api import connect

    if not options.node_name:
        return _refuse("--node-name: got nothing, expected this node's name (or set NODE_NAME)", 2)
    for flag, seconds in (("period", options.period_seconds), ("refresh", options.refresh_seconds)):
        if not 0.05 <= seconds <= 86400:
            return _refuse(f"--{flag}-seconds: got {seconds}, expected 0.05 to 86400", 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    cards = open_cards()
    if isinstance(cards, NoDriver):
        return _refuse(cards.advice, 1)
    kubelet = PodResources(options.kubelet_root / SOCKET)
    try:
        api = connect(options.kubeconfig)
    except NotConfigured as problem:
        return _refuse(str(problem), 1)
    try:
        _loop(options, kubelet, cards, api)
    finally:
        kubelet.close()
        cards.close()
    return 0


def _loop(options: argparse.Namespace, kubelet: PodResources, cards: Cards, api: Api) -> None:
    publish = publisher(api, options.node_name, options.namespace)
    reporter = Reporter(options.node_name, kubelet, cards.cards, publish, options.refresh_seconds)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.is_set():
        if reporter.step(time.monotonic()):
            log.info("reported the devices of %s", options.node_name)
        ended.wait(options.period_seconds)


def _refuse(reason: str, status: int) -> int:
    print(f"slicewise-node report: {reason}", file=sys.stderr)
    return status
