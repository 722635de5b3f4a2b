"""Keeps a Fleet true to the cluster: one reflector for each kind of object that the fleet knows.

Nodes, pods (those that have not ended), and, where the API server has resource.k8s.io/v1, resource slices,
claims, claim templates and device classes; and what nodes under the device plugin report of their devices. A
cluster without that group (DRA off) is fed with nodes and pods alone; the group is looked for once, at the
start. Slices are decoded leanly (``scheduler.slice_store``): whole, 5,000 nodes of them would take gigabytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from cluster.client import Api, ApiError, ApiRefused
from cluster.fanout import FanOut
from cluster.reflector import Handler, Reflector
from cluster.wire import ConfigMap, HasMetadata, Node, Pod
from dra.resource_api import DeviceClass, ResourceClaim, ResourceClaimTemplate
from node.podresources_report import DEFAULT_NAMESPACE, LABEL
from scheduler.fleet import Fleet
from scheduler.kept_objects import pod_uid
from scheduler.slice_store import LeanSlice

log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)

RESOURCE_GROUP = "/apis/resource.k8s.io/v1"
REPORTS = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/configmaps"
LIVING_PODS = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class _Into(Generic[T]):
    """A reflector's handler made of three of the fleet's methods."""

    replace: Callable[[Sequence[T]], None]
    apply: Callable[[T], None]
    delete: Callable[[T], None]

    def replaced(self, items: Sequence[T]) -> None:
        self.replace(items)

    def changed(self, kind: str, item: T) -> None:
        if kind == "DELETED":
            self.delete(item)
        else:
            self.apply(item)


class _Discovery(msgspec.Struct, frozen=True):
    kind: str = ""


class Feed:
    """The reflectors of one fleet. ``start`` once; ``stop`` ends all threads."""

    def __init__(
        self,
        api: Api,
        fleet: Fleet,
        **options: Any,
    ) -> None:
        """``options`` are passed on to every reflector."""
        self._listeners: dict[str, list[Handler[Any]]] = {}
        self._api = api
        self._fleet = fleet
        self._options = options
        self._reflectors: dict[str, Reflector[Any]] = {}
        self._reports: Reflector[ConfigMap] | None = None

    def listen(self, name: str, handler: Handler[Any]) -> None:
        """Let ``handler`` see a watch too ("pods", "nodes", …), after the fleet. To be called before
        ``start``.
        """
        self._listeners.setdefault(name, []).append(handler)

    def start(self) -> None:
        """Start the watches; returns at once, ``synced`` tells when the fleet is complete."""
        fleet = self._fleet
        if self._has_resource_group():
            # Hardware and claims first: pods and nodes then find what they refer to, and rows are computed
            # fewer times.
            self._add(
                "deviceclasses",
                f"{RESOURCE_GROUP}/deviceclasses",
                DeviceClass,
                _Into[DeviceClass](
                    fleet.replace_classes,
                    fleet.apply_class,
                    lambda item: fleet.delete_class(item.metadata.name),
                ),
            )
            self._add(
                "resourceslices",
                f"{RESOURCE_GROUP}/resourceslices",
                LeanSlice,
                _Into[LeanSlice](
                    fleet.replace_slices,
                    fleet.apply_slice,
                    lambda item: fleet.delete_slice(item.metadata.name),
                ),
            )
            self._add(
                "resourceclaimtemplates",
                f"{RESOURCE_GROUP}/resourceclaimtemplates",
                ResourceClaimTemplate,
                _Into[ResourceClaimTemplate](
                    fleet.replace_templates,
                    fleet.apply_template,
                    lambda item: fleet.delete_template(item.metadata.namespace, item.metadata.name),
                ),
            )
            self._add(
                "resourceclaims",
                f"{RESOURCE_GROUP}/resourceclaims",
                ResourceClaim,
                _Into[ResourceClaim](
                    fleet.replace_claims,
                    fleet.apply_claim,
                    lambda item: fleet.delete_claim(item.metadata.namespace, item.metadata.name),
                ),
            )
        self._add(
            "nodes",
            "/api/v1/nodes",
            Node,
            _Into[Node](
                fleet.replace_nodes, fleet.apply_node, lambda item: fleet.delete_node(item.metadata.name)
            ),
        )
        self._add(
            "pods",
            "/api/v1/pods",
            Pod,
            _Into[Pod](fleet.replace_pods, fleet.apply_pod, lambda item: fleet.delete_pod(pod_uid(item))),
            field_selector=LIVING_PODS,
        )
        for reflector in self._reflectors.values():
            reflector.start()
        self._start_reports()

    def stop(self) -> None:
        """End all watches and their threads."""
        for reflector in self._reflectors.values():
            reflector.stop()
        if self._reports is not None:
            self._reports.stop()

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed in full at least once."""
        return bool(self._reflectors) and all(r.synced.is_set() for r in self._reflectors.values())

    @property
    def reflectors(self) -> dict[str, Reflector[Any]]:
        """The reflectors by plural name, for metrics and readiness."""
        return dict(self._reflectors)

    def missing(self) -> list[str]:
        """The kinds that have not been listed yet."""
        return [name for name, reflector in self._reflectors.items() if not reflector.synced.is_set()]

    def age_seconds(self, now: float | None = None) -> float | None:
        """Seconds since the API server last confirmed the kind it has been silent about for longest; None
        before all are synced.

        Ages are measured on the reflectors' own clock; ``now`` is taken for symmetry with other sources and
        not needed.
        """
        ages = [reflector.age_seconds() for reflector in self._reflectors.values()]
        known = [age for age in ages if age is not None]
        return max(known) if known and len(known) == len(ages) else None

    def _add(
        self, name: str, path: str, kind: type[T], handler: _Into[T], field_selector: str | None = None
    ) -> None:
        handlers = FanOut[Any]([handler, *self._listeners.get(name, ())])
        self._reflectors[name] = Reflector(
            self._api, path, kind, handlers, field_selector=field_selector, **self._options
        )

    def _start_reports(self) -> None:
        """Watch what nodes under the device plugin report, where that is installed. Nobody waits for it."""
        try:
            self._api.list_raw(REPORTS, {"labelSelector": LABEL, "limit": 1})
        except ApiRefused as refused:
            log.info("reports of nodes are not read, first-fit is replayed instead: %s", refused)
            return
        except ApiError as error:
            log.warning("could not look for reports of nodes: %s", error)
        change = self._fleet.change_reports
        self._reports = Reflector(
            self._api,
            REPORTS,
            ConfigMap,
            _Into[ConfigMap](
                lambda items: change(lambda known: known.replace(items)),
                lambda item: change(lambda known: known.put(item)),
                lambda item: change(lambda known: known.drop(item.metadata.name)),
            ),
            label_selector=LABEL,
            **self._options,
        )
        self._reports.start()

    def _has_resource_group(self) -> bool:
        try:
            self._api.get(RESOURCE_GROUP, _Discovery)
        except ApiRefused as refused:
            if refused.status == 404:
                log.info("the API server has no %s: DRA is not used", RESOURCE_GROUP)
                return False
        except ApiError as error:
            # Unreachable for the moment; the reflectors go on trying.
            log.warning("could not look for %s: %s", RESOURCE_GROUP, error)
        return True
