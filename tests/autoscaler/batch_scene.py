"""One GPU node, a grid with three clean hours, and the batch loop over Jobs and pods that may wait."""

from __future__ import annotations

import json

import pytest

from autoscaler.batch.curve import HOUR_SECONDS
from autoscaler.batch.loop import BatchLoop
from autoscaler.batch.memory import Learned
from cluster.envelopes import object_decoder
from cluster.policy import load_cluster_policy
from cluster.times import rfc3339
from cluster.wire import Node
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from scheduler.demand import parse_demand
from scheduler.fleet import Fleet
from scheduler.node_classes import classifier_of
from scheduler.windows.read import EXPECTED, RELEASED_AT, WINDOW
from tests.scheduler.batch_objects import CREATED, batch_job, batch_pod

HOUR = HOUR_SECONDS
POLICY = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"
GRAMS = [400.0] * 5 + [100.0] * 3 + [400.0] * 40


def node(name="n1", gpus=8, region="eu-central-1"):
    body = {
        "metadata": {
            "name": name,
            "labels": {
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                "nvidia.com/gpu.count": str(gpus),
                "topology.kubernetes.io/region": region,
            },
        },
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi"}},
    }
    return object_decoder(Node).decode(json.dumps(body).encode())


def job(name="train-1", *, annotations=None, gpus=1, **more):
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    said = {WINDOW: "24h", EXPECTED: "1h"} if annotations is None else annotations
    return batch_job(name, said, template={"spec": {"containers": [container]}}, **more)


def gated(name, owner="set", window="24h", gpus=1):
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    owners = [{"kind": "JobSet", "name": owner, "uid": owner, "controller": True}]
    return batch_pod(name, {WINDOW: window, EXPECTED: "1h"}, owners=owners, containers=[container])


def ended(name, begun, done, expected="1h"):
    status = {
        "startTime": rfc3339(CREATED + begun * HOUR),
        "completionTime": rfc3339(CREATED + done * HOUR),
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    annotations = {WINDOW: "24h", RELEASED_AT: rfc3339(CREATED)}
    if expected:
        annotations[EXPECTED] = expected
    return job(name, suspend=False, status=status, annotations=annotations)


class Grids:
    """One zone whose provider tells the next two days."""

    def __init__(self, clock):
        self._clock, self.silent = clock, False

    def _steps(self):
        return [
            Intensity("DE", grams, "average", CREATED + i * HOUR, CREATED + (i + 1) * HOUR, "test", True)
            for i, grams in enumerate(GRAMS)
        ]

    def current(self):
        now = self._clock()
        steps = [step for step in self._steps() if step.at_seconds <= now < step.valid_until_seconds]
        return {"DE": steps[0]} if steps else {}

    def forecast(self, zone):
        if self.silent or zone != "DE":
            return NoData("no forecast", "refused")
        return tuple(step for step in self._steps() if step.valid_until_seconds > self._clock())


class ApiStandIn:
    def __init__(self):
        self.patches = []

    def patch(self, path, body, content_type):
        self.patches.append((path.rpartition("/")[2], body))

    def released(self):
        return [name for name, body in self.patches if "spec" in body]

    def noted(self):
        return {name: body["metadata"]["annotations"] for name, body in self.patches if "spec" not in body}


class Told:
    def __init__(self):
        self.plans, self.releases, self.ends, self.errors = [], [], [], {}

    def planned(self, plan, seconds):
        self.plans.append((plan, len(plan.starts)))

    def released(self, one, outcome):
        self.releases.append((one.held.metadata.name, one.why, one.saved_grams, outcome))

    def ended(self, job, late_seconds):
        self.ends.append((job.metadata.name, late_seconds))

    def forecast(self, zone, own):
        self.errors[zone] = own


class Memory:
    def __init__(self):
        self.kept, self.down = Learned(), False

    def read(self):
        return None if self.down else self.kept

    def keep(self, learned):
        self.kept = learned
        return learned


class Scene:
    def __init__(self, policy=""):
        self.now, self.leads = CREATED, True
        self.api, self.told, self.memory = ApiStandIn(), Told(), Memory()
        self.grids = Grids(lambda: self.now)
        self.fleet = Fleet()
        self.policy = load_cluster_policy(POLICY + policy, "test")
        self.fleet.classify(classifier_of(self.policy))
        self.fleet.apply_node(node())
        self.loop = BatchLoop(
            self.api,
            self.fleet,
            self.grids,
            self.memory,
            policy=lambda: self.policy,
            demand_of=lambda pod: parse_demand(pod, self.fleet.facts, {}),
            active=lambda: self.leads,
            observer=self.told,
            clock=lambda: self.now,
        )

    def at(self, hours):
        self.now = CREATED + hours * HOUR
        self.loop.turn()


@pytest.fixture
def scene():
    return Scene()
