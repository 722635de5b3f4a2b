"""A ConfigMap of ours: read it, write it, make it where it is missing, and go on when that fails.

``KeptMap`` raises; ``Keeper`` is for those whom nothing but memory or foresight depends on: a failure is told
once, with what it costs, until a write succeeds or another failure comes. Decides nothing about when to write
or what a broken text means; that is the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from cluster.api_errors import ApiError, ApiRefused
from cluster.client import APPLY_PATCH, Api, Params
from cluster.wire import ConfigMap

log = logging.getLogger(__name__)

FIELD_MANAGER = "slicewise-controller"


@dataclass(frozen=True, slots=True)
class KeptMap:
    """``component`` labels the ConfigMap when it has to be made."""

    api: Api
    namespace: str
    name: str
    component: str = ""

    def read(self) -> Mapping[str, str] | None:
        """Its data; None when there is no such ConfigMap. Raises ApiError."""
        try:
            return self.api.get(f"{self._path}/{self.name}", ConfigMap).data
        except ApiRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def write(self, data: Mapping[str, str]) -> None:
        """Put these keys; others stay. Raises ApiError."""
        try:
            self.api.patch(f"{self._path}/{self.name}", {"data": data})
        except ApiRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            self.api.post(self._path, self._whole(data, {}))

    def replace(self, data: Mapping[str, str], annotations: Mapping[str, str]) -> None:
        """Put these keys, and take away those that an earlier ``replace`` put. Raises ApiError."""
        owner: Params = {"fieldManager": FIELD_MANAGER, "force": True}
        self.api.patch(f"{self._path}/{self.name}", self._whole(data, annotations), APPLY_PATCH, owner)

    def delete(self) -> None:
        """Take the ConfigMap away; one that is not there is as good. Raises ApiError."""
        try:
            self.api.delete(f"{self._path}/{self.name}")
        except ApiRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise

    def _whole(self, data: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
        labels = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": self.component}
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace, "labels": labels}
        if annotations:
            metadata["annotations"] = annotations
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"


class Keeper:
    """Reads and writes one ``KeptMap`` and goes on when that fails."""

    def __init__(self, kept: KeptMap, costs: str) -> None:
        """``costs``: what a failure means, as the end of a sentence."""
        self._kept, self._costs = kept, costs
        self._told: tuple[str, int] | None = None

    def read(self) -> Mapping[str, str] | None:
        """Its data, empty where there is no such ConfigMap; None while it cannot be read, which is told."""
        try:
            return self._kept.read() or {}
        except ApiError as problem:
            self.tell_unread(problem)
            return None

    def tell_unread(self, problem: ApiError) -> None:
        """Tell that somebody else could not read it."""
        self._tell("read", problem)

    @property
    def unreachable(self) -> bool:
        """Whether the last failure was an API server that is away, and not one that refuses."""
        return self._told is not None and self._told[1] == 0

    def write(self, data: Mapping[str, str]) -> bool:
        """``KeptMap.write``; whether it succeeded, else why not is told."""
        return self._tried(lambda: self._kept.write(data))

    def replace(self, data: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
        """``KeptMap.replace``; whether it succeeded, else why not is told."""
        return self._tried(lambda: self._kept.replace(data, annotations))

    def delete(self) -> bool:
        """``KeptMap.delete``; whether it succeeded, else why not is told."""
        return self._tried(self._kept.delete, "delete")

    def refuse(self, problem: Exception) -> None:
        """Tell that what was read makes no sense."""
        log.warning("ConfigMap %s: %s; it is begun anew", self._kept, problem)

    def _tried(self, do: Callable[[], None], what: str = "write") -> bool:
        try:
            do()
        except ApiError as problem:
            self._tell(what, problem)
            return False
        self._told = None
        return True

    def _tell(self, what: str, problem: ApiError) -> None:
        kind = (what, problem.status if isinstance(problem, ApiRefused) else 0)
        if self._told != kind:
            log.warning("cannot %s ConfigMap %s, %s: %s", what, self._kept, self._costs, problem)
        self._told = kind
