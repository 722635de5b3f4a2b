"""``slicewise-node serve`` as a process over the fake NVML, for one node of a real API server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.fake_nvml.state import FakeNode

START_SECONDS = 30.0
STOP_SECONDS = 60.0


class DriverProcess:
    """Started by ``start``; ``kill`` is SIGKILL. What survives is in ``folder``."""

    def __init__(
        self, node_name: str, kubeconfig: Path, folder: Path, fake: FakeNode, library: Path, *arguments: str
    ) -> None:
        self.folder = folder
        self.registry = folder / "k" / "plugins_registry"
        self.cdi = folder / "cdi"
        self.log = folder / "driver.log"
        self.environment: Mapping[str, str] = {**os.environ, **fake.environment(library)}
        self._command = [
            *(sys.executable, "-m", "node", "serve"),
            *("--node-name", node_name, "--kubeconfig", str(kubeconfig)),
            *("--kubelet-root", str(folder / "k"), "--cdi-root", str(self.cdi)),
            *("--metrics-address", "127.0.0.1:0", "--allow-missing-device-nodes", "--refresh-seconds", "1"),
            *arguments,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DriverProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *arguments: str) -> DriverProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *arguments], env=dict(self.environment), stdout=log, stderr=log
            )
        return self

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def words(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")

    def resident_mib(self) -> float:
        """Resident memory now."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
