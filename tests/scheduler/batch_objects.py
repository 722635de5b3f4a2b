"""Jobs and pods with a completion window of a day, as the API server gives them, created at one moment."""

from __future__ import annotations

import json

from cluster.envelopes import object_decoder
from cluster.job_wire import Job
from cluster.times import unix_seconds
from cluster.wire import Pod
from scheduler.windows.read import WINDOW

CREATED_TEXT = "2026-03-01T00:00:00Z"
CREATED = unix_seconds(CREATED_TEXT)


def batch_job(name="train", annotations=None, suspend=True, labels=None, owners=(), status=None, **spec):
    body = {
        "metadata": {
            "name": name,
            "namespace": "batch",
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED_TEXT,
            "annotations": {WINDOW: "24h"} if annotations is None else annotations,
            "labels": labels or {},
            "ownerReferences": list(owners),
        },
        "spec": {"suspend": suspend, **spec},
        "status": status or {},
    }
    return object_decoder(Job).decode(json.dumps(body).encode())


def batch_pod(name="pod", annotations=None, gates=("slicewise.io/window",), owners=(), **spec):
    body = {
        "metadata": {
            "name": name,
            "namespace": "batch",
            "uid": f"uid-{name}",
            "creationTimestamp": CREATED_TEXT,
            "annotations": {WINDOW: "24h"} if annotations is None else annotations,
            "ownerReferences": list(owners),
        },
        "spec": {"schedulingGates": [{"name": gate} for gate in gates], **spec},
    }
    return object_decoder(Pod).decode(json.dumps(body).encode())
