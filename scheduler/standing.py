"""Where pods stand: bound (``spec.nodeName``), reserved (our own prediction) or nominated
(``status.nominatedNodeName``, or where room is made for the pod), the first that applies. Pure; see
``scheduler.facts``.

A reservation is newer than a nomination that the scheduler did not follow, so it goes before it. It ends when
the pod is bound, when a claim is allocated for it, or when it expires.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from scheduler.claim_index import ClaimIndex, unlink
from scheduler.fences import Fences
from scheduler.kept_objects import PodFact, Reservation
from scheduler.reservations import Reservations


class Standing:
    """Pods by node, those that only have a reservation included. Changes return the nodes they touch."""

    def __init__(self, pods: Mapping[str, PodFact], claims: ClaimIndex) -> None:
        """``pods`` and ``claims`` are looked at, never changed; whoever changes the pods says so with
        ``enter`` and ``leave``.
        """
        self.reservations = Reservations()
        self.fences = Fences()
        self._pods, self._claims = pods, claims
        self._by_node: dict[str, set[str]] = {}

    def place(self, pod: PodFact) -> str:
        """Where a pod stands; empty when it does not."""
        if pod.node:
            return pod.node
        reservation = self.reservations.get(pod.uid)
        return reservation.node if reservation is not None else pod.nominated

    def node_of(self, uid: str) -> str | None:
        """Where the pod of this UID stands, known or only held for."""
        pod = self._pods.get(uid)
        if pod is not None:
            return self.place(pod) or None
        reservation = self.reservations.get(uid)
        return None if reservation is None else reservation.node

    def on(self, node: str) -> Set[str]:
        """UIDs of the pods that may stand on a node."""
        return self._by_node.get(node, frozenset())

    def enter(self, pod: PodFact) -> set[str]:
        """Count a pod where it stands."""
        place = self.place(pod)
        if not place:
            return set()
        self._by_node.setdefault(place, set()).add(pod.uid)
        return {place}

    def leave(self, pod: PodFact) -> set[str]:
        """Count a pod no longer where it stands."""
        place = self.place(pod)
        unlink(self._by_node, (place,), pod.uid)
        return {place} if place else set()

    def reserve(self, reservation: Reservation) -> set[str]:
        """Hold room for a pod, in place of what was held for it; nothing for a pod that is bound already."""
        uid = reservation.uid
        touched = self.release(uid)
        pod = self._pods.get(uid)
        if (pod is not None and pod.node) or (pod is None and self._claims.allocated_for(uid)):
            return touched
        if pod is not None:
            touched |= self.leave(pod)
        self.reservations.hold(reservation)
        self._by_node.setdefault(reservation.node, set()).add(uid)
        return touched | {reservation.node}

    def release(self, uid: str) -> set[str]:
        """Give back what is held for a pod; a nomination counts again."""
        reservation = self.reservations.pop(uid, None)
        if reservation is None:
            return set()
        pod = self._pods.get(uid)
        if pod is None or self.place(pod) != reservation.node:
            unlink(self._by_node, (reservation.node,), uid)
        return {reservation.node} if pod is None else {reservation.node} | self.enter(pod)

    @property
    def ends(self) -> bool:
        """Whether there is anything whose time may pass."""
        return bool(self.reservations) or len(self.fences) > 0

    def expire(self, now: float) -> set[str]:
        """Give back everything whose time has passed."""
        touched = self.fences.over(now)
        for uid in self.reservations.over(now):
            touched |= self.release(uid)
        return touched
