"""A kubeconfig whose API server is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def nobody(folder: Path, **user: Any) -> Path:
    """The file, made in ``folder``; ``user``: the credentials in it."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path
