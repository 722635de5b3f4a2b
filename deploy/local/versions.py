"""Which version of each program of the control plane is wanted, and from which Go package it is built.

One source of truth: the `require` lines of the Go modules under `deploy/local/modules`. A module pins one
set of programs, so that the dependencies of one do not drag another's along:

- `kubernetes-<minor>`: kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kubelet
- `etcd-kwok`: etcd (the store) and kwok (the simulated kubelets)
- `prometheus`: Prometheus and promtool; its Go module v0.MNN.P is release M.NN.P
- `containerd`, `runc`, `cni-plugins`, `workload` (our own source): what a real node (`real_node.py`) runs
  beside its kubelet

Programs that only some tests need are told by `extras.py`.

It reads those files and nothing else; `binaries.py` looks for the programs, `build.py` makes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
DEFAULT_KUBERNETES = "1.36"
WORKLOAD = "slicewise-workload"
_OLDEST_RUNC = (1, 1)  # what containerd 2 is tested with upstream; any later one will do
_KUBERNETES_FOLDER = "kubernetes-"
_REQUIRE = re.compile(r"^\s*(?:require\s+)?(?P<path>[\w./-]+)\s+v(?P<version>[0-9][\w.+-]*)\s*(?://.*)?$")
_GO_DIRECTIVE = re.compile(r"^go\s+(?P<version>[0-9.]+)\s*$", re.MULTILINE)


class UnknownVersion(ValueError):
    """A Kubernetes version was asked for that no module under `deploy/local/modules` pins."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the control plane and how it is built.

    `component` and `version` name its folder in the cache; `module` is the folder of its go.mod,
    `package` the Go package of its main function. `cgo` where a part of it is C: it is then linked
    against this machine's C library, and its build needs a C compiler.
    """

    name: str
    component: str
    version: str
    module: Path
    package: str
    linker_values: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    version_arguments: tuple[str, ...] = ("--version",)
    minimum_on_path: tuple[int, int] | None = None
    cgo: bool = False

    @property
    def label(self) -> str:
        """Name and version for messages, as in `kube-apiserver v1.36.3`."""
        return f"{self.name} v{self.version}"


def kubernetes_minors() -> tuple[str, ...]:
    """The Kubernetes minor versions that can be run, lowest first (`1.34`, ...)."""
    minors = [
        folder.name.removeprefix(_KUBERNETES_FOLDER) for folder in MODULES.glob(f"{_KUBERNETES_FOLDER}*")
    ]
    return tuple(sorted(minors, key=lambda minor: tuple(int(part) for part in minor.split("."))))


def programs(kubernetes: str = DEFAULT_KUBERNETES) -> Mapping[str, Program]:
    """Every program of a control plane of this Kubernetes version (`1.36`, `v1.36` or the exact `1.36.3`).

    Raises UnknownVersion when no module pins that version.
    """
    wanted = kubernetes.removeprefix("v")
    known = kubernetes_minors()
    minor = ".".join(wanted.split(".")[:2])
    if minor not in known:
        raise UnknownVersion(
            f"Kubernetes version {kubernetes!r} cannot be run here: expected one of {', '.join(known)} "
            f"(each is a pinned Go module under deploy/local/modules)"
        )
    module = MODULES / f"{_KUBERNETES_FOLDER}{minor}"
    version = required_version(module, "k8s.io/kubernetes")
    if wanted.count(".") > 1 and wanted != version:
        raise UnknownVersion(
            f"Kubernetes version {kubernetes!r} cannot be run here: {minor} is pinned at {version}; "
            f"ask for {minor!r}, or change {module.name}/go.mod"
        )
    found = [*_kubernetes(module, version, minor), *_etcd_and_kwok(), *_prometheus(), *_containers()]
    return {program.name: program for program in found}


def required_version(module: Path, path: str) -> str:
    """The version (without `v`) at which the go.mod in folder `module` requires the Go module `path`."""
    for line in (module / "go.mod").read_text().splitlines():
        match = _REQUIRE.match(line)
        if match and match["path"] == path:
            return match["version"]
    raise UnknownVersion(f"{module / 'go.mod'}: expected a line that requires {path}, found none")


def go_version(module: Path) -> str:
    """The Go version that the module's `go` line asks for."""
    match = _GO_DIRECTIVE.search((module / "go.mod").read_text())
    return match["version"] if match else "1.26"


