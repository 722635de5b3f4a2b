"""What the API server has said, object by object, and which nodes each change touches.

Raw facts are kept (pods in a compact form) so that a node's row can always be computed from them anew:
events may come in any order, a pod before its node, a claim before the slice it points into, and the state
still converges. Every method that takes a change returns the names of the nodes whose rows may now be
wrong. Where pods stand is in ``scheduler.standing``. No lock, no clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from cluster.wire import Node, Pod
from dra.resource_api import DeviceClass, ResourceClaim, ResourceClaimTemplate
from scheduler.claim_index import ClaimIndex, allocated_pools, consumer_uids, unlink
from scheduler.demand import (
    ClaimKey,
    GpuRequest,
    Part,
    Resolved,
    resolve,
)
from scheduler.host_needs import UNLIMITED, HostLedger, Need, host_need
from scheduler.kept_objects import (
    FINISHED_PHASES,
    ROOM_ON_ANNOTATION,
    WARM_LABEL,
    NodeFact,
    PodFact,
    Tenant,
    claim_key,
    node_fact,
    pod_uid,
)
from scheduler.on_demand import Siblings
from scheduler.pod_shape import PodShape, pod_shape
from scheduler.reported_devices import ReportedDevices
from scheduler.slice_index import SliceIndex
from scheduler.standing import Standing

K = TypeVar("K")


class Facts:
    """All facts with their indices."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeFact] = {}
        self.pods: dict[str, PodFact] = {}
        self._sights: dict[str, tuple[object, ...]] = {}
        self.claim_index = ClaimIndex()
        self.templates: dict[ClaimKey, ResourceClaimTemplate] = {}
        self.classes: dict[str, DeviceClass] = {}
        self.published = SliceIndex()
        self.hosts = HostLedger()
        self.reported = ReportedDevices()
        self.standing = Standing(self.pods, self.claim_index)
        self.reservations = self.standing.reservations
        self.siblings = Siblings()
        self._pods_of_claim: dict[ClaimKey, set[str]] = defaultdict(set)
        self._pods_of_template: dict[ClaimKey, set[str]] = defaultdict(set)
        self._plain: dict[PodShape, Resolved | None] = {}

    @property
    def claims(self) -> dict[ClaimKey, ResourceClaim]:
        """All claims by namespace and name."""
        return self.claim_index.claims

    # --- lookups ------------------------------------------------------------------------------------------

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """ClaimLookup: the claim, or None."""
        return self.claims.get((namespace, name))

    def template(self, namespace: str, name: str) -> ResourceClaimTemplate | None:
        """ClaimLookup: the template, or None."""
        return self.templates.get((namespace, name))

    def claims_in_pool(self, driver: str, pool: str) -> list[ClaimKey]:
        """The claims with devices allocated from a pool."""
        return self.claim_index.in_pool(driver, pool)

    def tenants(self, node: str, without: str | None = None) -> list[Tenant]:
        """The pods whose room on the node no allocated claim shows: bound ones first, each group oldest
        first.

        Under the device plugin that is every bound pod; ``without`` is left out.
        """
        found: list[tuple[int, str, str, Tenant]] = []
        for uid in self.standing.on(node):
            if uid == without:
                continue
            pod = self.pods.get(uid)
            reservation = self.reservations.get(uid)
            if pod is not None and self.standing.place(pod) == node:
                requests = self._unseen(pod)
                if requests and pod.demand is not None and pod.demand.understood:
                    bound = bool(pod.node)
                    tenant = Tenant(uid, bound, pod.demand, requests)
                    found.append((0 if bound else 1, pod.since, uid, tenant))
            elif pod is None and reservation is not None and not self.claim_index.allocated_for(uid):
                tenant = Tenant(uid, False, reservation.demand, reservation.demand.requests)
                found.append((2, "", uid, tenant))
        found.sort(key=lambda entry: entry[:3])
        return [entry[3] for entry in found]

    def host_left(self, node: NodeFact, without: str | None = None) -> Need:
        """Milli-CPU and MiB that bound, nominated and reserved pods leave of the node, never below 0."""
        cpu, memory = self.hosts.taken(node.name)
        for uid in self.standing.on(node.name):
            if uid == without:
                continue
            pod, reservation = self.pods.get(uid), self.reservations.get(uid)
            if pod is not None and self.standing.place(pod) == node.name:
                cpu, memory = cpu + pod.shape.cpu_milli, memory + pod.shape.memory_mib
            elif pod is None and reservation is not None:
                demand = reservation.demand
                cpu, memory = cpu + demand.cpu_milli, memory + demand.memory_mib
        return (
            UNLIMITED if node.cpu_milli == UNLIMITED else max(0, node.cpu_milli - cpu),
            UNLIMITED if node.memory_mib == UNLIMITED else max(0, node.memory_mib - memory),
        )

    def known_pods(self) -> set[str]:
        """UIDs of all pods that are kept or counted."""
        return {*self.pods, *self.hosts.pods()}

    def pod_of_claim(self, key: ClaimKey) -> PodFact | None:
        """The pod that the claim is for (one of them, where pods share it)."""
        known = (self.pods.get(uid) for uid in sorted(consumer_uids(self.claims[key])))
        return next((pod for pod in known if pod is not None), None)

    def node_of_pod(self, uid: str) -> str | None:
        """Where the pod stands, or None."""
        return self.standing.node_of(uid)

    def leaving(self, node: str) -> frozenset[str]:
        """Pods bound to the node that are being deleted."""
        return frozenset(
            uid
            for uid in self.standing.on(node)
            if (pod := self.pods.get(uid)) is not None and pod.leaving and pod.node == node
        )

    def outlived(self, key: ClaimKey, leaving: frozenset[str]) -> bool:
        """Whether every pod that the claim was allocated for is leaving or gone: it is about to be freed."""
        uids = consumer_uids(self.claims[key])
        return bool(uids) and all(uid in leaving or uid not in self.pods for uid in uids)

    def nodes_of_pod(self, uid: str) -> set[str]:
        """Every node whose occupancy mentions the pod: where it stands and where its claims are held."""
        place = self.node_of_pod(uid)
        nodes = {place} if place else set()
        for key in self.claims_of_pod(uid):
            nodes |= self._allocation_nodes(self.claims.get(key))
        return nodes

    def claims_of_pod(self, uid: str) -> set[ClaimKey]:
        """Claims that the pod owns, uses or is to use."""
        found = self.claim_index.of_pod(uid)
        pod = self.pods.get(uid)
        if pod is not None:
            found.update(pod.claims)
            if pod.extended_claim is not None:
                found.add(pod.extended_claim)
        return found

    def only_for(self, key: ClaimKey, uid: str) -> bool:
        """Whether the claim is allocated for this pod and for no other."""
        claim = self.claims.get(key)
        if claim is None or key not in self.claims_of_pod(uid):
            return False
        return all(consumer.uid == uid for consumer in claim.status.reserved_for)

    # --- changes ------------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> set[str]:
        """Take a node in."""
        fact = node_fact(node)
        if self.nodes.get(fact.name) == fact:
            return set()
        self.nodes[fact.name] = fact
        return {fact.name}

    def drop_node(self, name: str) -> set[str]:
        """Forget a node; what stands on it stays known, in case the node comes back."""
        return {name} if self.nodes.pop(name, None) is not None else set()

    def put_pod(self, pod: Pod) -> set[str]:
        """Take a pod in; one that has finished, or asks for no device, is forgotten."""
        uid = pod_uid(pod)
        if pod.status.phase in FINISHED_PHASES:
            return self.drop_pod(uid)
        # Most events of a bound pod tell of conditions: at the same generation nothing of ours changed.
        sight = (
            pod.metadata.generation,
            pod.spec.node_name,
            pod.status.nominated_node_name,
            pod.metadata.deletion_timestamp,
            pod.status.resource_claim_statuses,
            pod.status.extended_resource_claim_status,
        )
        bound = bool(pod.spec.node_name and pod.metadata.generation)
        if bound and uid in self.pods and self._sights.get(uid) == sight:
            return set()
        self._sights[uid] = sight
        shape = pod_shape(pod)
        if shape is None:
            # It asks for no device: only the CPU and memory it takes away from pods with GPUs matter.
            return self.drop_pod(uid, counted=True) | self.hosts.put(uid, pod.spec.node_name, host_need(pod))
        counted = self.hosts.drop(uid)
        self.siblings.put(uid, pod)
        namespace = shape.namespace
        extended = pod.status.extended_resource_claim_status
        notes = pod.metadata.annotations
        fact = PodFact(
            uid=uid,
            namespace=namespace,
            name=pod.metadata.name,
            node=pod.spec.node_name,
            nominated=pod.status.nominated_node_name or notes.get(ROOM_ON_ANNOTATION, ""),
            since=pod.metadata.creation_timestamp or "",
            shape=shape,
            resolved=self._resolve(shape),
            claims=tuple((namespace, ref.claim) for ref in shape.claims if ref.claim),
            extended_claim=(namespace, extended.resource_claim_name)
            if extended is not None and extended.resource_claim_name
            else None,
            leaving=pod.metadata.deletion_timestamp is not None,
            noted=ROOM_ON_ANNOTATION in notes,
            stands_in=WARM_LABEL in pod.metadata.labels,
        )
        old = self.pods.get(uid)
        touched = counted
        if old is not None and not old.node and fact.noted and fact.node == notes[ROOM_ON_ANNOTATION]:
            self.standing.fences.put_up(fact.node)
        if fact.node and uid in self.reservations:
            touched |= self.standing.release(uid)
        if old == fact:
            return touched
        return touched | self._set_pod(uid, fact)

    def drop_pod(self, uid: str, *, counted: bool = False) -> set[str]:
        """Forget a pod and what was held for it; ``counted`` keeps the CPU and memory of one without GPU."""
        self._sights.pop(uid, None)
        touched = self.standing.release(uid)
        if not counted:
            touched |= self.hosts.drop(uid)
        return touched | self._set_pod(uid, None) if uid in self.pods else touched

    def put_claim(self, claim: ResourceClaim) -> set[str]:
        """Take a claim in."""
        key = claim_key(claim)
        old = self.claim_index.put(key, claim)
        touched = self._allocation_nodes(old) | self._allocation_nodes(claim)
        if old is None or old.spec != claim.spec:
            touched |= self._resolve_again(self._pods_of_claim.get(key, ()))
        touched |= self._touch_pods(key, claim)
        if claim.status.allocation is not None:
            for consumer in claim.status.reserved_for:
                if consumer.uid in self.reservations and consumer.uid not in self.pods:
                    touched |= self.standing.release(consumer.uid)
        return touched

    def drop_claim(self, key: ClaimKey) -> set[str]:
        """Forget a claim."""
        old = self.claim_index.drop(key)
        if old is None:
            return set()
        touched = self._allocation_nodes(old)
        touched |= self._resolve_again(self._pods_of_claim.get(key, ()))
        return touched | self._touch_pods(key, old)

    def put_template(self, template: ResourceClaimTemplate) -> set[str]:
        """Take a claim template in (its spec never changes)."""
        key = (template.metadata.namespace or "default", template.metadata.name)
        self.templates[key] = template
        return self._resolve_again(self._pods_of_template.get(key, ()))

    def drop_template(self, key: ClaimKey) -> set[str]:
        """Forget a claim template."""
        self.templates.pop(key, None)
        return self._resolve_again(self._pods_of_template.get(key, ()))

    def put_class(self, item: DeviceClass) -> set[str]:
        """Take a device class in."""
        if self.classes.get(item.metadata.name) == item:
            return set()
        self.classes[item.metadata.name] = item
        return self._resolve_all()

    def drop_class(self, name: str) -> set[str]:
        """Forget a device class."""
        return self._resolve_all() if self.classes.pop(name, None) is not None else set()

    # --- inside -------------------------------------------------------------------------------------------

    def _set_pod(self, uid: str, fact: PodFact | None) -> set[str]:
        old = self.pods.get(uid)
        touched: set[str] = set()
        if old is None or fact is None or old.leaving != fact.leaving:
            # Claims that outlive their pods count as about to be freed, wherever they are allocated.
            for key in self.claim_index.of_pod(uid):
                touched |= self._allocation_nodes(self.claims.get(key))
        if old is not None:
            touched |= self.standing.leave(old)
            unlink(self._pods_of_claim, old.claims, uid)
            unlink(self._pods_of_template, _template_keys(old), uid)
            del self.pods[uid]
        if fact is None:
            self.siblings.drop(uid)
        else:
            self.pods[uid] = fact
            touched |= self.standing.enter(fact)
            for key in fact.claims:
                self._pods_of_claim[key].add(uid)
            for key in _template_keys(fact):
                self._pods_of_template[key].add(uid)
        return touched

    def _resolve(self, shape: PodShape) -> Resolved | None:
        if shape.claims:
            return resolve(shape, self, self.classes)
        if shape not in self._plain:
            if len(self._plain) > 4096:
                self._plain.clear()
            self._plain[shape] = resolve(shape, self, self.classes)
        return self._plain[shape]

    def _resolve_again(self, uids: Iterable[str]) -> set[str]:
        touched: set[str] = set()
        for uid in list(uids):
            fact = self.pods[uid]
            resolved = self._resolve(fact.shape)
            if resolved != fact.resolved:
                touched |= self._set_pod(uid, replace(fact, resolved=resolved))
        return touched

    def _resolve_all(self) -> set[str]:
        self._plain.clear()
        touched: set[str] = set()
        for uid, fact in list(self.pods.items()):
            resolved = self._resolve(fact.shape)
            if resolved != fact.resolved:
                touched |= self._set_pod(uid, replace(fact, resolved=resolved))
        return touched

    def _unseen(self, pod: PodFact) -> tuple[GpuRequest, ...]:
        """The requests of the pod for which no allocated claim is known."""
        if pod.resolved is None:
            return ()
        requests: list[GpuRequest] = []
        for part in pod.resolved.parts:
            if not self._seen(pod, part):
                requests.extend(part.requests)
        return tuple(requests)

    def _seen(self, pod: PodFact, part: Part) -> bool:
        if part.claim is not None:
            return self.claim_index.is_allocated(part.claim)
        if pod.extended_claim is not None and self.claim_index.is_allocated(pod.extended_claim):
            return True
        return self.claim_index.extended_for(pod.uid)

    def _allocation_nodes(self, claim: ResourceClaim | None) -> set[str]:
        nodes = {self.published.node_of_pool(pool) for pool in allocated_pools(claim)}
        return {node for node in nodes if node is not None}

    def _touch_pods(self, key: ClaimKey, claim: ResourceClaim) -> set[str]:
        """Nodes on which pods wait for this claim: what they hold there may be a prediction no longer."""
        places = (self.node_of_pod(uid) for uid in {*self._pods_of_claim.get(key, ()), *consumer_uids(claim)})
        return {place for place in places if place}


def _template_keys(pod: PodFact) -> tuple[ClaimKey, ...]:
    return tuple((pod.namespace, ref.template) for ref in pod.shape.claims if ref.template)
