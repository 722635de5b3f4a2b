"""Policies from ConfigMaps, live: an edit takes effect when the watch delivers it, a bad one does not.

``PolicySource`` holds the one cluster policy, ``AutoscalingPolicySource`` the autoscaling policies of all
namespaces. Both keep the last good policy after a bad edit and say so: an Event on the ConfigMap, a callback
and counters (``loads``, ``refusals``) for metrics.

- Cluster policy deleted: the last good one stays in force, ``missing`` is true, an Event says so. Absent from
  the beginning: the defaults are in force. Bad from the beginning: the defaults are in ``current``, but
  ``ready`` stays unset, so a process can refuse to serve under a policy that nobody wrote.
- Autoscaling policy deleted (or its label removed): withdrawn, its target is left alone from then on.
- Two autoscaling policies for one target: the older ConfigMap rules; the other is reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from cluster import event_reasons as reasons
from cluster.client import Api
from cluster.events import EventRecorder
from cluster.policy import (
    AutoscalingPolicy,
    ClusterPolicy,
    PolicyRefused,
    load_autoscaling_policy,
    load_cluster_policy,
)
from cluster.policy_shelf import Key, Loaded, PolicyShelf, Refused
from cluster.reflector import Reflector
from cluster.wire import ConfigMap, ObjectReference

log = logging.getLogger(__name__)

AUTOSCALING_SELECTOR = "slicewise.io/policy=autoscaling"


class _Reporter:
    """Says on the ConfigMap and in the log what became of it."""

    def __init__(self, recorder: EventRecorder | None) -> None:
        self._recorder = recorder

    def say(self, config_map: ConfigMap, reason: str, note: str, action: str) -> None:
        bad = reason != reasons.POLICY_LOADED
        log.log(logging.WARNING if bad else logging.INFO, "%s", note)
        if self._recorder is not None:
            self._recorder.record(
                _reference(config_map), reason, note, reasons.WARNING if bad else reasons.NORMAL, action
            )

    def refused(self, config_map: ConfigMap, outcome: Refused) -> None:
        kept = "the last good policy stays in force" if outcome.kept else "no policy is in force yet"
        self.say(config_map, reasons.POLICY_REFUSED, f"{kept}; {outcome.refusal}", "LoadPolicy")


class PolicySource:
    """The cluster policy in force."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str = "slicewise-policy",
        *,
        check: Callable[[ClusterPolicy, str], None] | None = None,
        recorder: EventRecorder | None = None,
        on_loaded: Callable[[ClusterPolicy], None] | None = None,
        on_refused: Callable[[PolicyRefused], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``check(policy, where)`` may raise PolicyRefused for what only the caller can know (a carbon
        provider that cannot be built). The callbacks run in the watching thread; ``clock`` is the wall
        clock in seconds.
        """
        self.current = ClusterPolicy()
        self.generation = 0
        self.ready = threading.Event()
        self.missing = False
        self.loads = self.refusals = 0
        self.loaded_at_seconds: float | None = None
        self.last_refusal: PolicyRefused | None = None
        self._check = check
        self._shelf = PolicyShelf(self._load)
        self._reporter = _Reporter(recorder)
        self._on_loaded, self._on_refused = on_loaded, on_refused
        self._clock = clock
        self._last: ConfigMap | None = None
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        self.reflector = Reflector(api, path, ConfigMap, self, field_selector=f"metadata.name={name}")

    def start(self) -> None:
        """Begin to watch."""
        self.reflector.start()

    def stop(self) -> None:
        """End the watch."""
        self.reflector.stop()

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        """Take the complete state (called by the reflector)."""
        if items:
            self._offer(items[0])
        else:
            self._gone()

    def changed(self, kind: str, item: ConfigMap) -> None:
        """Take one change (called by the reflector)."""
        if kind == "DELETED":
            self._gone()
        else:
            self._offer(item)

    def _load(self, text: str, where: str) -> ClusterPolicy:
        policy = load_cluster_policy(text, where)
        if self._check is not None:
            self._check(policy, where)
        return policy

    def _offer(self, config_map: ConfigMap) -> None:
        self._last = config_map
        self.missing = False
        outcome = self._shelf.offer(config_map)
        if isinstance(outcome, Loaded):
            self.current = outcome.policy
            self.generation += 1
            self.loads += 1
            self.loaded_at_seconds = self._clock()
            self.last_refusal = None
            where = f"{config_map.metadata.namespace}/{config_map.metadata.name}"
            note = f"policy of ConfigMap {where} is in force (generation {self.generation})"
            self._reporter.say(config_map, reasons.POLICY_LOADED, note, "LoadPolicy")
            self.ready.set()
            if self._on_loaded is not None:
                self._on_loaded(outcome.policy)
        elif isinstance(outcome, Refused):
            self.refusals += 1
            self.last_refusal = outcome.refusal
            self._reporter.refused(config_map, outcome)
            if self._on_refused is not None:
                self._on_refused(outcome.refusal)

    def _gone(self) -> None:
        self.missing = True
        self.last_refusal = None
        if self._last is None:
            self.ready.set()  # absent from the beginning: the defaults are what was asked for
            return
        key = (self._last.metadata.namespace, self._last.metadata.name)
        if self._shelf.withdraw(key, keep=True):
            note = f"ConfigMap {key[0]}/{key[1]} is gone; the last good policy stays in force"
            self._reporter.say(self._last, reasons.POLICY_MISSING, note, "KeepPolicy")


class AutoscalingPolicySource:
    """The autoscaling policies in force, by (namespace, name) of their ConfigMaps.

    ``policies`` is replaced, never changed: hold on to it for as long as a consistent view is needed.
    """

    def __init__(
        self,
        api: Api,
        *,
        recorder: EventRecorder | None = None,
        on_changed: Callable[[Mapping[Key, AutoscalingPolicy]], None] | None = None,
        on_refused: Callable[[Key, PolicyRefused], None] | None = None,
    ) -> None:
        """The callbacks run in the watching thread."""
        self.policies: Mapping[Key, AutoscalingPolicy] = {}
        self.conflicts: Mapping[Key, Key] = {}  # the one set aside -> the one that rules
        self.generation = 0
        self.loads = self.refusals = 0
        self._shelf = PolicyShelf(load_autoscaling_policy)
        self._reporter = _Reporter(recorder)
        self._on_changed, self._on_refused = on_changed, on_refused
        self._maps: dict[Key, ConfigMap] = {}
        self.reflector = Reflector(
            api, "/api/v1/configmaps", ConfigMap, self, label_selector=AUTOSCALING_SELECTOR
        )

    @property
    def refused(self) -> Mapping[Key, PolicyRefused]:
        """Why the present text of a ConfigMap is not in force."""
        return self._shelf.refused

    def reference(self, key: Key) -> ObjectReference | None:
        """The ConfigMap of a policy, for Events about it and as an owner; None when it is gone."""
        config_map = self._maps.get(key)
        return None if config_map is None else _reference(config_map)

    def start(self) -> None:
        """Begin to watch."""
        self.reflector.start()

    def stop(self) -> None:
        """End the watch."""
        self.reflector.stop()

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        """Take the complete state (called by the reflector)."""
        present = {(item.metadata.namespace, item.metadata.name) for item in items}
        for key in self._shelf.known() - present:
            self._withdraw(key)
        for item in items:
            self._offer(item)
        self._settle()

    def changed(self, kind: str, item: ConfigMap) -> None:
        """Take one change (called by the reflector)."""
        if kind == "DELETED":
            self._withdraw((item.metadata.namespace, item.metadata.name))
        else:
            self._offer(item)
        self._settle()

    def _offer(self, config_map: ConfigMap) -> None:
        outcome = self._shelf.offer(config_map)
        self._maps[(config_map.metadata.namespace, config_map.metadata.name)] = config_map
        if isinstance(outcome, Loaded):
            self.loads += 1
            target = outcome.policy.target
            note = f"autoscaling policy for {target.kind} {target.name} is in force"
            self._reporter.say(config_map, reasons.POLICY_LOADED, note, "LoadPolicy")
        elif isinstance(outcome, Refused):
            self.refusals += 1
            self._reporter.refused(config_map, outcome)
            if self._on_refused is not None:
                self._on_refused(outcome.key, outcome.refusal)

    def _withdraw(self, key: Key) -> None:
        self._shelf.withdraw(key, keep=False)
        self._maps.pop(key, None)

    def _settle(self) -> None:
        """Let the older of two policies for one target rule, and publish what is in force."""
        ruling: dict[tuple[str, str, str], Key] = {}
        conflicts: dict[Key, Key] = {}
        for key in sorted(self._shelf.in_force, key=self._age):
            target = self._shelf.in_force[key].target
            group = target.api_version.rpartition("/")[0]
            first = ruling.setdefault((key[0], f"{target.kind}.{group}", target.name), key)
            if first != key:
                conflicts[key] = first
        for key, first in conflicts.items():
            if self.conflicts.get(key) != first:
                note = f"set aside: the older ConfigMap {first[0]}/{first[1]} names the same target"
                self._reporter.say(self._maps[key], reasons.POLICY_CONFLICT, note, "LoadPolicy")
        policies = {key: self._shelf.in_force[key] for key in ruling.values()}
        changed = policies != self.policies
        self.conflicts = conflicts
        if changed:
            self.policies = policies
            self.generation += 1
            if self._on_changed is not None:
                self._on_changed(policies)

    def _age(self, key: Key) -> tuple[str, Key]:
        return (self._maps[key].metadata.creation_timestamp or "", key)


def _reference(config_map: ConfigMap) -> ObjectReference:
    metadata = config_map.metadata
    return ObjectReference(
        api_version="v1",
        kind="ConfigMap",
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
    )
