"""The gRPC services that the kubelet calls, over a ``Handler``.

DRAPlugin v1 and v1beta1 differ in the field ``share_id`` of a prepared device alone, so one class serves
both. Every claim of a request has an entry in the answer, also when it failed: the kubelet takes a missing
key for an error of the whole call. Health (``v1alpha1.DRAResourceHealth``) is a stream of complete lists,
sent at once, on every change, and again before the kubelet's 30 s run out.
Source: k8s.io/kubelet v0.36.3, pkg/apis.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc

from dra.plugin.dra_health_v1alpha1 import api_pb2 as health_pb
from dra.plugin.dra_health_v1alpha1 import api_pb2_grpc as health_grpc
from dra.plugin.dra_v1 import api_pb2 as v1_pb
from dra.plugin.dra_v1 import api_pb2_grpc as v1_grpc
from dra.plugin.dra_v1beta1 import api_pb2 as v1beta1_pb
from dra.plugin.dra_v1beta1 import api_pb2_grpc as v1beta1_grpc
from dra.plugin.handler import ClaimRef, DeviceHealth, Handler
from dra.plugin.pluginregistration_v1 import api_pb2 as registration_pb
from dra.plugin.pluginregistration_v1 import api_pb2_grpc as registration_grpc

log = logging.getLogger(__name__)

SUPPORTED_VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1alpha1.DRAResourceHealth")
PLUGIN_TYPE = "DRAPlugin"

_HEALTH_SECONDS = 10.0
_HEALTH_TIMEOUT_SECONDS = 30
_MOST_MESSAGE = 1024


class DraPlugin:
    """NodePrepareResources and NodeUnprepareResources in one version of the protocol."""

    def __init__(self, handler: Handler, messages: Any) -> None:
        """``messages``: the generated module of the version."""
        self._handler = handler
        self._pb = messages
        self._shares = messages is v1_pb

    def NodePrepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Make claims ready."""
        claims = _claims(request)
        answers = self._handler.prepare(claims)
        response = self._pb.NodePrepareResourcesResponse()
        for claim in claims:
            entry = response.claims[claim.uid]
            answer = answers.get(claim.uid, "not answered by the driver")
            if isinstance(answer, str):
                entry.error = answer
                continue
            for device in answer:
                made = entry.devices.add(
                    request_names=[device.request],
                    pool_name=device.pool,
                    device_name=device.device,
                    cdi_device_ids=device.cdi_ids,
                )
                if self._shares and device.share_id is not None:
                    made.share_id = device.share_id
        return response

    def NodeUnprepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Give claims back."""
        claims = _claims(request)
        answers = self._handler.unprepare(claims)
        response = self._pb.NodeUnprepareResourcesResponse()
        for claim in claims:
            response.claims[claim.uid].error = answers.get(claim.uid, "not answered by the driver")
        return response


class Registration:
    """Tells the kubelet who we are and where, and hears what it thinks of it."""

    def __init__(self, driver: str, endpoint: str) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self.registered = threading.Event()
        self.refusal = ""

    def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Name, endpoint and versions."""
        return registration_pb.PluginInfo(
            type=PLUGIN_TYPE,
            name=self._driver,
            endpoint=self._endpoint,
            supported_versions=SUPPORTED_VERSIONS,
        )

    def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The kubelet's verdict."""
        if request.plugin_registered:
            self.refusal = ""
            self.registered.set()
            log.info("registered with the kubelet")
        else:
            self.refusal = request.error
            self.registered.clear()
            log.error("the kubelet refused the registration: %s", request.error)
        return registration_pb.RegistrationStatusResponse()


class HealthStream:
    """Sends the health of all devices to whoever watches."""

    def __init__(self, devices: Callable[[], Sequence[DeviceHealth]]) -> None:
        self._devices = devices
        self._changed = threading.Condition()
        self._version = 0
        self._closed = False

    def notify(self) -> None:
        """Send the list again."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def NodeWatchResources(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """The stream of one watcher."""
        context.add_callback(self.notify)  # so that a stream whose caller left does not wait on
        sent = -1
        while context.is_active():
            with self._changed:
                self._changed.wait_for(partial(self._news, context, sent), _HEALTH_SECONDS)
                if self._closed or not context.is_active():
                    return
                sent = self._version
            yield health_pb.NodeWatchResourcesResponse(
                devices=[_health(device) for device in self._devices()]
            )

    def _news(self, context: Any, sent: int) -> bool:
        return self._closed or self._version != sent or not context.is_active()


def add_plugin(server: grpc.Server, handler: Handler, health: HealthStream) -> None:
    """Serve both versions of DRAPlugin, and health."""
    v1_grpc.add_DRAPluginServicer_to_server(DraPlugin(handler, v1_pb), server)
    v1beta1_grpc.add_DRAPluginServicer_to_server(DraPlugin(handler, v1beta1_pb), server)
    health_grpc.add_DRAResourceHealthServicer_to_server(health, server)


def add_registration(server: grpc.Server, registration: Registration) -> None:
    """Serve the registration protocol."""
    registration_grpc.add_RegistrationServicer_to_server(registration, server)


def _claims(request: Any) -> list[ClaimRef]:
    return [ClaimRef(claim.namespace, claim.name, claim.uid) for claim in request.claims]


def _health(device: DeviceHealth) -> Any:
    states = {True: health_pb.HEALTHY, False: health_pb.UNHEALTHY, None: health_pb.UNKNOWN}
    return health_pb.DeviceHealth(
        device=health_pb.DeviceIdentifier(pool_name=device.pool, device_name=device.device),
        health=states[device.healthy],
        last_updated_time=device.at_seconds,
        health_check_timeout_seconds=_HEALTH_TIMEOUT_SECONDS,
        message=device.message[:_MOST_MESSAGE],
    )
