"""Events on the Node and gauges: GPUs that fell ill or recovered, foreign MIG instances, unknown models."""

from __future__ import annotations

import logging

from cluster import event_reasons
from cluster.client import Api
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from dra.catalog import UnknownModel, find_model
from dra.driver.devices import Features
from dra.driver.view import View
from metrics.groups import NodeMetrics

log = logging.getLogger(__name__)


class Reports:
    """Says each thing once, when it begins and when it ends."""

    def __init__(self, api: Api, node: str, metrics: NodeMetrics) -> None:
        self._events = EventRecorder(api, "slicewise.io/node", instance=node)
        # The kubelet's own events name the Node by its name as UID too; tools look them up so.
        self._node = ObjectReference(api_version="v1", kind="Node", name=node, uid=node)
        self._metrics = metrics
        self._said: dict[tuple[str, str], str] = {}

    def start(self) -> None:
        """Begin to write events."""
        self._events.start()

    def stop(self) -> None:
        """Write what is left."""
        self._events.stop()

    def look(self, view: View) -> None:
        """Say what changed since the last look."""
        now: dict[tuple[str, str], str] = {}
        for gpu in view.hardware.gpus:
            if gpu.card.health.state == "unhealthy":
                reasons = "; ".join(gpu.card.health.reasons) or "no reason told"
                key = (event_reasons.GPU_UNHEALTHY, gpu.card.uuid)
                now[key] = f"GPU {gpu.number} ({gpu.card.uuid}): {reasons}; no new work goes to it"
            if isinstance(find_model(gpu.card.product), UnknownModel):
                key = (event_reasons.MODEL_UNKNOWN, gpu.card.uuid)
                now[key] = f"GPU {gpu.number}: {gpu.card.product!r} is not in the catalogue"
        for instance in view.foreign:
            number = next((g.number for g in view.hardware.gpus if g.card.uuid == instance.gpu_uuid), "?")
            key = (event_reasons.MIG_FOREIGN, f"{instance.gpu_uuid}/{instance.gpu_instance_id}")
            now[key] = (
                f"GPU {number}: MIG instance {instance.gpu_instance_id} at units {instance.start} to "
                f"{instance.start + instance.size - 1} was not made by this driver; it is left alone and its "
                "units are not offered"
            )
        for key, note in now.items():
            if key not in self._said:
                self._tell(key[0], note, event_reasons.WARNING)
        for key in self._said:
            if key not in now and key[0] == event_reasons.GPU_UNHEALTHY:
                self._tell(
                    event_reasons.GPU_RECOVERED, f"GPU {key[1]} is healthy again", event_reasons.NORMAL
                )
        self._said = now
        sick = sum(1 for reason, _ in now if reason == event_reasons.GPU_UNHEALTHY)
        self._metrics.gpus.labels("unhealthy").set(sick)
        self._metrics.gpus.labels("healthy").set(len(view.hardware.gpus) - sick)
        self._metrics.foreign_instances.set(len(view.foreign))

    def server_keeps(self, features: Features, view: View) -> None:
        """What the API server does not keep and this node would need."""
        gpus = view.hardware.gpus
        missing = []
        if any(gpu.cut for gpu in gpus) and not features.counters:
            missing.append("DRAPartitionableDevices: MIG devices are not offered, as they could overlap")
        if any(gpu.kind == "shared" for gpu in gpus) and not features.shares:
            missing.append("DRAConsumableCapacity: GPUs to be shared are offered whole")
        if missing:
            note = f"feature gates of the API server are off: {'; '.join(missing)}"
            self._tell(event_reasons.SLICES_REFUSED, note, event_reasons.WARNING)

    def _tell(self, reason: str, note: str, kind: str) -> None:
        log.warning("%s: %s", reason, note)
        self._events.record(self._node, reason, note, kind, "Publish")
