"""A kubelet as far as a DRA plugin sees one: finds the registration socket, asks, prepares, gives back."""

from __future__ import annotations

from pathlib import Path

import grpc

from dra.plugin.dra_health_v1alpha1 import api_pb2 as health_pb
from dra.plugin.dra_health_v1alpha1 import api_pb2_grpc as health_grpc
from dra.plugin.dra_v1 import api_pb2 as v1_pb
from dra.plugin.dra_v1 import api_pb2_grpc as v1_grpc
from dra.plugin.dra_v1beta1 import api_pb2 as v1beta1_pb
from dra.plugin.dra_v1beta1 import api_pb2_grpc as v1beta1_grpc
from dra.plugin.pluginregistration_v1 import api_pb2 as registration_pb
from dra.plugin.pluginregistration_v1 import api_pb2_grpc as registration_grpc

SECONDS = 45.0  # the real one's deadline


class KubeletStandIn:
    """Use as a context manager; ``version`` is the protocol that it prefers."""

    def __init__(self, registry: Path, version: str = "v1") -> None:
        self.registry = registry
        self.version = version
        self._channels: list[grpc.Channel] = []

    def __enter__(self) -> KubeletStandIn:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def register(self, socket: Path | None = None):
        """What the plugin watcher does with a new socket; returns what the plugin said of itself."""
        path = socket or next(iter(sorted(self.registry.glob("*-reg.sock"))))
        channel = self._dial(path)
        stub = registration_grpc.RegistrationStub(channel)
        info = stub.GetInfo(registration_pb.InfoRequest(), timeout=SECONDS, wait_for_ready=True)
        status = registration_pb.RegistrationStatus(plugin_registered=True)
        stub.NotifyRegistrationStatus(status, timeout=SECONDS)
        self._plugin = self._dial(Path(info.endpoint))
        return info

    def prepare(self, *claims):
        """``claims``: (namespace, name, uid). The answer by UID."""
        return self._call("NodePrepareResources", claims).claims

    def unprepare(self, *claims):
        return self._call("NodeUnprepareResources", claims).claims

    def health(self):
        """The stream of health lists."""
        stub = health_grpc.DRAResourceHealthStub(self._plugin)
        return stub.NodeWatchResources(health_pb.NodeWatchResourcesRequest(), wait_for_ready=True)

    def _call(self, method, claims):
        pb, stubs = (v1_pb, v1_grpc) if self.version == "v1" else (v1beta1_pb, v1beta1_grpc)
        request = getattr(pb, f"{method}Request")(
            claims=[pb.Claim(namespace=space, name=name, uid=uid) for space, name, uid in claims]
        )
        return getattr(stubs.DRAPluginStub(self._plugin), method)(
            request, timeout=SECONDS, wait_for_ready=True
        )

    def _dial(self, path: Path) -> grpc.Channel:
        channel = grpc.insecure_channel(f"unix:{path}")
        self._channels.append(channel)
        return channel
