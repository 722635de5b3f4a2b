"""A real node's addresses, interface names and configuration files; what the runc wrapper changes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from deploy.local import node_configuration, node_runc
from deploy.local.node_configuration import NodeAddresses
from deploy.local.ports import HIGHEST_PORT, LOWEST_PORT

NUMBERS = st.integers(0, HIGHEST_PORT - LOWEST_PORT)


@given(NUMBERS, NUMBERS)
def test_two_nodes_of_one_machine_share_no_address_and_no_interface(one, other):
    first, second = NodeAddresses(one), NodeAddresses(other)
    assert first.subnet.overlaps(second.subnet) == (one == other)
    assert (first.link_names[0] == second.link_names[0]) == (one == other)


@given(NUMBERS)
def test_the_pods_have_half_of_the_nodes_subnet_and_the_link_none_of_it(number):
    addresses = NodeAddresses(number)
    assert addresses.subnet.subnet_of(IPv4Network("10.64.0.0/10"))
    assert addresses.pods.num_addresses == 128
    assert addresses.machine not in addresses.pods
    assert addresses.node not in addresses.pods
    assert len(addresses.link_names[0]) <= 15


def test_the_container_runtimes_configuration_is_toml_and_keeps_to_its_folder():
    text = node_configuration.containerd(
        Path("/tmp/x/c"),
        runc=Path("/opt/runc"),
        cni_plugins=Path("/opt/cni"),
        cdi_folder=Path("/tmp/x/cdi"),
        stream_address=IPv4Address("10.64.1.2"),
    )
    read = tomllib.loads(text)
    assert read["root"].startswith("/tmp/x/c/")
    assert read["state"].startswith("/tmp/x/c/")
    assert read["plugins"]["io.containerd.cri.v1.runtime"]["cdi_spec_dirs"] == ["/tmp/x/cdi"]


def test_the_pod_network_gives_addresses_of_the_nodes_own_range():
    network = json.loads(node_configuration.pod_network(NodeAddresses(3), Path("/tmp/x")))
    [plugin] = network["plugins"]
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.64.3.128/25"}]]


def test_the_wrapper_takes_the_system_call_filter_out_and_gives_the_nodes_own_group(tmp_path):
    specification = {"process": {"args": ["x"]}, "linux": {"seccomp": {"a": 1}, "namespaces": []}}
    (tmp_path / "config.json").write_text(json.dumps(specification))
    script = Path(node_runc.__file__)
    arguments = ["--root", "/r", "create", "--bundle", str(tmp_path), "name"]
    subprocess.run([sys.executable, "-I", "-S", str(script), "mine", *arguments], check=True)
    left = json.loads((tmp_path / "config.json").read_text())
    assert left == {"process": {"args": ["x"]}, "linux": {"namespaces": [], "cgroupsPath": "/mine/name"}}


def test_other_commands_of_runc_have_no_container_to_change():
    assert node_runc.bundle(["--root", "/r", "delete", "name"]) is None
    assert node_runc.bundle(["--version"]) is None
