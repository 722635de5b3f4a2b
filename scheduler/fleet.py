"""The fleet: every node as one row of columns, kept true to the facts by recomputing the rows that a change
touches.

Watch events and reservations go in; columns, a generation number and the rows changed since come out. A row
is always computed whole from ``scheduler.facts``, so the order of events does not matter. Rows whose
content did not change do not get a new generation: a heartbeat costs nothing downstream.

One lock (``lock``, re-entrant) covers everything; whoever reads columns holds it. Mass loads give it up
between batches. Does no I/O and reads no clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np

from cluster.wire import Node, Pod
from dra.inventory import NodeInventory
from dra.resource_api import DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice
from scheduler.columns import (
    NO_ID,
    Columns,
    Rows,
    blank_row,
    empty_columns,
    grown,
)
from scheduler.demand import ClaimKey, Demand
from scheduler.facts import Facts
from scheduler.hardware import Hardware
from scheduler.interning import Interner
from scheduler.kept_objects import NodeFact, Reservation, claim_key, pod_uid
from scheduler.layout import (
    Layout,
    sweep_assets,
    sweep_orders,
    write_host,
    write_layout,
    write_room,
)
from scheduler.layouts import Layouts
from scheduler.neighbours import Companies
from scheduler.node_classes import NodeClassifier
from scheduler.reported_devices import ReportedDevices
from scheduler.slice_store import LeanSlice

_BATCH = 256
_ORDERS_BEFORE_SWEEP = 8192
_Change = Callable[..., set[str]]
_ASSETS_BEFORE_SWEEP = 65536


class Fleet:
    """Columnar state of all nodes. See the module docstring for the rules."""

    def __init__(self, capacity: int = 64) -> None:
        self.lock = threading.RLock()
        self.facts = Facts()
        self.hardware = Hardware()
        self.profiles: Interner[str] = Interner()
        self.zones: Interner[str] = Interner()
        self.assets: Interner[str] = Interner()
        self.companies = Companies()
        self.columns: Columns = empty_columns(capacity, 8, 1, 1, 1)
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self.generation = 0
        self.layout_generation = 0
        self.ids_renewed = 0  # how often ids in the columns changed their meaning
        self._free: list[int] = []
        self._layouts = Layouts(self.facts.published, self.hardware, self.profiles)
        self._written: dict[int, tuple[object, ...]] = {}
        self._classifier = NodeClassifier("", {}, ())
        self._sweep_orders_at = _ORDERS_BEFORE_SWEEP
        self._sweep_assets_at = _ASSETS_BEFORE_SWEEP

    @property
    def size(self) -> int:
        """Rows in use, those of deleted nodes included."""
        return len(self.names)

    # --- reading ------------------------------------------------------------------------------------------

    def changes_since(self, generation: int) -> Rows:
        """Rows whose content changed after that generation."""
        return np.flatnonzero(self.columns.changed_at[: self.size] > generation)

    def view(self, rows: Rows | None = None) -> Columns:
        """The columns of some rows (copies), or of all rows in use (views: valid while the lock is held)."""
        return self.columns.take(slice(0, self.size) if rows is None else rows)

    def view_without(self, uid: str) -> tuple[Rows, Columns]:
        """The rows that one pod has any part in, as they would be without it."""
        names = sorted(name for name in self.facts.nodes_of_pod(uid) if name in self.rows)
        rows = np.array([self.rows[name] for name in names], dtype=np.int64)
        columns = self.view(rows)
        for index, name in enumerate(names):
            layout = self._layouts.get(name)
            if layout is not None:
                room, beside = self.companies.room(layout, self.facts, without=uid)
                write_room(columns, index, layout, room, self.profiles)
                self.companies.write(columns, index, beside)
                write_host(columns, index, self.facts.host_left(self.facts.nodes[name], without=uid))
        return rows, columns

    def layout(self, node: str) -> Layout | None:
        """What the node offers, with its ids, or None."""
        return self._layouts.get(node)

    def inventory(self, node: str) -> NodeInventory | None:
        """What the node offers, or None."""
        layout = self._layouts.get(node)
        return None if layout is None else layout.inventory

    def zones_in_use(self) -> list[str]:
        """The grid zones that nodes stand in."""
        with self.lock:
            columns = self.columns
            used = np.unique(columns.zone_id[: self.size][columns.valid[: self.size]])
            return [self.zones.values[zone] for zone in used.tolist() if zone >= 0]

    # --- facts --------------------------------------------------------------------------------------------

    def apply_node(self, node: Node) -> None:
        """Take in one node, new or changed."""
        with self.lock:
            self._rebuild(self.facts.put_node(node))

    def delete_node(self, name: str) -> None:
        """Drop a node and its row."""
        with self.lock:
            self._rebuild(self.facts.drop_node(name))

    def apply_slice(self, item: ResourceSlice | LeanSlice) -> None:
        """Take in one resource slice."""
        with self.lock:
            self._rebuild(self._layouts.put_slice(item))

    def delete_slice(self, name: str) -> None:
        """Drop one resource slice."""
        with self.lock:
            self._rebuild(self._layouts.drop_slice(name))

    def apply_pod(self, pod: Pod) -> None:
        """Take in one pod."""
        with self.lock:
            self._rebuild(self.facts.put_pod(pod))

    def delete_pod(self, uid: str) -> None:
        """Drop one pod."""
        with self.lock:
            self._rebuild(self.facts.drop_pod(uid))

    def apply_claim(self, claim: ResourceClaim) -> None:
        """Take in one resource claim."""
        with self.lock:
            self._rebuild(self.facts.put_claim(claim))

    def delete_claim(self, namespace: str, name: str) -> None:
        """Drop one resource claim."""
        with self.lock:
            self._rebuild(self.facts.drop_claim((namespace, name)))

    def apply_template(self, template: ResourceClaimTemplate) -> None:
        """Take in one resource claim template."""
        with self.lock:
            self._rebuild(self.facts.put_template(template))

    def delete_template(self, namespace: str, name: str) -> None:
        """Drop one resource claim template."""
        with self.lock:
            self._rebuild(self.facts.drop_template((namespace, name)))

    def apply_class(self, item: DeviceClass) -> None:
        """Take in one device class."""
        with self.lock:
            self._rebuild(self.facts.put_class(item))

    def delete_class(self, name: str) -> None:
        """Drop one device class."""
        with self.lock:
            self._rebuild(self.facts.drop_class(name))

    def change_reports(self, change: Callable[[ReportedDevices], set[str]]) -> None:
        """Put, drop or replace what nodes report of their devices."""
        with self.lock:
            self._rebuild(change(self.facts.reported))

    def replace_nodes(self, nodes: Iterable[Node]) -> None:
        """Take a complete list of nodes: the others are gone."""
        items = {node.metadata.name: node for node in nodes}
        gone = set(self.facts.nodes) - items.keys()
        self._replace(items.values(), self.facts.put_node, gone, self.facts.drop_node)

    def replace_slices(self, slices: Iterable[ResourceSlice | LeanSlice]) -> None:
        """Take a complete list of resource slices."""
        items = {item.metadata.name: item for item in slices}
        self._replace(
            items.values(),
            self._layouts.put_slice,
            self.facts.published.names() - items.keys(),
            self._layouts.drop_slice,
        )

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        """Take a complete list of pods."""
        items = {pod_uid(pod): pod for pod in pods}
        gone = self.facts.known_pods() - items.keys()
        self._replace(items.values(), self.facts.put_pod, gone, self.facts.drop_pod)

    def replace_claims(self, claims: Iterable[ResourceClaim]) -> None:
        """Take a complete list of resource claims."""
        items = {claim_key(claim): claim for claim in claims}
        gone = set(self.facts.claims) - items.keys()
        self._replace(items.values(), self.facts.put_claim, gone, self.facts.drop_claim)

    def replace_templates(self, templates: Iterable[ResourceClaimTemplate]) -> None:
        """Take a complete list of resource claim templates."""
        items: dict[ClaimKey, ResourceClaimTemplate] = {
            (item.metadata.namespace or "default", item.metadata.name): item for item in templates
        }
        gone = set(self.facts.templates) - items.keys()
        self._replace(items.values(), self.facts.put_template, gone, self.facts.drop_template)

    def replace_classes(self, classes: Iterable[DeviceClass]) -> None:
        """Take a complete list of device classes."""
        items = {item.metadata.name: item for item in classes}
        gone = set(self.facts.classes) - items.keys()
        self._replace(items.values(), self.facts.put_class, gone, self.facts.drop_class)

    # --- reservations -------------------------------------------------------------------------------------

    def reserve(self, pod_uid: str, row: int, demand: Demand, until: float) -> None:
        """Hold room for a pod on a row until ``until`` (seconds of the caller's clock) or until the watch
        shows the pod bound.
        """
        with self.lock:
            self._rebuild(self.facts.standing.reserve(Reservation(pod_uid, self.names[row], demand, until)))

    def release(self, pod_uid: str) -> None:
        """Give back what is held for a pod."""
        with self.lock:
            self._rebuild(self.facts.standing.release(pod_uid))

    def expire(self, now: float) -> None:
        """Give back what has been held for too long."""
        with self.lock:
            if self.facts.standing.ends:
                self._rebuild(self.facts.standing.expire(now))

    # --- policy -------------------------------------------------------------------------------------------

    def classify(self, classifier: NodeClassifier) -> None:
        """Sort all nodes into price classes and grid zones anew, if the rules differ from those in force."""
        with self.lock:
            if classifier != self._classifier:
                self._classifier = classifier
                self._rebuild(set(self.rows))

    def watch_neighbours(self, watched: bool) -> None:
        """Keep who stands beside whom, or no longer. Called without the lock, requests get through."""
        with self.lock:
            names = list(self.rows) if watched != self.companies.watched else []
            self.companies.watched = watched
        for start in range(0, len(names), _BATCH):
            with self.lock:
                self._rebuild(name for name in names[start : start + _BATCH] if name in self.rows)

    # --- rows ---------------------------------------------------------------------------------------------

    def rebuild_row(self, node: str) -> None:
        """Compute one node's row from the facts."""
        with self.lock:
            self._rebuild({node})

    def _replace(self, items: Iterable[object], put: _Change, gone: Iterable[object], drop: _Change) -> None:
        # A relist of 50,000 pods takes a second; requests get through between the batches.
        touched: set[str] = set()
        for change, things in ((drop, list(gone)), (put, list(items))):
            for start in range(0, len(things), _BATCH):
                with self.lock:
                    for thing in things[start : start + _BATCH]:
                        touched |= change(thing)
        names = sorted(touched)
        for start in range(0, len(names), _BATCH):
            with self.lock:
                self._rebuild(names[start : start + _BATCH])

    def _rebuild(self, nodes: Iterable[str]) -> None:
        for name in nodes:
            node = self.facts.nodes.get(name)
            if node is None:
                self._remove(name)
            else:
                self._write(name, node)

    def _remove(self, name: str) -> None:
        self._layouts.forget(name)
        row = self.rows.pop(name, None)
        if row is None:
            return
        blank_row(self.columns, row)
        self.names[row] = ""
        self._written.pop(row, None)
        self._free.append(row)
        self._mark(row, layout=True)

    def _write(self, name: str, node: NodeFact) -> None:
        if len(self.hardware.orders) > self._sweep_orders_at:
            self._sweep_orders()
        layout = self._layouts.of(node)
        room, beside = self.companies.room(layout, self.facts)
        zone = self._classifier.zone(node.labels)
        zone_id = NO_ID if zone is None else self.zones.id(zone)
        class_id = self._classifier.node_class(node.labels)
        row = self.rows.get(name)
        # A node without GPUs has no price: its pods may come and go unnoticed.
        host = (0, 0) if layout is None else self.facts.host_left(node)
        state = (layout, zone_id, class_id, node.images, node.weights, room, beside, host)
        old = self._written.get(row) if row is not None else None
        if old == state:
            return
        if row is None:
            row = self._new_row(name)
        if old is None or old[:3] != state[:3]:
            self._write_layout(row, layout)
            self.columns.zone_id[row], self.columns.class_id[row] = zone_id, class_id
        if old is None or old[3:5] != state[3:5]:
            self._write_assets(row, node)
        if layout is not None:
            write_room(self.columns, row, layout, room, self.profiles)
            write_host(self.columns, row, host)
        if old is None or old[:3] != state[:3] or old[6] != beside:
            self.companies.write(self.columns, row, beside)
            self.ids_renewed += int(self.companies.sweep(self.columns))
        self._written[row] = state
        self._mark(row, layout=old is None or old[:3] != state[:3])

    def _mark(self, row: int, *, layout: bool) -> None:
        self.generation += 1
        self.columns.changed_at[row] = self.generation
        if layout:
            self.layout_generation = self.generation

    def _new_row(self, name: str) -> int:
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self._ensure(rows=row + 1)
        self.rows[name] = row
        return row

    def _ensure(self, rows: int = 0, gpus: int = 0, images: int = 0, weights: int = 0) -> None:
        self.columns = grown(
            self.columns, rows=rows, gpus=gpus, profiles=len(self.profiles), images=images, weights=weights
        )

    def _write_layout(self, row: int, layout: Layout | None) -> None:
        if layout is not None:
            self._ensure(gpus=len(layout.model_ids))
        blank_row(self.columns, row, assets=False)
        self.columns.valid[row] = True
        if layout is not None:
            write_layout(self.columns, row, layout)

    def _write_assets(self, row: int, node: NodeFact) -> None:
        if len(self.assets) > self._sweep_assets_at:
            self._sweep_assets()
        images = [self.assets.id(name) for name in node.images]
        weights = [self.assets.id(f"weights {name}") for name in node.weights]
        self._ensure(images=len(images), weights=len(weights))
        for column, ids in ((self.columns.image_ids, images), (self.columns.weight_ids, weights)):
            column[row] = NO_ID
            column[row, : len(ids)] = ids

    def _sweep_assets(self) -> None:
        """Forget images and weights that no node has any more."""
        sweep_assets(self.columns, self.size, self.assets)
        self.ids_renewed += 1
        self._sweep_assets_at = max(_ASSETS_BEFORE_SWEEP, 2 * len(self.assets))

    def _sweep_orders(self) -> None:
        """Forget published orders that no row has any more."""
        renamed = sweep_orders(self.columns, self.size, self.hardware)
        self.ids_renewed += 1
        self._layouts.rename_orders(renamed)
        for row, state in self._written.items():
            self._written[row] = (self._layouts.get(self.names[row]), *state[1:])
        self._sweep_orders_at = max(_ORDERS_BEFORE_SWEEP, 2 * len(self.hardware.orders))
