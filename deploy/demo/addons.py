"""Slicewise itself on a cluster of the demo: the shipped manifests, its two processes, the shipped scheduler
profile.

Nothing here is made for the demo but ports, addresses and the two policies (``workload``): RBAC comes with
the cluster, the plan gate and the KubeSchedulerConfiguration are the files of ``deploy/manifests``, and the
processes run with the rights of their own service accounts.
"""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.plan import PER_REPLICA, DemoPlan
from deploy.demo.workload import autoscaling_policy, cluster_policy
from deploy.local.control_plane import ControlPlane
from deploy.local.processes import ServerFailed

MANIFESTS = Path(__file__).parent.parent / "manifests"
_READY_SECONDS = 180.0
_NOMINATIONS = "slicewise_planner_nominations_total"


class AddOns:
    """slicewise-scheduler, slicewise-controller and a kube-scheduler that asks them."""

    def __init__(self, plane: ControlPlane, plan: DemoPlan, prometheus: str) -> None:
        self._plane = plane
        self._plan = plan
        self._prometheus = prometheus
        self._scheduler_port = plane.claim_port()
        self._controller_port = plane.claim_port()

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self._controller_port}/"

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises ServerFailed."""
        plane = self._plane
        plane.apply([cluster_policy()])
        plane.apply(MANIFESTS / "plan-gate.yaml")
        self._process(
            "slicewise-scheduler",
            ["scheduler", "--listen", f"127.0.0.1:{self._scheduler_port}"],
        )
        self._process(
            "slicewise-controller",
            [
                *("autoscaler", "--listen", f"127.0.0.1:{self._controller_port}"),
                *("--prometheus-url", self._prometheus),
            ],
        )
        self._ready("slicewise-scheduler", self._scheduler_port)
        self._ready("slicewise-controller", self._controller_port)
        plane.start_scheduler(self._scheduler_config())

    def autoscale(self) -> None:
        """Hand the LLM Deployment to the autoscaler."""
        self._plane.apply([autoscaling_policy(PER_REPLICA, self._plan.max_replicas)])

    def nominations(self) -> dict[str, float]:
        """How many nominations had which outcome, from the controller's own metrics."""
        with urllib.request.urlopen(f"{self.page_url}metrics", timeout=5.0) as answer:
            text = answer.read().decode()
        return {
            sample.labels.get("outcome", ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == _NOMINATIONS and sample.value
        }

    def _scheduler_config(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load((MANIFESTS / "scheduler-config.yaml").read_text())
        for extender in document["extenders"]:
            extender["urlPrefix"] = f"http://127.0.0.1:{self._scheduler_port}/scheduler"
        return document

    def _process(self, name: str, arguments: list[str]) -> None:
        kubeconfig = str(self._plane.kubeconfig_for(name))
        self._plane.processes.start(
            name, [sys.executable, "-m", *arguments, "--kubeconfig", kubeconfig, "--log-level", "warning"]
        )

    def _ready(self, name: str, port: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0):
                    return
            except (OSError, urllib.error.URLError) as problem:
                self._plane.processes.check([name])
                if time.monotonic() > deadline:
                    tail = self._plane.processes.log_tail(name)
                    raise ServerFailed(
                        f"{name} was not ready within {_READY_SECONDS:.0f} s ({problem}); {tail}"
                    ) from problem
            time.sleep(0.1)
