"""Hands of the warm capacity: warm pods created, deleted and swept away.

Deletes at once and only the pod that was meant (by UID). With ``dry_run`` it only says what it would do.
"""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import quote

import msgspec

from autoscaler.targets import Target
from autoscaler.warm import warm_pods
from autoscaler.warm.warm_pods import WarmPod
from cluster.api_errors import ApiError, ApiRefused
from cluster.client import Api
from cluster.wire import Pod
from metrics.groups import WarmMetrics

log = logging.getLogger(__name__)

_MOST_SAID: Final = 10_000

Json = dict[str, Any]


class WarmHands:
    """See the module docstring. Raises ApiError unless it says otherwise."""

    def __init__(self, api: Api, metrics: WarmMetrics, *, dry_run: bool) -> None:
        self._api, self._metrics, self._dry_run = api, metrics, dry_run
        self._said: set[str] = set()

    def create(self, target: Target, body: Json, change: str) -> str:
        """Make a pod; return its UID, "" where there is none."""
        if self._dry_run:
            self._would(f"{target}: would make pods ({change})")
            return ""
        answer = self._api.post(f"/api/v1/namespaces/{quote(target.namespace)}/pods", body)
        self._metrics.changes.labels(change).inc()
        try:
            return msgspec.json.decode(answer, type=Pod).metadata.uid
        except msgspec.DecodeError:  # it was made all the same
            return ""

    def delete(self, pod: WarmPod, change: str, why: str) -> None:
        if self._dry_run:
            self._would(f"{pod.namespace}/{pod.name}: would be deleted: {why}")
            return
        log.info("%s/%s: deleted: %s", pod.namespace, pod.name, why)
        if self._gone(pod.namespace, pod.name, pod.uid):
            self._metrics.changes.labels(change).inc()

    def _would(self, sentence: str) -> None:
        """Say it once, since nothing comes of it and the next turn would say it again."""
        if sentence not in self._said:
            log.info("%s", sentence)
            if len(self._said) >= _MOST_SAID:
                self._said.clear()
            self._said.add(sentence)

    def _gone(self, namespace: str, name: str, uid: str) -> bool:
        """Delete a pod at once; False where it had gone already."""
        try:
            self._api.delete(
                f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}",
                {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}},
            )
        except ApiRefused as refused:
            if refused.status in (404, 409):
                return False
            raise
        return True

    def sweep_ended(self) -> list[Pod]:
        """Delete warm pods that have ended; return them as they were. Never raises ApiError."""
        ended: list[Pod] = []
        try:
            ended = self._api.list_objects(
                "/api/v1/pods",
                Pod,
                {
                    "labelSelector": warm_pods.LABEL,
                    "fieldSelector": "status.phase!=Pending,status.phase!=Running",
                },
            )
            for pod in ended:
                meta = pod.metadata
                if not self._dry_run and self._gone(meta.namespace, meta.name, meta.uid):
                    self._metrics.changes.labels("prefetch_finished").inc()
        except ApiError as error:
            self._metrics.changes.labels("error").inc()
            log.warning("warm capacity: pods that have ended could not be swept: %s", error)
        return ended
