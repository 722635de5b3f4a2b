"""The forecast's way through a real API server: written as a ConfigMap, soon in the mix of the prices."""

from __future__ import annotations

import threading
import time

import pytest

from cluster.client import connect
from deploy.local.control_plane import ControlPlane
from scheduler.forecasts import ForecastBook, forecast_reflector
from scheduler.packing.forecast import (
    FORECAST_CONFIG_MAP,
    VALID_UNTIL_ANNOTATION,
    Forecast,
    write_forecasts,
)

pytestmark = pytest.mark.cluster


def test_what_the_controller_writes_is_what_the_scheduler_foresees(
    control_plane: ControlPlane, namespace: str
) -> None:
    api = connect(str(control_plane.kubeconfig))
    book = ForecastBook()
    watch = forecast_reflector(api, namespace, book)
    watch.start()
    try:
        assert watch.synced.wait(20)
        assert book.known() == {}
        wanted = {"whole:1/8000m/65536Mi": Forecast(3.5, 1.2)}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": FORECAST_CONFIG_MAP,
                "annotations": {VALID_UNTIL_ANNOTATION: f"{time.time() + 600:.0f}"},
            },
            "data": write_forecasts({f"{namespace}.llm": wanted}),
        }
        path = f"/api/v1/namespaces/{namespace}/configmaps/{FORECAST_CONFIG_MAP}"
        api.patch(path, body, "application/apply-patch+yaml", {"fieldManager": "test", "force": True})
        until(lambda: book.known() == wanted)
        api.delete(path)
        until(lambda: book.known() == {})
    finally:
        watch.stop()
        api.close()


def until(condition, seconds: float = 10.0) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "did not come true in time"
        threading.Event().wait(0.005)
