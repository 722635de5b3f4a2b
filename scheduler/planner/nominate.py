"""Carry a plan out: write ``status.nominatedNodeName``, then take our scheduling gate away.

Members of a gang are nominated here but keep their gates; if one nomination fails the others are withdrawn.
The gates go later, see ``gangs``.

The scheduler verifies: it runs its filters on the nominated node first and takes it if they pass (KEP-5278,
on since 1.35). A nomination is a wish, not a binding: whatever the API server answers, the pod can still go
the webhook road. Every patch carries the pod's UID, so a namesake created meanwhile is never touched (the
API server answers 409).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from http import HTTPStatus

import msgspec

from cluster.client import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from cluster.patching import Patcher, patched
from scheduler.planner.plan import Nomination
from scheduler.planner.queue import PLAN_GATE, WaitingPod


class Outcome(StrEnum):
    """What became of one nomination or gate removal."""

    DONE = "done"
    GONE = "gone"
    BOUND = "bound"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


# Nominating a bound pod is forbidden (403 or 422): it found its place without us.
_MEANS: dict[int, Outcome] = {
    HTTPStatus.OK: Outcome.DONE,
    HTTPStatus.NOT_FOUND: Outcome.GONE,
    HTTPStatus.CONFLICT: Outcome.GONE,
    HTTPStatus.FORBIDDEN: Outcome.BOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY: Outcome.BOUND,
}


def nomination_patch(nomination: Nomination) -> bytes:
    """The merge patch of the status subresource that nominates."""
    return msgspec.json.encode(
        {"metadata": {"uid": nomination.waiting.uid}, "status": {"nominatedNodeName": nomination.node}}
    )


def withdrawal_patch(waiting: WaitingPod, *, as_seen: bool) -> bytes:
    """The merge patch of the status subresource that takes a nomination back; ``as_seen``: only if the pod
    has not changed since.
    """
    metadata = {"uid": waiting.uid}
    if as_seen:
        metadata["resourceVersion"] = waiting.pod.metadata.resource_version
    return msgspec.json.encode({"metadata": metadata, "status": {"nominatedNodeName": None}})


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
        """Nominate all; the answers are in the order of ``nominations``. Pods of one node go one after the
        other, in the order of the plan: first-fit then gives the devices that the plan counts on.
        """
        outcomes: dict[str, Outcome] = {}
        chains: dict[str, list[Nomination]] = {}
        gangs: dict[str, list[Nomination]] = {}
        for one in nominations:
            if one.gang:
                gangs.setdefault(one.gang, []).append(one)
            else:
                chains.setdefault(one.node, []).append(one)
        for found in self._pool.map(self._chain, chains.values()):
            outcomes.update(found)
        members = [one for gang in gangs.values() for one in gang]
        written = list(self._pool.map(self._status, members))
        outcomes.update((one.waiting.uid, got) for one, got in zip(members, written, strict=True))
        self._take_back_broken(list(gangs.values()), outcomes)
        return [outcomes[one.waiting.uid] for one in nominations]

    def ungate(self, waiting: list[WaitingPod]) -> list[Outcome]:
        """Take our gate off these pods without a nomination."""
        return list(self._pool.map(self._ungate, waiting))

    def withdraw(self, waiting: list[WaitingPod], *, as_seen: bool = True) -> list[Outcome]:
        """Take the nominations of these pods back; ``as_seen``: only of those that have not changed since the
        watch showed them, for one whose gate went meanwhile counts on its room.
        """
        return list(self._pool.map(lambda pod: self._withdraw(pod, as_seen), waiting))

    def _chain(self, nominations: list[Nomination]) -> list[tuple[str, Outcome]]:
        return [(one.waiting.uid, self._nominate(one)) for one in nominations]

    def _take_back_broken(self, gangs: list[list[Nomination]], outcomes: dict[str, Outcome]) -> None:
        fine = (Outcome.DONE, Outcome.BOUND)
        broken = [gang for gang in gangs if not all(outcomes[one.waiting.uid] in fine for one in gang)]
        taken_back = [one.waiting for gang in broken for one in gang if outcomes[one.waiting.uid] in fine]
        for waiting in taken_back:
            outcomes[waiting.uid] = Outcome.WITHDRAWN
        self.withdraw(taken_back, as_seen=False)

    def _status(self, nomination: Nomination) -> Outcome:
        path = f"{pod_path(nomination.waiting)}/status"
        return self._send(path, nomination_patch(nomination), MERGE_PATCH)

    def _withdraw(self, waiting: WaitingPod, as_seen: bool) -> Outcome:
        body = withdrawal_patch(waiting, as_seen=as_seen)
        return self._send(f"{pod_path(waiting)}/status", body, MERGE_PATCH)

    def _nominate(self, nomination: Nomination) -> Outcome:
        waiting = nomination.waiting
        outcome = self._status(nomination)
        # The gate goes even when the nomination failed: the webhook road is still there for the pod.
        if waiting.gated and outcome is not Outcome.GONE:
            ungated = self._ungate(waiting)
            if outcome is Outcome.DONE:
                return ungated
        return outcome

    def _ungate(self, waiting: WaitingPod) -> Outcome:
        return self._send(pod_path(waiting), gate_patch(waiting), STRATEGIC_MERGE_PATCH)

    def _send(self, path: str, body: bytes, content_type: str) -> Outcome:
        return _MEANS.get(patched(self._api, path, body, content_type), Outcome.FAILED)
