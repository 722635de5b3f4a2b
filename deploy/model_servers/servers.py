"""The three servers: what is started in a pod, where it answers, where it shows its metrics.

Ports and paths are the servers' own defaults where they have one. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).parent / "models"
MODEL_FOLDER = "/model"


@dataclass(frozen=True, slots=True)
class ModelServer:
    """One server. ``package`` names its environment (`deploy.local.model_servers`), ``preset`` what Slicewise
    calls it; ``arguments`` follow the interpreter; ``ready_port`` and ``ready_path`` answer once the model
    does; ``method``, ``path`` and ``body`` are one request to the model. ``look_seconds`` is how often the
    controller asks its pods: more often where a start takes less.
    """

    package: str
    preset: str
    arguments: tuple[str, ...]
    http_port: int
    metrics_port: int
    ready_port: int
    ready_path: str
    method: str
    path: str
    body: bytes = b""
    look_seconds: float = 0.5
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its Deployment, and what its ConfigMaps' names begin with."""
        return self.preset

    def model_files(self) -> dict[str, str]:
        """The model, by file name."""
        folder = MODELS / self.package
        return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}


MLSERVER = ModelServer(
    package="mlserver",
    preset="mlserver",
    # What its command `mlserver` runs.
    arguments=("-c", "from mlserver.cli import main; main()", "start", MODEL_FOLDER),
    http_port=8080,
    metrics_port=8082,
    ready_port=8080,
    ready_path="/v2/models/model/ready",
    method="POST",
    path="/v2/models/model/infer",
    body=json.dumps(
        {"inputs": [{"name": "value", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    ).encode(),
)

BENTOML = ModelServer(
    package="bentoml",
    preset="bentoml",
    arguments=("-m", "bentoml", "serve", "service:Sleeper", "--host", "0.0.0.0", "--port", "3000"),
    http_port=3000,
    metrics_port=3000,
    ready_port=3000,
    ready_path="/readyz",
    method="POST",
    path="/predict",
    body=b'{"value": 1.0}',
    environment={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "/tmp/bentoml"},
)

RAY_SERVE = ModelServer(
    package="ray",
    preset="ray-serve",
    arguments=(f"{MODEL_FOLDER}/app.py",),
    http_port=8000,
    metrics_port=8080,
    ready_port=8001,
    ready_path="/",
    method="GET",
    path="/",
    look_seconds=1.0,  # a page of Ray's is half a megabyte
    environment={
        "HTTP_PORT": "8000",
        "METRICS_PORT": "8080",
        "READY_PORT": "8001",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        # Its workers, the model among them, would give way to everything else on the machine.
        "RAY_worker_niceness": "0",
        # Its processes have 30 s by themselves, which two starts on two busy cores may take.
        "RAY_raylet_start_wait_time_s": "120",
    },
)

SERVERS = (RAY_SERVE, MLSERVER, BENTOML)
