"""Kill -9 at random points of prepare and unprepare: no instance is lost, none leaks, no pod gets stuck.

The points: before or after a chosen call of NVML takes effect, after some number of any calls, and after some
milliseconds, where the driver is between NVML, its checkpoint, the CDI file and the kubelet. Drawn with a
fixed seed; which pod is at which of them is a matter of timing.
"""

from __future__ import annotations

import random
import signal
import time

import pytest

from deploy.local.processes import ServerFailed
from deploy.local.rest import SUCCESS
from dra.classes import device_classes
from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import pod, read_pod, running, seen_inside, until
from tests.kubelet.driver_rig import DriverRig, asks, devices_of
from tests.polling import pause

SEED = 20_5
POINTS = 20
MAKES = ("nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceCreateComputeInstance")
BREAKS = ("nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy")
PROFILES = ("1g.10gb", "2g.20gb")
SETTLED_SECONDS = 90  # the kubelet tries a failed pod again after 10 to 15 s, and a killed one may fail twice
DIES_SECONDS = 10
MOST_MILLISECONDS = 250
MOST_CALLS = 60


@pytest.fixture
def rig(control_plane, real_node, tmp_path):
    """The driver over two H100 in MIG mode, with its device classes."""
    if compiler() is None:
        pytest.skip(NO_COMPILER)
    made = device_classes(PROFILES)
    control_plane.apply(made)
    fake = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=2, mig=True)
    rig = DriverRig(control_plane, real_node, fake, build_fake(tmp_path), tmp_path / "root")
    rig.start()
    until("the kubelet knows the driver", rig.registered)
    yield rig
    rig.close()
    for one in made:
        control_plane.request("DELETE", f"/apis/resource.k8s.io/v1/deviceclasses/{one['metadata']['name']}")


class Killer:
    """Arms one point at a time and brings the driver back after it."""

    def __init__(self, rig, node, rng):
        self._rig, self._node, self._rng = rig, node, rng
        self.died_by_itself = 0

    def arm(self, calls):
        """A fault of NVML, or None: the milliseconds after which the process is to be killed."""
        kind = self._rng.choice(("kill", "kill-after", "any", "timed"))
        if kind == "timed":
            return self._rng.uniform(0, MOST_MILLISECONDS) / 1000
        if kind == "any":
            self._rig.fake.fault("*", "kill", skip=self._rng.randrange(MOST_CALLS))
        else:
            self._rig.fake.fault(self._rng.choice(calls), kind)
        return None

    def strike(self, delay_seconds):
        """Wait for the death, or bring it about; then start the driver anew."""
        if delay_seconds is None:
            if self._dies():
                self.died_by_itself += 1
            else:
                delay_seconds = 0.0  # the call did not come
        if delay_seconds is not None:
            time.sleep(delay_seconds)  # the point itself: nothing can be waited for
        self._rig.fake.no_faults()
        self._rig.stop(grace_seconds=0)
        self._rig.start()
        until("the kubelet knows the driver again", self._rig.registered)

    def _dies(self):
        """Whether it dies soon; not every call comes, so that waiting longer would not help."""
        deadline = time.monotonic() + DIES_SECONDS
        while not self._dead():
            if time.monotonic() > deadline:
                return False
            pause(0.03)
        return True

    def _dead(self):
        try:
            self._node.processes.check(["driver"])
        except ServerFailed as ended:
            return f"status -{signal.SIGKILL.value}" in str(ended)
        return False


@pytest.mark.timeout(1200)
def test_a_driver_killed_anywhere_loses_and_leaks_nothing(control_plane, namespace, real_node, rig):
    rng = random.Random(SEED)
    killer = Killer(rig, real_node, rng)
    alive: list[str] = []
    for point in range(POINTS):
        making = len(alive) < 2 or (len(alive) < 10 and rng.random() < 0.5)
        delay = killer.arm(MAKES if making else BREAKS)
        if making:
            name = f"pod-{point}"
            profile = rng.choice(PROFILES)
            made = {**pod(name, real_node.name), "spec": asks("resource", real_node.name, profile)}
            control_plane.apply([made], namespace)
            until(f"{name} is bound", lambda name=name: _bound(control_plane, namespace, name))
            alive.append(name)
        else:
            name = alive.pop(rng.randrange(len(alive)))
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            control_plane.request("DELETE", path, accepted=SUCCESS | {404})
        killer.strike(delay)
    assert killer.died_by_itself >= POINTS // 4, "too few points were inside a call"

    told: dict[str, str] = {}
    for name in alive:
        found = running(control_plane, namespace, name, SETTLED_SECONDS)
        [(device, uuid)] = devices_of(seen_inside(found)).items()
        assert uuid not in told, f"{name} and {told[uuid]} were given the same instance"
        told[uuid] = f"{name}: {device}"

    def held() -> int:
        return len(rig.fake.instances())

    until("only the living pods' instances are there", lambda: held() == len(alive), SETTLED_SECONDS)
    assert sorted(_named(rig)) == sorted(line.split(": ")[1] for line in told.values())
    assert all(one.compute == (0,) for one in rig.fake.instances())
    assert len(rig.documents()) == len(alive)
    for name in alive:
        control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}")
    until("every instance is given back", lambda: held() == 0, SETTLED_SECONDS)
    assert rig.documents() == []


def _bound(control_plane, namespace, name):
    found = read_pod(control_plane, namespace, name)
    return bool(found and found["spec"].get("nodeName"))


def _named(rig):
    """The devices that exist, spelled as in a container's variables."""
    return [
        f"GPU_{one.gpu}_{one.profile.replace('.', '').upper()}_{one.start}" for one in rig.fake.instances()
    ]
