"""Decisions by hand for the doors, a table in place of the controller; and what the documentation shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoscaler.controller import Policies
from autoscaler.decide import Decision
from autoscaler.doors.advice import Advice
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.state import State
from autoscaler.targets import Target
from autoscaler.view import View
from cluster.policy import AutoscalingPolicy
from deploy.local.control_plane import ControlPlane
from metrics.samples import NoData
from tests.cluster.autoscaled import ModelServers

PAGE = Path(__file__).parents[2] / "docs" / "autoscaling.md"


def documented(what: str) -> dict[str, Any]:
    """A manifest as docs/autoscaling.md shows it."""
    found = re.search(rf"```yaml {what}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE} shows no manifest {what!r}"
    return dict(yaml.safe_load(found[1]))


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    """A Deployment of model servers."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": "example.org/vllm:1"}]},
            },
        },
    }


def measured(cluster: ControlPlane, namespace: str) -> tuple[ModelServers, str]:
    """Model servers with ten requests in flight under the documented policy, made quick, and the address of
    the Prometheus that scrapes them.
    """
    servers = ModelServers(cluster)
    prometheus = cluster.start_prometheus([servers.scrape])
    config = documented("advise")
    values = yaml.safe_load(config["data"]["policy.yaml"])
    values |= {"scaleDown": {"stabilisationSeconds": 2}, "coldStartSeconds": 2, "periodSeconds": 0.5}
    config["data"]["policy.yaml"] = yaml.safe_dump(values)
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", config)
    servers.load(namespace, "llm", 10.0)
    return servers, prometheus


def policy(name: str, **changes: Any) -> AutoscalingPolicy:
    return AutoscalingPolicy.model_validate(
        {
            "target": {"name": name},
            "maxReplicas": 50,
            "inFlight": {"perReplica": 16.0},
            "actuator": "advise",
            **changes,
        }
    )


@dataclass
class Decided:
    """What the controller knows, written by the test: ``say`` decides, and a round has ended."""

    policies: Policies = field(default_factory=dict)
    views: tuple[View, ...] = ()
    last_round_seconds: float | None = None
    leader: bool = True
    now: float = 1000.0
    results: list[str] = field(default_factory=list)

    def say(
        self,
        name: str,
        replicas: int,
        in_flight: float | NoData = 0.0,
        namespace: str = "n",
        current: int = 1,
    ) -> None:
        key = (namespace, f"{name}-policy")
        if key not in self.policies:
            self.policies = {**self.policies, key: policy(name)}
        target = Target.of(self.policies[key], namespace)
        signals = Signals(current=current, ready=current, in_flight=in_flight)
        decision = Decision(replicas, (Reason("Steady", "as written by the test"),), State.begun(1, self.now))
        view = View(target, signals, decision, False, self.now)
        self.views = (*(one for one in self.views if one.target != target), view)
        self.last_round_seconds = (self.last_round_seconds or 0.0) + 1.0

    def advice(self, **options: Any) -> Advice:
        return Advice(
            lambda: self.policies,
            self,
            is_leader=lambda: self.leader,
            leader=lambda: "controller-b",
            **{"clock": lambda: self.now, **options},
        )
