"""The forecast's way through a real API server: written as a ConfigMap, soon in the mix of the prices."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from autoscaler.decide import decide
from autoscaler.forecast_store import VALID_SECONDS, ForecastWriter
from autoscaler.placeable import ReplicaShape
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from autoscaler.view import View
from cluster.client import connect
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference, Pod
from deploy.local.control_plane import ControlPlane
from metrics.samples import NoData
from scheduler.demand import Demand, GpuRequest
from scheduler.forecasts import ForecastBook, forecast_reflector
from scheduler.packing.forecast import (
    FORECAST_CONFIG_MAP,
    VALID_UNTIL_ANNOTATION,
    Forecast,
    write_forecasts,
)
from scheduler.planner.admission import constraints_of
from tests.polling import SOON_SECONDS, until

pytestmark = pytest.mark.cluster


def test_what_the_controller_writes_is_what_the_scheduler_foresees(
    control_plane: ControlPlane, namespace: str
) -> None:
    api = connect(str(control_plane.kubeconfig))
    book = ForecastBook()
    watch = forecast_reflector(api, namespace, book)
    watch.start()
    try:
        assert watch.synced.wait(SOON_SECONDS)
        assert book.known() == {}
        wanted = {"whole:1/8000m/65536Mi": Forecast(3.5, 1.2)}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": FORECAST_CONFIG_MAP,
                "annotations": {VALID_UNTIL_ANNOTATION: f"{time.time() + 600:.0f}"},
            },
            "data": write_forecasts(wanted)[0],
        }
        path = f"/api/v1/namespaces/{namespace}/configmaps/{FORECAST_CONFIG_MAP}"
        api.patch(path, body, "application/apply-patch+yaml", {"fieldManager": "test", "force": True})
        until(lambda: book.known() == wanted, 10.0, "the forecast is read")
        api.delete(path)
        until(lambda: book.known() == {}, 10.0, "the forecast is read")
    finally:
        watch.stop()
        api.close()


class Shapes:
    """Every replica of every workload asks for one whole GPU, a CPU and a GiB."""

    def __init__(self) -> None:
        self.read_of: list[str] = []

    def wants_reading(self, sight, pods) -> bool:
        return sight.target.name not in self.read_of

    def read(self, sight, pods) -> None:
        self.read_of.append(sight.target.name)

    def shape(self, target) -> ReplicaShape | NoData:
        if target.name not in self.read_of:
            return NoData("its pod template has not been read")
        demand = Demand((GpuRequest("whole", None, 1),), cpu_milli=1000, memory_mib=1024)
        return ReplicaShape(demand, constraints_of(Pod()))


class Scales:
    def read(self, target: Target) -> ScaleSight:
        return ScaleSight(target, "/", 2, parse_selector("app=llm"), ObjectReference())

    def write(self, sight: ScaleSight, replicas: int) -> None:
        raise AssertionError("nobody scales here")


def test_the_leader_s_forecast_reaches_the_scheduler_and_ends_when_it_is_not_renewed(
    control_plane: ControlPlane, namespace: str
) -> None:
    api = connect(str(control_plane.kubeconfig))
    now, leads, reflected = [time.time()], [True], ForecastBook(lambda: now[0])
    watch = forecast_reflector(api, namespace, reflected)
    policies = {
        ("shop", name): AutoscalingPolicy.model_validate(
            {"target": {"name": name}, "maxReplicas": 9, "inFlight": {"perReplica": 10.0}}
        )
        for name in ("busy", "calm")
    }
    loads = {"busy": 50.0, "calm": 15.0}

    def views() -> list[View]:
        found = []
        for key, policy in policies.items():
            signals = Signals(2, 2, in_flight=loads[key[1]], request_rate=1.0)
            decision = decide(policy, signals, None, 0.0)
            found.append(View(Target.of(policy, "shop"), signals, decision, True))
        return found

    shapes: Any = Shapes()
    decider: Any = SimpleNamespace(fleet=SimpleNamespace(lock=threading.RLock()))
    writer = ForecastWriter(
        api,
        namespace,
        lambda: policies,
        views,
        Scales(),
        PodIndex(),
        shapes,
        decider,
        active=lambda: leads[0],
        wall_clock=lambda: now[0],
    )
    watch.start()
    try:
        assert watch.synced.wait(SOON_SECONDS)
        leads[0] = False
        writer.turn()
        leads[0] = True
        writer.turn()
        wanted = {"whole:1/1000m/1024Mi": Forecast(3.0)}
        until(lambda: reflected.known() == wanted, 10.0, "the forecast is read")
        assert shapes.read_of == ["busy"]  # of the calm one nothing is coming
        loads["calm"] = 35.0
        writer.turn()
        until(
            lambda: reflected.known() == {"whole:1/1000m/1024Mi": Forecast(5.0)}, 10.0, "the forecast is read"
        )
        now[0] += VALID_SECONDS + 1.0
        assert isinstance(reflected.current(), NoData)  # a controller that is gone foresees nothing
        writer.turn()
        until(
            lambda: reflected.known() == {"whole:1/1000m/1024Mi": Forecast(5.0)}, 10.0, "the forecast is read"
        )
        del policies["shop", "busy"]
        writer.turn()
        until(
            lambda: reflected.known() == {"whole:1/1000m/1024Mi": Forecast(2.0)}, 10.0, "the forecast is read"
        )
    finally:
        watch.stop()
        api.close()
