"""The configuration files of a real node: container runtime, pod network, kubelet. Values in, values out.

Chosen for a machine that is itself a small virtual machine or a container: no swap check, no systemd, either
version of control groups, no out-of-memory scores below the caller's own. Sources: containerd's config
version 3, the CNI specification's bridge and host-local plugins, KubeletConfiguration v1beta1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from deploy.local.certificates import KeyPair

PAUSE_IMAGE = "localhost/pause:1"
WORKLOAD_IMAGE = "localhost/workload:1"
# What kubelet sets for the whole machine; a room of a node covers them (`node_room.py`).
KERNEL_PARAMETERS = (
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
)
_SUBNETS = IPv4Network("10.64.0.0/10")


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """A node's own /24: a link of two addresses to this machine, and the upper half for its pods."""

    number: int

    @property
    def subnet(self) -> IPv4Network:
        """The whole /24."""
        return IPv4Network((int(_SUBNETS.network_address) + (self.number << 8), 24))

    @property
    def machine(self) -> IPv4Address:
        """This machine's end of the link: the address under which the kubelet is reached."""
        return self.subnet[1]

    @property
    def node(self) -> IPv4Address:
        """The node's end of the link."""
        return self.subnet[2]

    @property
    def pods(self) -> IPv4Network:
        """Where the pods' addresses come from."""
        return list(self.subnet.subnets(1))[1]

    @property
    def link_names(self) -> tuple[str, str]:
        """The link's interfaces: this machine's, the node's. At most 15 characters."""
        return f"swn{self.number:x}", "uplink"


def containerd(
    folder: Path, *, runc: Path, cni_plugins: Path, cdi_folder: Path, stream_address: IPv4Address
) -> str:
    """containerd's configuration (TOML), everything in `folder`."""
    return f"""\
version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{folder}/c.sock"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = "{stream_address}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
# Where the caller lacks CAP_SYS_RESOURCE a lower score than its own cannot be set, and no container starts.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
cdi_spec_dirs = ["{cdi_folder}"]

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{cni_plugins}"]
conf_dir = "{folder}/net.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def pod_network(addresses: NodeAddresses, folder: Path) -> str:
    """The CNI network (JSON): a bridge, addresses by host-local, no translation of addresses."""
    network = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folder / "addresses"),
                    "ranges": [[{"subnet": str(addresses.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    return json.dumps(network, indent=2) + "\n"


def kubelet(
    folder: Path,
    *,
    runtime_socket: Path,
    addresses: NodeAddresses,
    ports: tuple[int, int],
    authority: Path,
    server: KeyPair,
    feature_gates: Mapping[str, bool],
) -> dict[str, Any]:
    """A KubeletConfiguration. ports: of the kubelet's server and of its health check."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(addresses.machine),
        "port": ports[0],
        "readOnlyPort": 0,
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": ports[1],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{runtime_socket}",
        "podLogsDir": str(folder / "pods-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "resolvConf": "",
        "failSwapOn": False,
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        # A test waits for what a cluster may take its time over.
        "syncFrequency": "1s",
        "nodeStatusReportFrequency": "10s",
        "nodeStatusUpdateFrequency": "2s",
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "featureGates": dict(feature_gates),
    }
