"""PodDisruptionBudgets (policy/v1): which budget a pod falls under and how many evictions it allows now.

Only what an evictor reads: ``spec.selector`` and ``status.disruptionsAllowed`` (kept by the disruption
controller). The Eviction API has the last word (429); this spares it requests that cannot succeed. Selector
rules are those of apimachinery's LabelSelector: an empty selector matches every pod of the namespace, an
absent one none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dra.requirements import holds
from dra.resource_api import ObjectMeta

BUDGETS_PATH = "/apis/policy/v1/poddisruptionbudgets"

BudgetKey = tuple[str, str]


class Expression(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One requirement: ``operator`` is In, NotIn, Exists or DoesNotExist."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """meta/v1 LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Expression, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels is selected; an unknown operator selects nothing."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(holds(one.operator, labels.get(one.key), one.values) for one in self.match_expressions)


class _Spec(msgspec.Struct, rename="camel", frozen=True, gc=False):
    selector: Selector | None = None


class _Status(msgspec.Struct, rename="camel", frozen=True, gc=False):
    disruptions_allowed: int = 0


class PodDisruptionBudget(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """policy/v1 PodDisruptionBudget."""

    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def key(self) -> BudgetKey:
        """Namespace and name."""
        return (self.metadata.namespace, self.metadata.name)


class Budgets:
    """The budgets of a cluster, as a reflector's handler. Safe to use from several threads."""

    def __init__(self, budgets: Iterable[PodDisruptionBudget] = ()) -> None:
        self._lock = threading.Lock()
        self._by_namespace: dict[str, dict[str, PodDisruptionBudget]] = {}
        self.replaced(tuple(budgets))

    def replaced(self, items: Sequence[PodDisruptionBudget]) -> None:
        """A fresh list."""
        fresh: dict[str, dict[str, PodDisruptionBudget]] = {}
        for item in items:
            fresh.setdefault(item.metadata.namespace, {})[item.metadata.name] = item
        with self._lock:
            self._by_namespace = fresh

    def changed(self, kind: str, item: PodDisruptionBudget) -> None:
        """One watch event."""
        with self._lock:
            names = self._by_namespace.setdefault(item.metadata.namespace, {})
            if kind == "DELETED":
                names.pop(item.metadata.name, None)
            else:
                names[item.metadata.name] = item

    def of(self, namespace: str, labels: Mapping[str, str]) -> tuple[BudgetKey, ...]:
        """The budgets that a pod falls under. The Eviction API refuses a pod under more than one."""
        with self._lock:
            found = [
                budget.key
                for budget in self._by_namespace.get(namespace, {}).values()
                if budget.spec.selector is not None and budget.spec.selector.matches(labels)
            ]
        return tuple(sorted(found))

    def allowed(self) -> dict[BudgetKey, int]:
        """Evictions that each budget allows now."""
        with self._lock:
            return {
                budget.key: max(0, budget.status.disruptions_allowed)
                for names in self._by_namespace.values()
                for budget in names.values()
            }
