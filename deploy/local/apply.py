"""Server-side apply of manifests, by discovery of the paths that the API server serves.

Documents are applied in their order; a kind that a CustomResourceDefinition before it has just
introduced is waited for (KEP-555, fields of other owners are taken over by force: a
local cluster has one installer).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from deploy.local.rest import APPLY_PATCH, Connection, RequestRefused

FIELD_MANAGER = "slicewise-local"
_KIND_DEADLINE_SECONDS = 30.0
_KIND_POLL_SECONDS = 0.1

Document = Mapping[str, Any]


class ManifestRefused(ValueError):
    """A manifest is not what the API server can take; the message names the file or object and the reason."""


def load(source: Path | str) -> list[Document]:
    """The documents of a YAML file. Raises ManifestRefused when it is not YAML or not objects."""
    path = Path(source)
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
    except OSError as problem:
        raise ManifestRefused(f"{path}: {problem.strerror}") from problem
    except yaml.YAMLError as problem:
        raise ManifestRefused(f"{path}: not YAML: {problem}") from problem
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= document.keys():
            raise ManifestRefused(f"{path}, document {number}: expected apiVersion, kind and metadata")
    return documents


def apply(
    connection: Connection, documents: Iterable[Document], namespace: str = "default"
) -> list[Document]:
    """Apply each document and return the objects as the server keeps them.

    `namespace` is for namespaced objects that name none. Raises ManifestRefused.
    """
    served: dict[str, dict[str, tuple[str, bool]]] = {}
    return [_apply_one(connection, document, namespace, served) for document in documents]


def _apply_one(
    connection: Connection,
    document: Document,
    namespace: str,
    served: dict[str, dict[str, tuple[str, bool]]],
) -> Document:
    path = object_path(connection, document, namespace, served)
    try:
        answer: Document = connection.request(
            "PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", document, APPLY_PATCH
        )
    except RequestRefused as refused:
        raise ManifestRefused(
            f"{document['kind']} {document['metadata'].get('name')} was refused: {refused}"
        ) from refused
    return answer


def object_path(
    connection: Connection,
    document: Document,
    namespace: str,
    served: dict[str, dict[str, tuple[str, bool]]],
) -> str:
    """The URL path of a document's object. `served` keeps what discovery has said, by apiVersion."""
    version, kind = str(document["apiVersion"]), str(document["kind"])
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    deadline = time.monotonic() + _KIND_DEADLINE_SECONDS
    while kind not in served.get(version, {}):
        served[version] = _discover(connection, base)
        if kind in served[version]:
            break
        if time.monotonic() > deadline:
            raise ManifestRefused(
                f"{kind} {document['metadata'].get('name')}: the API server serves no {kind} in {version}; "
                f"it has there: {', '.join(sorted(served[version])) or 'nothing'}"
            )
        time.sleep(_KIND_POLL_SECONDS)
    plural, namespaced = served[version][kind]
    scope = f"/namespaces/{document['metadata'].get('namespace', namespace)}" if namespaced else ""
    return f"{base}{scope}/{plural}/{quote(str(document['metadata']['name']), safe='')}"


def _discover(connection: Connection, base: str) -> dict[str, tuple[str, bool]]:
    try:
        listing = connection.request("GET", base)
    except RequestRefused as refused:
        if refused.status == 404:
            return {}
        raise
    return {
        resource["kind"]: (resource["name"], resource["namespaced"])
        for resource in listing["resources"]
        if "/" not in resource["name"]
    }
