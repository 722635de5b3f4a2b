"""The kubelet's answer to "which pod has which device": its podresources socket (KEP-606, v1).

One unary call on a local Unix socket; the kubelet has no way to tell changes, so it is asked again and again.
Only device plugins' devices are read here: what dynamic resource allocation gave away stands in the claims.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from node.podresources_v1 import api_pb2, api_pb2_grpc

SOCKET = Path("pod-resources") / "kubelet.sock"  # below the kubelet's root folder
_CALL_SECONDS = 5.0
_MOST_BYTES = 16 * 1024 * 1024  # what the kubelet's own clients allow
_PLAIN = (("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.enable_http_proxy", 0))


class KubeletAway(Exception):
    """The socket did not answer; the message says why and what to look at."""


class PodResources:
    """A client of one socket. Not to be shared between threads while closing."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=_PLAIN)
        self._stub = api_pb2_grpc.PodResourcesListerStub(self._channel)

    def held(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Every pod ("namespace/name") with a resource and the ids of its devices. Raises KubeletAway.

        Pods that have ended hold nothing any more: the kubelet lists active pods only (from 1.34 on; before
        that it may list ended ones until they are deleted).
        """
        try:
            answer = self._stub.List(api_pb2.ListPodResourcesRequest(), timeout=_CALL_SECONDS)
        except grpc.RpcError as problem:
            code, detail = problem.code(), problem.details()
            raise KubeletAway(
                f"{self._socket}: {code.name}: {detail}; is the kubelet running, and is its folder mounted?"
            ) from problem
        return tuple(
            (f"{pod.namespace}/{pod.name}", devices.resource_name, tuple(sorted(devices.device_ids)))
            for pod in answer.pod_resources
            for container in pod.containers
            for devices in container.devices
        )

    def close(self) -> None:
        """End the connection."""
        self._channel.close()
