"""What the control loop stands on, as protocols: scales, what was learned, victims, Events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from autoscaler.targets import ScaleSight, Target
from cluster.wire import ObjectReference, Scale


class ScaleReads(Protocol):
    """``targets.Targets``, ``scale_index.ScaleIndex``, ``warm.replacement.Replacements``. Raises
    TargetRefused; ApiError when the API server is away.
    """

    def read(self, target: Target) -> ScaleSight: ...


class Scales(ScaleReads, Protocol):
    """The same, and written: the answer to a write is the scale as it is then."""

    def write(self, sight: ScaleSight, replicas: int) -> Scale: ...


class Store(Protocol):
    """What is needed of ``learned_store.LearnedStore``: what was learned outlives this process."""

    def begin(self, targets: Iterable[Target]) -> Collection[Target]: ...

    def text_of(self, target: Target) -> str: ...

    @property
    def due(self) -> bool: ...

    def keep(self, targets: Iterable[Target], text_of: Callable[[Target], str]) -> None: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class Victims(Protocol):
    """What is needed of ``deletion_cost.DeletionCosts``: say which pods shall go first."""

    def mark(self, sight: ScaleSight, going: int) -> None: ...


class Recorder(Protocol):
    """What is needed of the Event recorder."""

    def record(
        self,
        regarding: ObjectReference,
        reason: str,
        note: str,
        type: str = ...,  # noqa: A002 - the recorder's own name
        action: str = ...,
    ) -> None: ...
