"""Which programs a control plane is made of is read from the pinned Go modules."""

from __future__ import annotations

import pytest

from deploy.local.build import command
from deploy.local.versions import MODULES, UnknownVersion, kubernetes_minors, programs, required_version


def test_the_three_supported_minors_are_pinned():
    assert kubernetes_minors() == ("1.34", "1.35", "1.36")


@pytest.mark.parametrize("minor", ["1.34", "1.35", "1.36"])
def test_every_minor_has_all_programs_at_the_version_of_its_module(minor):
    found = programs(minor)
    assert set(found) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
        "kubelet",
        "kwok",
        "prometheus",
        *("containerd", "containerd-shim-runc-v2", "ctr", "runc"),
        *("bridge", "host-local", "loopback", "slicewise-workload"),
    }
    pinned = required_version(MODULES / f"kubernetes-{minor}", "k8s.io/kubernetes")
    assert pinned.startswith(f"{minor}.")
    assert {found[name].version for name in found if found[name].component == "kubernetes"} == {pinned}


def test_the_exact_pinned_version_may_be_named_too():
    pinned = programs("1.36")["kube-apiserver"].version
    assert programs(f"v{pinned}") == programs("1.36")


@pytest.mark.parametrize("wrong", ["1.33", "2", "", "latest", "../1.36"])
def test_an_unknown_version_is_refused_with_the_known_ones(wrong):
    with pytest.raises(UnknownVersion, match=r"expected one of 1\.34, 1\.35, 1\.36"):
        programs(wrong)


def test_another_patch_of_a_known_minor_is_refused_with_the_pinned_one():
    pinned = programs("1.36")["kube-apiserver"].version
    with pytest.raises(UnknownVersion, match=f"1.36 is pinned at {pinned}"):
        programs("1.36.999")


def test_prometheus_release_is_worked_out_from_its_module_version():
    prometheus = programs()["prometheus"]
    major, minor, _ = prometheus.version.split(".")
    assert int(major) == 3
    assert int(minor) >= 15


def test_the_kubernetes_build_carries_its_version():
    program = programs("1.35")["kube-apiserver"]
    argv = command("go", program, MODULES / "out")
    flags = argv[argv.index("-ldflags") + 1]
    assert f"-X k8s.io/component-base/version.gitVersion=v{program.version}" in flags
    assert "-X k8s.io/component-base/version.gitMinor=35" in flags
    assert "-tags" not in argv


def test_prometheus_is_built_without_the_clouds_service_discoveries():
    argv = command("go", programs()["prometheus"], MODULES / "out")
    assert argv[argv.index("-tags") + 1] == "remove_all_sd,enable_kubernetes_sd"
