"""The node itself: pods run, have addresses and devices; nothing is left when it ends, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from deploy.local import machine_python
from deploy.local.conditions import condition
from deploy.local.node_cgroups import roots
from tests.kubelet.cluster_view import container, delete, pod, running, seen_inside, until


def test_a_pod_runs_with_an_address_of_the_node_and_answers(control_plane, namespace, real_node):
    control_plane.apply([pod("plain", real_node.name)], namespace)
    found = running(control_plane, namespace, "plain")
    assert found["status"]["podIP"] in {str(address) for address in real_node.addresses.pods.hosts()}
    inside = seen_inside(found)
    assert inside["environment"]["HOSTNAME"] == "plain"
    assert inside["devices"] == []
    assert '"HOSTNAME":"plain"' in real_node.pod_log(namespace, "plain")
    delete(control_plane, namespace, "plain")


def test_a_python_of_this_machine_runs_as_a_pod_by_host_path_mounts(control_plane, namespace, real_node):
    python = Path(sys.executable)
    volumes, mounts = machine_python.mounts(python)
    serve = container(command=[str(python), "-m", "http.server", "8080"], args=[], volumeMounts=mounts)
    serve["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    control_plane.apply([pod("python", real_node.name, serve, volumes=volumes)], namespace)
    found = running(control_plane, namespace, "python")

    def ready() -> bool:
        found = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods/python")
        return condition(found, "Ready") == "True"

    until(f"the probe reaches {found['status']['podIP']}", ready)
    delete(control_plane, namespace, "python")


def test_pods_go_on_while_the_kubelet_is_away(control_plane, namespace, real_node):
    control_plane.apply([pod("staying", real_node.name)], namespace)
    before = running(control_plane, namespace, "staying")
    real_node.stop_kubelet()
    assert seen_inside(before)["environment"]["HOSTNAME"] == "staying"
    real_node.start_kubelet()
    after = running(control_plane, namespace, "staying")
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert after["status"]["podIP"] == before["status"]["podIP"]
    delete(control_plane, namespace, "staying")


_HOLDS_A_NODE = """
import json, sys, time
from deploy.local.control_plane import ControlPlane
from deploy.local.real_node import RealNode
with ControlPlane() as cluster, RealNode(cluster) as node:
    from tests.kubelet.cluster_view import pod, running
    cluster.apply([pod("left", node.name)])
    running(cluster, "default", "left")
    print(json.dumps([node.name, str(node.folder), node.pid("containerd"), node.addresses.link_names[0]]))
    sys.stdout.flush()
    time.sleep(600)
"""


def test_a_killed_caller_leaves_no_process_mount_interface_or_control_group(node_programs):
    repository = Path(__file__).parents[2]
    script = _HOLDS_A_NODE
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=repository, stdout=subprocess.PIPE, text=True
    ) as caller:
        name, folder, containerd, link = json.loads(caller.stdout.readline())
        groups = roots(f"slicewise-{name}")
        interface = Path("/sys/class/net", link).exists()
        caller.send_signal(signal.SIGKILL)
    assert groups
    assert interface
    until("the node's folder is removed", lambda: not Path(folder).exists(), 20)
    until("containerd has ended", lambda: not Path(f"/proc/{containerd}").exists(), 10)
    # The kernel takes a network namespace apart after the last process in it has ended.
    until("the interface is gone", lambda: not Path("/sys/class/net", link).exists(), 20)
    assert roots(f"slicewise-{name}") == []
    assert folder not in Path("/proc/self/mounts").read_text()
    until("no process knows the node's folder", lambda: not _mentions(folder), 10)


def _mentions(folder: str) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder.encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # ended meanwhile
        return b""
