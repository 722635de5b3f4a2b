"""Carry a plan out: write ``status.nominatedNodeName``, then take our scheduling gate away.

The scheduler verifies: it runs its filters on the nominated node first and takes it if they pass (KEP-5278,
on since 1.35). A nomination is a wish, not a binding: whatever the API server answers, the pod can still go
the webhook road. Every patch carries the pod's UID, so a namesake created meanwhile is never touched (the
API server answers 409).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Protocol

import msgspec

from cluster.api_errors import ApiRefused, ApiUnreachable
from scheduler.planner.plan import Nomination
from scheduler.planner.queue import PLAN_GATE, WaitingPod

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class Outcome(StrEnum):
    """What became of one nomination or gate removal."""

    DONE = "done"
    GONE = "gone"
    BOUND = "bound"
    FAILED = "failed"


class Patcher(Protocol):
    """The one call of ``cluster.client.Api`` that is needed here."""

    def patch(self, path: str, body: object, content_type: str) -> object:
        """PATCH ``path``; raises ApiRefused or ApiUnreachable."""
        ...


def nomination_patch(nomination: Nomination) -> bytes:
    """The merge patch of the status subresource that nominates."""
    return msgspec.json.encode(
        {"metadata": {"uid": nomination.waiting.uid}, "status": {"nominatedNodeName": nomination.node}}
    )


def gate_patch(waiting: WaitingPod) -> bytes:
    """The strategic merge patch that removes our gate and no other."""
    return msgspec.json.encode(
        {
            "metadata": {"uid": waiting.uid},
            "spec": {"schedulingGates": [{"$patch": "delete", "name": PLAN_GATE}]},
        }
    )


def pod_path(waiting: WaitingPod) -> str:
    """The pod's path in the API."""
    return f"/api/v1/namespaces/{waiting.namespace}/pods/{waiting.name}"


class Nominator:
    """Writes nominations over several connections at once."""

    def __init__(self, api: Patcher, concurrency: int) -> None:
        self._api = api
        self._pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="nominate")

    def close(self) -> None:
        """Wait for the patches under way and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def carry_out(self, nominations: tuple[Nomination, ...]) -> list[Outcome]:
        """Nominate all; the answers are in the order of ``nominations``."""
        return list(self._pool.map(self._nominate, nominations))

    def ungate(self, waiting: list[WaitingPod]) -> list[Outcome]:
        """Take our gate off these pods without a nomination."""
        return list(self._pool.map(self._ungate, waiting))

    def _nominate(self, nomination: Nomination) -> Outcome:
        waiting = nomination.waiting
        outcome = self._send(f"{pod_path(waiting)}/status", nomination_patch(nomination), MERGE_PATCH)
        # The gate goes even when the nomination failed: the webhook road is still there for the pod.
        if waiting.gated and outcome is not Outcome.GONE:
            ungated = self._ungate(waiting)
            if outcome is Outcome.DONE:
                return ungated
        return outcome

    def _ungate(self, waiting: WaitingPod) -> Outcome:
        return self._send(pod_path(waiting), gate_patch(waiting), STRATEGIC_PATCH)

    def _send(self, path: str, body: bytes, content_type: str) -> Outcome:
        try:
            self._api.patch(path, body, content_type)
        except ApiRefused as refused:
            if refused.status in (404, 409):
                return Outcome.GONE
            # Nominating a bound pod is forbidden (403 or 422): it found its place without us.
            return Outcome.BOUND if refused.status in (403, 422) else Outcome.FAILED
        except ApiUnreachable:
            return Outcome.FAILED
        return Outcome.DONE
