"""``slicewise-node serve``: the DRA driver of one node, put together and kept running.

Order at the start: state and cards first (what an earlier life left half done is put right before anybody can
ask), then the sockets, then what needs the API server. So a node that boots without an API server still
prepares the pods it knows. At the end the registration socket goes first; the slices stay for the next
instance, unless ``withdraw`` is set.

Threads: the publisher, one watch each of claims, own slices and the device order, and the keeper.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.times import rfc3339
from cluster.wire import ConfigMap
from dra.cards import Cards, DriverVersions
from dra.device_order import CONFIG_MAP
from dra.driver.api import ApiAway
from dra.driver.cdi_files import CdiFolder
from dra.driver.checkpoint_file import CheckpointFile
from dra.driver.devices import Circumstances, Features
from dra.driver.driver import Driver
from dra.driver.publisher import Publisher
from dra.driver.slice_plan import SliceBuilder, Wanted, pool_name
from dra.driver.view import View, occupied
from dra.plugin.handler import ClaimRef, DeviceHealth, PreparedDevice
from dra.plugin.service import HealthStream
from dra.plugin.sockets import PluginServer, SocketPaths, socket_paths
from dra.resource_api import ResourceClaim
from dra.slice_parts import SLICEWISE_DRIVER, Version
from metrics.exposition import Exposition
from node.claimed import Claimed
from node.endpoint import Endpoint
from node.keeper import Keeper
from node.kube_api import CLAIMS, SLICES, KubeApi, slice_form
from node.options import ServeOptions
from node.order_tables import OrderTables
from node.own_slices import OwnSlices, SliceMetadata
from node.reports import Reports
from node.timed_cards import TimedCards

log = logging.getLogger(__name__)


class NodeService:
    """Composes everything. ``start``, then ``stop`` once."""

    def __init__(
        self,
        options: ServeOptions,
        cards: Cards,
        versions: DriverVersions,
        api: Api,
        version: str = "unknown",
    ) -> None:
        """Raises SocketRefused, EndpointRefused, OSError."""
        self.options = options
        self.exposition = Exposition("node", version)
        self._metrics = self.exposition.node
        self._versions = versions
        self._cards = TimedCards(cards, self._metrics)
        self._kube = KubeApi(api, options.node_name)
        self._pool = pool_name(options.node_name)
        self._server: tuple[Version, Features] | None = None
        self._owner: dict[str, Any] | None = None
        self._unhealthy_since: dict[str, str] = {}
        self._publish_lock: int | None = None
        self._started = False
        self._builder = SliceBuilder(options.node_name)
        self._state = CheckpointFile(options.state_dir)
        self._driver = Driver(
            self._cards,
            self._state,
            CdiFolder(
                options.cdi_root,
                driver_root=options.driver_root,
                host_root=options.host_root,
                proc_root=options.proc_root,
                allow_missing=options.allow_missing_device_nodes,
                base=options.cdi_base,
            ),
            self._kube,
            pool=self._pool,
            boot_id=boot_id(options.proc_root),
            sharing=options.sharing,
            mig_on_demand=options.mig_on_demand,
            changed=self._changed,
        )
        self.publisher = Publisher(
            self._kube,
            self._wanted,
            node=options.node_name,
            pool=self._pool,
            owner=self._node_reference,
            may_publish=self._may_publish,
            wrote=self._wrote,
            failed=self._metrics.publish_failures.inc,
        )
        self._health = HealthStream(self._device_health)
        self._sockets = PluginServer(SLICEWISE_DRIVER, _paths(options), self, self._health)
        self._metrics.registered.set_function(self._sockets.registration.registered.is_set)
        self._claimed = Claimed(self._pool, self.publisher.wake)
        self._tables = OrderTables(self.publisher.wake)
        self._reports = Reports(api, options.node_name, self._metrics)
        self._reflectors = self._watches(api)
        self._keeper = Keeper(
            options,
            self._cards,
            self._driver,
            self._kube,
            self._sockets,
            unprepare=self.unprepare,
            ask_server=self._ask_server,
            looked=self._looked,
        )
        self._endpoint = Endpoint(
            options.metrics_address,
            metrics=self.exposition.render,
            waiting=self.waiting,
            alive=self._problem,
        )

    @property
    def port(self) -> int:
        """The port of the endpoint."""
        return self._endpoint.port

    def start(self) -> None:
        """Start. Raises CheckpointRefused, CardRefused, SocketRefused, OSError."""
        self._endpoint.start()
        self._driver.start()
        self._started = True
        self._reports.start()
        self._sockets.start()
        self.publisher.start()
        for reflector in self._reflectors:
            reflector.start()
        self._keeper.start()
        log.info(
            "serving %s on node %s: %d GPUs, pool %s, endpoint port %d, socket %s",
            SLICEWISE_DRIVER,
            self.options.node_name,
            len(self._driver.view.hardware.gpus),
            self._pool,
            self.port,
            self._sockets.paths.registration,
        )

    def stop(self) -> None:
        """Deregister, end what runs, and withdraw the slices where asked to."""
        self._keeper.stop()  # first, as it would mend the sockets
        self._health.close()
        self._sockets.stop()
        for reflector in self._reflectors:
            reflector.stop()
        self.publisher.stop()
        if self.options.withdraw:
            try:
                self.publisher.withdraw()
            except ApiAway as problem:
                log.warning("slices not withdrawn: %s", problem)
        self._reports.stop()
        self._endpoint.stop()
        self._cards.close()

    def waiting(self) -> list[str]:
        """What is not ready yet, by name."""
        missing = [] if self._started else ["recovery"]
        if not self._sockets.present:
            missing.append("sockets")
        # The new pod of a rolling upgrade is ready while the old one publishes, or neither would ever move.
        if not (self.publisher.settled.is_set() or self.publisher.standby):
            missing.append("slices" + (f" ({self.publisher.problem})" if self.publisher.problem else ""))
        return missing

    def _problem(self) -> str:
        """Why the process should be restarted, or ""."""
        return "the publisher has ended" if self.publisher.ended else self._keeper.problem()

    def prepare(self, claims: Sequence[ClaimRef]) -> Mapping[str, tuple[PreparedDevice, ...] | str]:
        """See ``dra.plugin.handler.Handler``."""
        since = time.perf_counter()
        answers = self._driver.prepare(claims)
        failed = [answer for answer in answers.values() if isinstance(answer, str)]
        self._observe("prepare", since, failed)
        return answers

    def unprepare(self, claims: Sequence[ClaimRef]) -> Mapping[str, str]:
        """See ``dra.plugin.handler.Handler``."""
        since = time.perf_counter()
        answers = self._driver.unprepare(claims)
        self._observe("unprepare", since, [answer for answer in answers.values() if answer])
        return answers

    def _observe(self, operation: str, since: float, failed: Sequence[str]) -> None:
        for problem in failed:
            log.warning("%s: %s", operation, problem)
        taken = time.perf_counter() - since
        self._metrics.claim_duration_seconds.labels(operation, "failed" if failed else "done").observe(taken)

    def _changed(self) -> None:
        self._metrics.prepared_claims.set(len(self._driver.view.checkpoint.claims))
        self.publisher.wake()

    def _wanted(self) -> Mapping[str, Wanted]:
        """What the slices should say now. Raises ApiAway while it is not known what the API server takes."""
        form, features = self._ask_server() if self._server is None else self._server
        view = self._driver.view
        self._note_health(view)
        prepared = {d.device for record in view.checkpoint.claims.values() for d in record.devices}
        now = Circumstances(
            occupied=occupied(view, self._claimed.masks(view.hardware)),
            held=self._claimed.names() | prepared,
            tables=self._tables.current,
            unhealthy_since=self._unhealthy_since,
            versions=self._versions,
            features=features,
            effect=self.options.unhealthy_effect,
        )
        return self._builder.wanted(view.hardware, now, form)

    def _note_health(self, view: View) -> None:
        sick = {g.card.uuid for g in view.hardware.gpus if g.card.health.state == "unhealthy"}
        now = rfc3339(time.time())
        self._unhealthy_since = {uuid: self._unhealthy_since.get(uuid, now) for uuid in sick}

    def _node_reference(self) -> Mapping[str, Any]:
        if self._owner is None:
            node = self._kube.node()
            self._owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self.options.node_name,
                "uid": node.metadata.uid,
                "controller": True,
            }
        return self._owner

    def _may_publish(self) -> bool:
        """Whether we are the one driver of this node that publishes."""
        if self._publish_lock is None:
            self._publish_lock = self._state.try_publish_lock()
        return self._publish_lock is not None

    def _ask_server(self) -> tuple[Version, Features]:
        """How the API server wants slices, and what it keeps of them. Raises ApiAway."""
        found = slice_form(self._kube.version()), self._kube.features(self._pool)
        if found != self._server:
            self._server = found
            self._reports.server_keeps(found[1], self._driver.view)
            self.publisher.wake()
        return found

    def _wrote(self, seconds: float, slices: int) -> None:
        self._metrics.publish_delay_seconds.observe(seconds)
        self._metrics.slice_writes.inc(slices)

    def _device_health(self) -> list[DeviceHealth]:
        now = int(time.time())
        return [
            DeviceHealth(
                self._pool,
                name,
                target.gpu.card.health.state == "healthy",
                now,
                "; ".join(target.gpu.card.health.reasons),
            )
            for name, target in self._driver.view.hardware.targets.items()
        ]

    def _looked(self, before: View, view: View) -> None:
        """The cards were looked at."""
        if [g.card.health for g in before.hardware.gpus] != [g.card.health for g in view.hardware.gpus]:
            self._health.notify()
        self._reports.look(view)

    def _watches(self, api: Api) -> list[Reflector[Any]]:
        watches: list[Reflector[Any]] = [
            Reflector(
                api,
                SLICES,
                SliceMetadata,
                OwnSlices(self.publisher),
                field_selector=self._kube.slice_selector,
                metadata_only=True,
            ),
            Reflector(
                api,
                f"/api/v1/namespaces/{self.options.policy_namespace}/configmaps",
                ConfigMap,
                self._tables,
                field_selector=f"metadata.name={CONFIG_MAP}",
            ),
        ]
        if self.options.watch_claims:
            watches.append(Reflector(api, CLAIMS, ResourceClaim, self._claimed))
        return watches


def boot_id(proc_root: Path) -> str:
    """The kernel's id of this boot. Raises OSError."""
    path = proc_root / "sys" / "kernel" / "random" / "boot_id"
    if not path.exists():  # a proc root of a test or of a driver container
        path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip()


def _paths(options: ServeOptions) -> SocketPaths:
    return socket_paths(
        SLICEWISE_DRIVER,
        options.kubelet_root / "plugins_registry",
        options.kubelet_root / "plugins",
        options.pod_uid,
    )
