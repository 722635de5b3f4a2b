"""The controller's hand on MIG geometry: cordon an idle node, ask the MIG manager, wait, give it back.

Works only while this process leads. Modes (``migGeometry.mode``): off; dry-run (says what it would re-cut);
on. What to cut is decided in ``scheduler.recut.choose``, how a re-cut goes on in ``scheduler.recut.steps``
(both pure). What is under way stands on the nodes, so a new leader goes on where the old one ended; in mode
off or dry-run what was begun is still brought to its end.

The MIG manager re-cuts all GPUs of a node and stops its GPU clients, so only a node that nobody uses is
touched: it is cordoned, given a moment, and looked at again through the API server (not our watch) before the
configuration is labelled.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from cluster.api_errors import ApiError
from cluster.client import MERGE_PATCH, Api
from cluster.periodic import Periodic
from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from scheduler.fleet import Fleet
from scheduler.kept_objects import FINISHED_PHASES
from scheduler.pod_shape import pod_shape
from scheduler.recut.choose import IdleNode, Recut, choose
from scheduler.recut.configs import cuts_for
from scheduler.recut.read import offered, read_idle, read_outlook
from scheduler.recut.steps import (
    CONFIG_LABEL,
    DONE_ANNOTATION,
    RECORD_ANNOTATION,
    STATE_LABEL,
    Finish,
    Record,
    Seen,
    Write,
    resource_of,
    step,
)
from scheduler.repack.census import Census

log = logging.getLogger(__name__)

STEP_SECONDS = 1.0
HOUR_SECONDS = 3600.0
PENDING = "pending"


class RecutObserver(Protocol):
    """What the re-cutter tells the outside; metrics and Events hang here."""

    def proposed(self, recuts: Sequence[Recut], *, dry_run: bool) -> None:
        """What the newest look would re-cut."""

    def started(self, recut: Recut) -> None:
        """A node was cordoned to be re-cut."""

    def labelled(self, node: str, record: Record, config: str) -> None:
        """The MIG manager was asked for a configuration."""

    def ended(self, node: str, record: Record, outcome: str) -> None:
        """A re-cut came to its end."""


class RecutLoop(Periodic):
    """Owns the thread. ``look`` and ``follow`` are called by it, and by tests. What is under way when it is
    stopped stands on the nodes.
    """

    def __init__(
        self,
        api: Api,
        fleet: Fleet,
        census: Census,
        *,
        policy: Callable[[], ClusterPolicy],
        active: Callable[[], bool],
        observer: RecutObserver,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``read_only``: never more than a dry run. ``clock``: Unix seconds."""
        super().__init__(
            "recut", self.turn, STEP_SECONDS, if_failed="MIG geometry: a look failed; trying again"
        )
        self._api, self._fleet, self._census = api, fleet, census
        self._policy, self._active, self._observer = policy, active, observer
        self._read_only, self._clock = read_only, clock
        self._idle_since: dict[str, float] = {}
        self._started: deque[float] = deque()
        self._looked_at = float("-inf")
        self._stuck: set[str] = set()

    def turn(self) -> None:
        """Bring forward what is under way; look anew when that is due."""
        if not self._active():
            return
        policy, now = self._policy(), self._clock()
        under_way = 0 if self._read_only else self.follow(policy)
        if policy.mig_geometry.mode == "off":
            return
        if now - self._looked_at >= policy.mig_geometry.interval_seconds:
            self._looked_at = now
            self.look(policy, under_way)

    def look(self, policy: ClusterPolicy, under_way: int = 0) -> list[Recut]:
        """Choose re-cuts; begin them if the mode is on."""
        geometry, now = policy.mig_geometry, self._clock()
        idle = self._long_idle(policy, now)
        while self._started and self._started[0] <= now - HOUR_SECONDS:
            self._started.popleft()
        most = min(geometry.max_concurrent - under_way, geometry.max_recuts_per_hour - len(self._started))
        models = {node.model.name: node.model for node in idle}
        prices = policy.prices
        recuts = choose(
            idle,
            {name: cuts_for(model, geometry.configs) for name, model in models.items()},
            read_outlook(self._fleet, idle, policy),
            {name: prices.gpu_hour_by_model.get(name, prices.gpu_hour) for name in models},
            most=max(0, most),
            min_gain=geometry.min_gain,
        )
        dry_run = self._read_only or geometry.mode != "on"
        self._observer.proposed(recuts, dry_run=dry_run)
        if not dry_run:
            by_name = {node.name: node for node in idle}
            for recut in recuts:
                self._begin(recut, by_name[recut.node], now)
        return recuts

    def follow(self, policy: ClusterPolicy) -> int:
        """One step of every re-cut under way; answers how many there are."""
        count = 0
        for name, node in self._census.all_nodes().items():
            written = node.metadata.annotations.get(RECORD_ANNOTATION)
            if written is None:
                self._stuck.discard(name)
                continue
            try:
                record = msgspec.json.decode(written, type=Record)
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                if name not in self._stuck:
                    self._stuck.add(name)
                    log.warning(
                        "node %s: annotation %s cannot be read (%s); remove it and uncordon the node by hand",
                        name, RECORD_ANNOTATION, problem,
                    )  # fmt: skip
                continue
            count += record.phase != "stuck"
            self._forward(name, record, policy)
        return count

    # --- inside -------------------------------------------------------------------------------------------

    def _long_idle(self, policy: ClusterPolicy, now: float) -> list[IdleNode]:
        """The idle nodes that have been so for long enough and were not re-cut a moment ago."""
        geometry = policy.mig_geometry
        idle = read_idle(self._fleet, self._census, policy)
        self._idle_since = {node.name: self._idle_since.get(node.name, now) for node in idle}
        found = []
        for node in idle:
            seen = self._census.node(node.name)
            done = "" if seen is None else seen.metadata.annotations.get(DONE_ANNOTATION, "")
            rested = now - float(done) >= geometry.min_hold_seconds if done.isdecimal() else True
            if rested and now - self._idle_since[node.name] >= geometry.idle_seconds:
                found.append(node)
        return found

    def _begin(self, recut: Recut, node: IdleNode, now: float) -> None:
        record = Record(
            previous=recut.previous,
            config=recut.config,
            phase="cordoned",
            since=now,
            offers={resource_of(name): count for name, count in recut.offers},
            before={resource_of(name): count for name, count in node.present},
        )
        self._started.append(now)
        if self._patch(recut.node, record, cordon=True):
            self._observer.started(recut)

    def _forward(self, name: str, record: Record, policy: ClusterPolicy) -> None:
        try:
            node = self._api.get(f"/api/v1/nodes/{name}", Node)
            seen = Seen(node.metadata.labels, offered(node), self._used(name))
        except ApiError as problem:
            log.warning("MIG geometry: node %s cannot be read: %s", name, problem)
            return
        if node.metadata.annotations.get(RECORD_ANNOTATION) != _written(record):
            return  # our watch is behind our own write
        action = step(record, seen, self._clock(), policy.mig_geometry.timeout_seconds)
        if isinstance(action, Write):
            if self._patch(name, action.record, config=action.config):
                if action.config is not None:
                    self._observer.labelled(name, action.record, action.config)
                elif action.record.phase == "stuck":
                    self._observer.ended(name, record, "stuck")
        elif isinstance(action, Finish) and self._patch(name, None, cordon=False):
            self._observer.ended(name, record, action.outcome)

    def _used(self, name: str) -> bool:
        """Whether any living pod on the node asks for GPUs, as the API server says."""
        pods = self._api.list_objects("/api/v1/pods", Pod, {"fieldSelector": f"spec.nodeName={name}"})
        return any(pod.status.phase not in FINISHED_PHASES and pod_shape(pod) is not None for pod in pods)

    def _patch(
        self, name: str, record: Record | None, *, config: str | None = None, cordon: bool | None = None
    ) -> bool:
        notes: dict[str, str | None] = {RECORD_ANNOTATION: None if record is None else _written(record)}
        if record is None:
            notes[DONE_ANNOTATION] = str(int(self._clock()))
        body: dict[str, object] = {"metadata": {"annotations": notes}}
        if config is not None:
            labels = {CONFIG_LABEL: config, STATE_LABEL: PENDING}
            body = {"metadata": {"annotations": notes, "labels": labels}}
        if cordon is not None:
            body["spec"] = {"unschedulable": True if cordon else None}
        try:
            self._api.patch(f"/api/v1/nodes/{name}", body, MERGE_PATCH)
        except ApiError as problem:
            log.warning("MIG geometry: node %s cannot be written: %s", name, problem)
            return False
        return True


def _written(record: Record) -> str:
    return msgspec.json.encode(record).decode()
