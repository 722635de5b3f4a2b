"""The DaemonSets of the cluster, by one watch: what every new node will run (``daemons``).

Without the right to list them, or before they are known, new nodes are taken to run none: the expander would
otherwise be silent for something that costs an answer a few CPUs. The reflector logs why it cannot see them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ObjectMeta, Pod, PodSpec

PATH = "/apis/apps/v1/daemonsets"


class _Template(msgspec.Struct, frozen=True, gc=False):
    """core/v1 PodTemplateSpec."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class _Spec(msgspec.Struct, frozen=True, gc=False):
    """apps/v1 DaemonSetSpec, as far as its pods go."""

    template: _Template = _Template()


class DaemonSet(msgspec.Struct, frozen=True, gc=False):
    """apps/v1 DaemonSet."""

    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()


class DaemonSets:
    """A handler for its own reflector. Safe to read from several threads."""

    def __init__(self, api: Api) -> None:
        self._lock = threading.Lock()
        self._pods: dict[tuple[str, str], Pod] = {}
        self._reflector = Reflector(api, PATH, DaemonSet, self)

    def start(self) -> None:
        """Begin to watch; once."""
        self._reflector.start()

    def stop(self) -> None:
        """End the watch. Safe to call twice and before ``start``."""
        self._reflector.stop()

    @property
    def settled(self) -> bool:
        """Whether they are known, or could not be listed."""
        return self._reflector.synced.is_set() or self._reflector.failures > 0

    def templates(self) -> tuple[Pod, ...]:
        """A pod of each DaemonSet, in order of namespace and name."""
        with self._lock:
            return tuple(pod for _, pod in sorted(self._pods.items(), key=lambda entry: entry[0]))

    def replaced(self, items: Sequence[DaemonSet]) -> None:
        """A complete list."""
        pods = {_key(one): pod for one in items if (pod := _pod(one)) is not None}
        with self._lock:
            self._pods = pods

    def changed(self, kind: str, item: DaemonSet) -> None:
        """One change."""
        pod = None if kind == "DELETED" else _pod(item)
        with self._lock:
            if pod is None:
                self._pods.pop(_key(item), None)
            else:
                self._pods[_key(item)] = pod


def _key(item: DaemonSet) -> tuple[str, str]:
    return item.metadata.namespace, item.metadata.name


def _pod(item: DaemonSet) -> Pod | None:
    """A pod as it would be made; None where no more will be."""
    if item.metadata.deletion_timestamp is not None:
        return None
    template = item.spec.template
    # The namespace: claim templates are looked up in it.
    metadata = msgspec.structs.replace(template.metadata, namespace=item.metadata.namespace)
    return Pod(metadata=metadata, spec=template.spec)
