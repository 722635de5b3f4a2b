"""A device plugin of a few lines: it offers given devices and hands each out as a CDI device.

The kubelet's device plugin protocol, v1beta1. Its socket and the kubelet's are in one folder. Every device is
the same pretended card; a container sees which it was given in the variable GIVEN.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from deviceplugin_v1beta1 import api_pb2, api_pb2_grpc  # type: ignore[import-not-found]

from deploy.local.real_node import RealNode


def describe(devices: Sequence[str], cdi_kind: str, node: RealNode) -> None:
    """Write the node's CDI file about these devices."""
    card = node.folder / "pretended-gpu"
    os.mknod(card, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    nodes = [{"path": "/dev/nvidia0", "hostPath": str(card), "type": "c", "permissions": "rw"}]
    document = {
        "cdiVersion": "0.6.0",
        "kind": cdi_kind,
        "devices": [
            {"name": device, "containerEdits": {"env": [f"GIVEN={device}"], "deviceNodes": nodes}}
            for device in devices
        ],
    }
    (node.cdi_folder / "test.json").write_text(json.dumps(document))


class DevicePlugin(api_pb2_grpc.DevicePluginServicer):  # type: ignore[misc]
    """Offers ``devices`` as ``resource``; a context manager."""

    def __init__(self, folder: Path, resource: str, devices: Sequence[str], cdi_kind: str) -> None:
        self._folder = folder
        self._resource = resource
        self._devices = tuple(devices)
        self._cdi_kind = cdi_kind
        self._ended = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        api_pb2_grpc.add_DevicePluginServicer_to_server(self, self._server)
        self._endpoint = resource.replace("/", "_") + ".sock"
        self._server.add_insecure_port(f"unix:{folder / self._endpoint}")

    def __enter__(self) -> DevicePlugin:
        self._server.start()
        with grpc.insecure_channel(f"unix:{self._folder / 'kubelet.sock'}") as channel:
            api_pb2_grpc.RegistrationStub(channel).Register(
                api_pb2.RegisterRequest(
                    version="v1beta1", endpoint=self._endpoint, resource_name=self._resource
                ),
                timeout=10,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(grace=1).wait()

    def GetDevicePluginOptions(self, request, context):  # noqa: N802
        return api_pb2.DevicePluginOptions()

    def ListAndWatch(self, request, context) -> Iterator[api_pb2.ListAndWatchResponse]:  # noqa: N802
        yield api_pb2.ListAndWatchResponse(
            devices=[api_pb2.Device(ID=device, health="Healthy") for device in self._devices]
        )
        self._ended.wait()

    def Allocate(self, request, context):  # noqa: N802
        return api_pb2.AllocateResponse(
            container_responses=[
                api_pb2.ContainerAllocateResponse(
                    cdi_devices=[
                        api_pb2.CDIDevice(name=f"{self._cdi_kind}={device}") for device in one.devices_ids
                    ]
                )
                for one in request.container_requests
            ]
        )
