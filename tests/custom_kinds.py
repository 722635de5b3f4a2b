"""Custom kinds that come and go in tests: served before one is used, gone before it is defined anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS
from tests.polling import until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def condition(document: Mapping[str, Any], kind: str) -> str:
    """The status of an object's condition, "" where it has none: a new definition lists them as null."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")


def define(cluster: ControlPlane, definition: Mapping[str, Any]) -> None:
    """Create the CustomResourceDefinition; returns when its versions and subresources are served."""
    cluster.request("POST", CRDS, definition)
    until(lambda: _served(cluster, definition), 20, f"{definition['metadata']['name']} is served")


def take_away(cluster: ControlPlane, definition: Mapping[str, Any]) -> None:
    """Delete it with all its objects; returns when the API server has forgotten the name."""
    name = definition["metadata"]["name"]
    cluster.request("DELETE", f"{CRDS}/{name}", accepted=SUCCESS | {404})
    until(lambda: _refused(cluster, f"{CRDS}/{name}"), 30, f"{name} is gone")
    until(
        lambda: all(_refused(cluster, one) for one in _collections(definition)), 30, f"{name} is not served"
    )


@contextmanager
def defined(cluster: ControlPlane, definition: Mapping[str, Any]) -> Iterator[str]:
    """Gives the kind while it is served."""
    define(cluster, definition)
    try:
        yield str(definition["spec"]["names"]["kind"])
    finally:
        take_away(cluster, definition)


def _served(cluster: ControlPlane, definition: Mapping[str, Any]) -> bool:
    found = cluster.request("GET", f"{CRDS}/{definition['metadata']['name']}")
    if condition(found, "Established") != "True":
        return False
    # Discovery and the objects' own paths each learn of it by themselves.
    spec, plural = definition["spec"], definition["spec"]["names"]["plural"]
    for version in spec["versions"]:
        path = f"/apis/{spec['group']}/{version['name']}"
        listed = cluster.request("GET", path, accepted=SUCCESS | {404}).get("resources", ())
        names = {plural, *(f"{plural}/{part}" for part in version.get("subresources", ()))}
        if not names <= {one["name"] for one in listed}:
            return False
    return not any(_refused(cluster, one) for one in _collections(definition))


def _collections(definition: Mapping[str, Any]) -> list[str]:
    spec = definition["spec"]
    plural = spec["names"]["plural"]
    return [f"/apis/{spec['group']}/{version['name']}/{plural}" for version in spec["versions"]]


def _refused(cluster: ControlPlane, path: str) -> bool:
    answer = cluster.request("GET", path, accepted=SUCCESS | {404})
    return bool(answer is None or answer.get("kind") == "Status")
