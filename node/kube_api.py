"""What the driver needs of the API server: claims, its own slices, the Node, the version."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from cluster.api_errors import ApiError, ApiRefused
from cluster.client import JSON, METADATA_ONLY, Api
from cluster.wire import Node
from dra.driver.api import ApiAway, ApiConflict
from dra.driver.devices import Features
from dra.resource_api import ResourceClaim
from dra.slice_parts import SLICEWISE_DRIVER, Version

RESOURCE_API = "/apis/resource.k8s.io/v1"
SLICES = f"{RESOURCE_API}/resourceslices"
CLAIMS = f"{RESOURCE_API}/resourceclaims"

_NOT_FOUND = 404
# The server need not look for fields that it does not know: ``features`` has found out what it leaves out.
_WRITE = {"fieldValidation": "Ignore"}
_CONFLICT = 409


class _Version(msgspec.Struct):
    major: str = ""
    minor: str = ""


class KubeApi:
    """``ClaimReader`` and ``SliceApi`` of one node. Safe to share between threads."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node

    @property
    def slice_selector(self) -> str:
        """Field selector of the node's own slices."""
        return f"spec.driver={SLICEWISE_DRIVER},spec.nodeName={self._node}"

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """The claim, None when there is none. Raises ApiAway."""
        path = f"{RESOURCE_API}/namespaces/{quote(namespace)}/resourceclaims/{quote(name)}"
        try:
            return self._api.get(path, ResourceClaim)
        except ApiRefused as problem:
            if problem.status == _NOT_FOUND:
                return None
            raise ApiAway(str(problem)) from problem
        except ApiError as problem:
            raise ApiAway(str(problem)) from problem

    def slices(self) -> list[dict[str, Any]]:
        """The node's slices of our driver. Raises ApiAway."""
        document = self._send("GET", SLICES, params={"fieldSelector": self.slice_selector})
        items: list[dict[str, Any]] = document.get("items") or []
        return items

    def create_slice(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create one. Raises ApiAway, ApiConflict."""
        return self._send("POST", SLICES, body, _WRITE, METADATA_ONLY)

    def replace_slice(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace one at its resource version. Raises ApiAway, ApiConflict."""
        return self._send("PUT", f"{SLICES}/{quote(name)}", body, _WRITE, METADATA_ONLY)

    def delete_slice(self, name: str) -> None:
        """Delete one. Raises ApiAway."""
        try:
            self._api.delete(f"{SLICES}/{quote(name)}")
        except ApiRefused as problem:
            if problem.status != _NOT_FOUND:
                raise ApiAway(str(problem)) from problem
        except ApiError as problem:
            raise ApiAway(str(problem)) from problem

    def node(self) -> Node:
        """Our Node. Raises ApiAway."""
        try:
            return self._api.get(f"/api/v1/nodes/{quote(self._node)}", Node)
        except ApiError as problem:
            raise ApiAway(str(problem)) from problem

    def version(self) -> tuple[int, int]:
        """Major and minor version of the API server. Raises ApiAway."""
        try:
            told = self._api.get("/version", _Version)
        except ApiError as problem:
            raise ApiAway(str(problem)) from problem
        minor = "".join(c for c in told.minor if c.isdecimal())  # managed clusters say "34+"
        if not (told.major.isdecimal() and minor):
            raise ApiAway(f"/version: got {told.major!r}.{told.minor!r}, expected two numbers")
        return int(told.major), int(minor)

    def features(self, pool: str) -> Features:
        """What the API server keeps of a slice, by writes that it does not carry out. Raises ApiAway."""
        one = {"value": "1"}
        counters = _probe(self._node, pool, sharedCounters=[{"name": "c", "counters": {"unit": one}}])
        device = {
            "name": "d",
            "allowMultipleAllocations": True,
            "taints": [{"key": "gpu.slicewise.io/probe", "effect": "NoSchedule"}],
        }
        kept = self._send("POST", SLICES, counters, {"dryRun": "All"})["spec"]
        seen = self._send("POST", SLICES, _probe(self._node, pool, devices=[device]), {"dryRun": "All"})
        found = seen["spec"]["devices"][0]
        return Features(
            counters=bool(kept.get("sharedCounters")),
            shares=bool(found.get("allowMultipleAllocations")),
            taints=bool(found.get("taints")),
        )

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, str] | None = None,
        accept: str = JSON,
    ) -> dict[str, Any]:
        try:
            answer = self._api.request(method, path, body=body, params=params, accept=accept)
        except ApiRefused as problem:
            kind = ApiConflict if problem.status in (_CONFLICT, _NOT_FOUND) else ApiAway
            raise kind(str(problem)) from problem
        except ApiError as problem:
            raise ApiAway(str(problem)) from problem
        document: dict[str, Any] = msgspec.json.decode(answer)
        return document


def slice_form(version: tuple[int, int]) -> Version:
    """How slices are written for an API server: counters apart from 1.35 on."""
    return "1.34" if version < (1, 35) else "1.35+"


def _probe(node: str, pool: str, **contents: Any) -> dict[str, Any]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"generateName": "slicewise-probe-"},
        "spec": {
            "driver": SLICEWISE_DRIVER,
            "nodeName": node,
            "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
            **contents,
        },
    }
