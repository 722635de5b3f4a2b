"""An API server that holds ConfigMaps and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.client import Api
from cluster.wire import ConfigMap


class Maps:
    """``data`` by name. After ``left`` more writes it is away; what is ``refused`` may not be touched, what
    is ``kept`` not be deleted.
    """

    def __init__(self, data: dict[str, dict[str, str]] | None = None) -> None:
        self.data = data or {}
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.left = 10**9
        self.refused: set[str] = set()
        self.kept: set[str] = set()

    @property
    def api(self) -> Api:
        return cast(Api, self)

    def get(self, path: str, kind: type[ConfigMap]) -> ConfigMap:
        if self.left < 0:
            raise ApiUnreachable("the API server is away")
        return ConfigMap(data=self.data[self._name(path)])

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        name = self._name(path)
        self._write(name, {**self.data[name], **body["data"]})

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        self._write(body["metadata"]["name"], body["data"])

    def delete(self, path: str) -> None:
        name = self._name(path)
        if name in self.kept:
            raise ApiRefused(403, "Forbidden", "may not be deleted", where=path)
        self._count()
        del self.data[name]
        self.deleted.append(name)

    def _name(self, path: str) -> str:
        name = path.rpartition("/")[2]
        if name in self.refused:
            raise ApiRefused(403, "Forbidden", "no", where=path)
        if name not in self.data:
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        return name

    def _write(self, name: str, data: Mapping[str, str]) -> None:
        self._count()
        self.data[name] = dict(data)
        self.written.append(name)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ApiUnreachable("the API server is away")
