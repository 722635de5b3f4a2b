"""Custom kinds that come and go in tests: served before one is used, gone before it is defined anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS, RequestRefused
from tests.polling import until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def define(cluster: ControlPlane, definition: Mapping[str, Any]) -> None:
    """Create the CustomResourceDefinition; returns when its versions and subresources are served."""
    cluster.request("POST", CRDS, definition)
    until(lambda: _served(cluster, definition), 20, f"{definition['metadata']['name']} is served")


def take_away(cluster: ControlPlane, definition: Mapping[str, Any]) -> None:
    """Delete it with all its objects; returns when the API server has forgotten the name."""
    name = definition["metadata"]["name"]
    cluster.request("DELETE", f"{CRDS}/{name}", accepted=SUCCESS | {404})
    paths = [f"{CRDS}/{name}", *_collections(definition)]
    until(lambda: all(_looked_up(cluster, path)[0] == 404 for path in paths), 30, f"{name} is gone")


@contextmanager
def defined(cluster: ControlPlane, definition: Mapping[str, Any]) -> Iterator[str]:
    """Gives the kind while it is served."""
    define(cluster, definition)
    try:
        yield str(definition["spec"]["names"]["kind"])
    finally:
        take_away(cluster, definition)


def _served(cluster: ControlPlane, definition: Mapping[str, Any]) -> bool:
    if condition(_looked_up(cluster, f"{CRDS}/{definition['metadata']['name']}")[1], "Established") != "True":
        return False
    # Discovery and the objects' own paths each learn of it by themselves.
    spec, plural = definition["spec"], definition["spec"]["names"]["plural"]
    for version in spec["versions"]:
        _, listed = _looked_up(cluster, f"/apis/{spec['group']}/{version['name']}")
        names = {plural, *(f"{plural}/{part}" for part in version.get("subresources", ()))}
        if not names <= {one["name"] for one in listed.get("resources", ())}:
            return False
    return all(_looked_up(cluster, path)[0] == 200 for path in _collections(definition))


def _collections(definition: Mapping[str, Any]) -> list[str]:
    spec = definition["spec"]
    plural = spec["names"]["plural"]
    return [f"/apis/{spec['group']}/{version['name']}/{plural}" for version in spec["versions"]]


def _looked_up(cluster: ControlPlane, path: str) -> tuple[int, dict[str, Any]]:
    """Status and answer. A path that is not served yet is refused with 404, and while its storage is made,
    for a moment, with 429 or 503.
    """
    try:
        return 200, cluster.request("GET", path)
    except RequestRefused as refused:
        if refused.status not in (404, 429, 503):
            raise
        return refused.status, {}
