"""The gRPC expander of Cluster Autoscaler: ``grpcplugin.Expander/BestOptions``.

Cluster Autoscaler calls it when pods are pending and several node groups could take some (flags
``--expander=grpc,least-waste --grpc-expander-url --grpc-expander-cert``). It refuses to talk without TLS, so
a certificate is needed outside of tests. An error here is no outage there: it then goes on with all options.

Any replica answers, leading or not: the answer depends on the fleet and its DaemonSets alone. What is decided
is in ``node_options``; this file serves, and tells the outside.

Assumed of what is sent: each group's node is the template as Cluster Autoscaler has it, its ``allocatable``
whole, and the DaemonSet pods that it expects on that node are not sent. They are found by our own watch and
taken off (``daemons``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from autoscaler.grpc_tls import server_credentials
from autoscaler.nodes.daemons import DaemonsOf, no_daemons
from autoscaler.nodes.expander_v1 import api_pb2_grpc as service
from autoscaler.nodes.messages import NotUnderstood, Offer, answer, offers_of
from autoscaler.nodes.node_kinds import Running, kind_of
from autoscaler.nodes.node_options import Choice, Option, choose
from autoscaler.nodes.node_prices import FleetPrices
from cluster.wire import Node, Pod
from scheduler.demand import Demand
from scheduler.host_needs import cpu_milli, host_need, memory_mib

log = logging.getLogger(__name__)

# Thousands of pending pods for every group: gRPC's own limit is 4 MiB.
MOST_QUESTION_BYTES: Final = 256 * 2**20
_THREADS: Final = 2
_STOP_SECONDS: Final = 2.0


class AddressTaken(ValueError):
    """The expander's address cannot be had."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the certificate that is shown, and of its key; read again when they change."""

    certificate_file: str
    key_file: str


class ExpanderObserver(Protocol):
    """What the expander tells the outside."""

    def chose(self, choice: Choice, seconds: float) -> None:
        """One question was answered."""

    def failed(self, problem: str) -> None:
        """One question could not be answered."""


class Expander:
    """The server. ``start`` binds and serves; ``stop`` ends it."""

    def __init__(
        self,
        prices: FleetPrices,
        address: str,
        observer: ExpanderObserver,
        tls: Tls | None = None,
    ) -> None:
        """``address``: HOST:PORT, port 0 for any. Raises OSError when a PEM file cannot be read."""
        self._prices = prices
        self._observer = observer
        self._address = address
        self._credentials = None if tls is None else server_credentials(tls.certificate_file, tls.key_file)
        self._server: Any = None
        self.port = 0

    def start(self) -> None:
        """Serve. Raises AddressTaken."""
        server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="expander"),
            options=(
                ("grpc.max_receive_message_length", MOST_QUESTION_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )
        service.add_ExpanderServicer_to_server(self, server)
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(self._address)
            else:
                self.port = server.add_secure_port(self._address, self._credentials)
        except RuntimeError as problem:
            raise AddressTaken(f"--expander-port: cannot listen on {self._address}: {problem}") from None
        server.start()
        self._server = server
        log.info("expander: serving on port %d%s", self.port, "" if self._credentials else " without TLS")

    def stop(self) -> None:
        """End; a call that is running gets a moment. Safe to call twice and without ``start``."""
        if self._server is not None:
            self._server.stop(_STOP_SECONDS).wait()
            self._server = None

    def BestOptions(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer one question."""
        began = time.monotonic()
        missing = [what for what, known in self._prices.ready().items() if not known]
        if missing:
            problem = f"not known yet: {', '.join(missing)}"
            self._observer.failed(problem)
            context.abort(grpc.StatusCode.UNAVAILABLE, problem)
        try:
            offers = offers_of(request)
            prices = self._prices.now()
            running = tuple(self._prices.running())
            daemons = self._prices.daemons
            choice = choose(
                [option_of(offer, self._prices.demand, running, daemons) for offer in offers], prices
            )
        except NotUnderstood as wrong:
            self._observer.failed(str(wrong))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(wrong))
        except Exception as defect:
            log.exception("expander: no answer")
            self._observer.failed(f"{type(defect).__name__}: {defect}")
            context.abort(grpc.StatusCode.INTERNAL, f"no answer: {type(defect).__name__}")
        self._prices.remember(choice.zones)
        self._observer.chose(choice, time.monotonic() - began)
        return answer(request, choice.best)


def option_of(
    offer: Offer,
    demand_of: Callable[[Pod], Demand | None],
    running: tuple[Running, ...],
    daemons: DaemonsOf = no_daemons,
) -> Option:
    """What an offer means for GPUs."""
    demands: dict[Demand, int] = {}
    others = 0
    for pod in offer.pods:
        demand = demand_of(pod)
        if demand is None or not demand.understood:
            others += 1
        else:
            demands[demand] = demands.get(demand, 0) + 1
    kind = None if offer.node is None else kind_of(offer.group, offer.node, running, daemons)
    return Option(offer.group, offer.nodes, kind, demands, others, _waste(offer))


def _waste(offer: Offer) -> float:
    """The mean share of CPU and memory that the option's pods leave unused on its nodes."""
    if offer.node is None or offer.nodes < 1:
        return 1.0
    cpu, memory = 0, 0
    for pod in offer.pods:
        needs = host_need(pod)
        cpu, memory = cpu + needs[0], memory + needs[1]
    there = _there(offer.node)
    shares = [
        max(0.0, 1.0 - used / (offer.nodes * amount))
        for used, amount in zip((cpu, memory), there, strict=True)
        if amount
    ]
    return sum(shares) / len(shares) if shares else 1.0


def _there(node: Node) -> tuple[int, int]:
    found: Mapping[str, str | int] = node.status.allocatable or node.status.capacity
    return cpu_milli(found.get("cpu", "0")), memory_mib(found.get("memory", "0"))


def sentences(choice: Choice) -> Iterator[str]:
    """The decision for a log: what won, then every option with why it did not."""
    yield choice.sentence + (f"; {choice.carbon_gap}: carbon left out" if choice.carbon_gap else "")
    for bill in choice.bills:
        if not bill.replicas:
            yield f"{bill.group}: {bill.why}"
