"""The controller's MIG geometry put together, and what it tells the outside: metrics, Events, log lines."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoscaler.recut_loop import RecutLoop
from autoscaler.side import Side
from cluster import event_reasons
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from metrics.exposition import Exposition
from scheduler.recut.choose import Recut
from scheduler.recut.steps import Record

log = logging.getLogger(__name__)


class RecutSide:
    """The loop over one live fleet."""

    def __init__(self, side: Side) -> None:
        live = side.live
        self.loop = RecutLoop(
            side.api,
            live.service.fleet,
            live.residents.census,
            policy=live.policy,
            active=lambda: side.is_leader() and live.service.synced(),
            observer=_Observer(side.exposition, side.recorder),
            read_only=side.dry_run,
        )


class _Observer:
    def __init__(self, exposition: Exposition, recorder: EventRecorder) -> None:
        self._metrics = exposition.repack
        self._recorder = recorder
        self._said: tuple[tuple[str, str], ...] = ()

    def proposed(self, recuts: Sequence[Recut], *, dry_run: bool) -> None:
        self._metrics.recut_proposed_nodes.set(len(recuts))
        said = tuple((recut.node, recut.config) for recut in recuts)
        if said != self._said:
            self._said = said
            for recut in recuts:
                told = (" (dry run)" if dry_run else "", recut.node, recut.previous, recut.config, recut.why)
                log.info("MIG geometry%s: node %s from %s to %s: %s", *told)

    def started(self, recut: Recut) -> None:
        self._metrics.recuts.labels("started").inc()
        note = f"cordoned, to be re-cut from {recut.previous} to {recut.config}: {recut.why}"
        self._tell(recut.node, event_reasons.RECUT, note, event_reasons.NORMAL)

    def labelled(self, node: str, record: Record, config: str) -> None:
        if record.phase == "returning":
            self._metrics.recuts.labels("failed").inc()
            note = f"{record.config} failed or took too long; going back to {config}"
            self._tell(node, event_reasons.RECUT_FAILED, note, event_reasons.WARNING)

    def ended(self, node: str, record: Record, outcome: str) -> None:
        self._metrics.recuts.labels(outcome).inc()
        if outcome == "stuck":
            note = (
                f"neither {record.config} nor {record.previous} could be set; the node stays cordoned until "
                "its MIG manager reports success or someone removes the annotation slicewise.io/recut"
            )
            self._tell(node, event_reasons.RECUT_FAILED, note, event_reasons.WARNING)
            return
        notes = {
            "succeeded": f"re-cut to {record.config}, takes pods again",
            "rolled_back": f"back at {record.previous}, takes pods again",
            "given_up": "a GPU pod came while it was being cordoned; left as it was",
        }
        self._tell(node, event_reasons.RECUT_DONE, notes[outcome], event_reasons.NORMAL)

    def _tell(self, node: str, reason: str, note: str, kind: str) -> None:
        log.info("MIG geometry: node %s: %s", node, note)
        # Events about a Node carry its name as UID, as the kubelet's do.
        about = ObjectReference(api_version="v1", kind="Node", name=node, uid=node)
        self._recorder.record(about, reason, note, kind, "Recut")