def _kubernetes(module: Path, version: str, minor: str) -> list[Program]:
    # Without these the API server calls itself v0.0.0 and clients guess wrong about what it serves.
    prefix = "k8s.io/component-base/version."
    major, minor_number = minor.split(".")
    values = (
        (f"{prefix}gitVersion", f"v{version}"),
        (f"{prefix}gitMajor", major),
        (f"{prefix}gitMinor", minor_number),
    )
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    return [
        Program(
            name=name,
            component="kubernetes",
            version=version,
            module=module,
            package=f"k8s.io/kubernetes/cmd/{name}",
            linker_values=values,
            version_arguments=("version", "--client") if name == "kubectl" else ("--version",),
        )
        for name in names
    ]


def _etcd_and_kwok() -> list[Program]:
    module = MODULES / "etcd-kwok"
    etcd, kwok = "go.etcd.io/etcd/server/v3", "sigs.k8s.io/kwok"
    return [
        Program("etcd", "etcd", required_version(module, etcd), module, etcd),
        Program("kwok", "kwok", required_version(module, kwok), module, f"{kwok}/cmd/kwok"),
    ]


def _prometheus() -> list[Program]:
    module = MODULES / "prometheus"
    path = "github.com/prometheus/prometheus"
    _, packed, patch = required_version(module, path).split(".")
    version = f"{int(packed) // 100}.{int(packed) % 100}.{patch}"
    return [
        Program(
            name="prometheus",
            component="prometheus",
            version=version,
            module=module,
            package=f"{path}/cmd/prometheus",
            linker_values=(("github.com/prometheus/common/version.Version", version),),
            # The cloud providers' service discoveries are most of the build; static, file and HTTP ones stay.
            tags=("remove_all_sd", "enable_kubernetes_sd"),
            minimum_on_path=(2, 40),
        )
    ]


def _containers() -> list[Program]:
    """The container runtime of a real node, the program under it, and its network's plugins."""
    module = MODULES / "containerd"
    path = "github.com/containerd/containerd/v2"
    version = required_version(module, path)
    runtime = [
        Program(
            name=name,
            component="containerd",
            version=version,
            module=module,
            package=f"{path}/cmd/{name}",
            linker_values=((f"{path}/version.Version", f"v{version}"),),
        )
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    ]
    module, path = MODULES / "runc", "github.com/opencontainers/runc"
    # Without the `seccomp` tag it needs no libseccomp: the containers of a test are not confined by it.
    version = required_version(module, path)
    runc = Program("runc", "runc", version, module, path, minimum_on_path=_OLDEST_RUNC, cgo=True)
    module, path = MODULES / "cni-plugins", "github.com/containernetworking/plugins"
    version = required_version(module, path)
    values = ((f"{path}/pkg/utils/buildversion.BuildVersion", f"v{version}"),)
    kinds = {"loopback": "main", "bridge": "main", "host-local": "ipam"}
    network = [
        Program(name, "cni-plugins", version, module, f"{path}/plugins/{kind}/{name}", values)
        for name, kind in kinds.items()
    ]
    return [*runtime, runc, *network, _workload()]


def _workload() -> Program:
    """Our own program in the containers of a real node; its version is its source's digest."""
    module = MODULES / "workload"
    digest = hashlib.sha256(b"\0".join((module / name).read_bytes() for name in ("go.mod", "main.go")))
    return Program(WORKLOAD, WORKLOAD, f"0.0.0-{digest.hexdigest()[:12]}", module, ".")
