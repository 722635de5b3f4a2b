"""The repacker's hands: ask the Eviction API, look at a pod's volumes, write nominations and notes.

Evictions go through policy/v1 (``pods/eviction``), so PodDisruptionBudgets have the last word: 429 is a
refusal to come back to later, not an error. Every request carries the pod's UID, so a namesake made meanwhile
is never touched. A dry-run eviction asks the same question without consequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.client import MERGE_PATCH, Api
from dra.resource_api import ObjectMeta
from scheduler.kept_objects import ROOM_ON_ANNOTATION


class Verdict(StrEnum):
    """What became of an eviction."""

    EVICTED = "evicted"
    GONE = "gone"
    REFUSED = "refused"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, why, and how long the API server asks to wait."""

    verdict: Verdict
    reason: str = ""
    retry_after_seconds: float | None = None


class _Volume(msgspec.Struct, rename="camel", frozen=True, gc=False):
    name: str = ""
    persistent_volume_claim: dict[str, object] | None = None
    ephemeral: dict[str, object] | None = None
    host_path: dict[str, object] | None = None


class _Spec(msgspec.Struct, rename="camel", frozen=True, gc=False):
    volumes: tuple[_Volume, ...] = ()


class _PodWithVolumes(msgspec.Struct, rename="camel", frozen=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()


class Hands:
    """Acts on pods through the API server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def tied(self, namespace: str, name: str) -> str | None:
        """Why the pod's volumes may tie it to its node, or None. Raises ApiError."""
        pod = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}", _PodWithVolumes)
        for volume in pod.spec.volumes:
            if volume.persistent_volume_claim is not None or volume.ephemeral is not None:
                return f"has a persistent volume ({volume.name}), which may tie it to its node"
        return None

    def evict(self, namespace: str, name: str, uid: str, *, dry_run: bool) -> Answer:
        """Evict one pod, or ask whether it could be."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}, **({"dryRun": ["All"]} if dry_run else {})},
        }
        try:
            self._api.post(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)
        except ApiRefused as refused:
            if refused.status in (404, 409):
                return Answer(Verdict.GONE, refused.message)
            # 500: several budgets over one pod, which no eviction can satisfy.
            verdict = Verdict.REFUSED if refused.status in (429, 500) else Verdict.ERROR
            return Answer(verdict, refused.message, refused.retry_after_seconds)
        except ApiUnreachable as away:
            return Answer(Verdict.ERROR, str(away))
        return Answer(Verdict.EVICTED)

    def room_on(self, namespace: str, name: str, uid: str, node: str | None) -> str:
        """Note on a waiting pod where room is being made for it (None: nowhere any more); answers why not, or
        an empty text.
        """
        body = {"metadata": {"uid": uid, "annotations": {ROOM_ON_ANNOTATION: node}}}
        try:
            self._api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}", body, MERGE_PATCH)
        except (ApiRefused, ApiUnreachable) as problem:
            return str(problem)
        return ""

    def nominate(self, namespace: str, name: str, uid: str, node: str | None) -> str:
        """Nominate a waiting pod (None: take the nomination back); answers why not, or an empty text."""
        body = {"metadata": {"uid": uid}, "status": {"nominatedNodeName": node}}
        try:
            self._api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", body, MERGE_PATCH)
        except (ApiRefused, ApiUnreachable) as problem:
            return str(problem)
        return ""
