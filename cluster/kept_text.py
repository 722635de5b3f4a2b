"""One text under one key of one ConfigMap of ours: read it, write it, make the ConfigMap where it is missing.

Decides nothing about when to write or what a broken text means; that is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from cluster.api_errors import ApiRefused
from cluster.client import Api
from cluster.wire import ConfigMap


@dataclass(frozen=True, slots=True)
class KeptText:
    """``component`` labels the ConfigMap when it has to be made."""

    api: Api
    namespace: str
    name: str
    key: str
    component: str

    def read(self, without_key: str = "") -> str | None:
        """The text, or ``without_key``; None when there is no such ConfigMap. Raises ApiError."""
        try:
            found = self.api.get(f"{self._path}/{self.name}", ConfigMap)
        except ApiRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found.data.get(self.key, without_key)

    def write(self, text: str) -> None:
        """Put ``text`` under the key. Raises ApiError."""
        data = {"data": {self.key: text}}
        try:
            self.api.patch(f"{self._path}/{self.name}", data)
        except ApiRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            labels = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": self.component}
            metadata = {"name": self.name, "namespace": self.namespace, "labels": labels}
            self.api.post(self._path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **data})

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"
