"""Programs are taken from where they are, if they are the wanted version, and built otherwise."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from deploy.local import binaries
from deploy.local.binaries import BinaryUnavailable, cache_folder, ensure, find
from deploy.local.build import build
from deploy.local.versions import Program, programs

PINNED = programs()


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """No cache, no assets, an empty PATH beside Go's own."""
    go = shutil.which("go")
    if go is not None:  # Go's own cache would move with XDG_CACHE_HOME, and every build begin from nothing
        answer = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True)
        monkeypatch.setenv("GOCACHE", answer.stdout.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    return Path(go) if go else None


def pretend(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_assets_folder_comes_before_path(monkeypatch, tmp_path):
    says = f"Kubernetes v{PINNED['kube-scheduler'].version}"
    pretend(tmp_path / "path", "kube-scheduler", says)
    given = pretend(tmp_path / "assets", "kube-scheduler", says)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert find("kube-scheduler") == given


def test_another_version_in_assets_or_on_path_is_passed_over(monkeypatch, tmp_path):
    pretend(tmp_path / "assets", "etcd", "etcd Version: 3.4.0")
    pretend(tmp_path / "path", "etcd", "etcd Version: 3.5.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert find("etcd") is None


def test_a_program_that_does_not_tell_its_version_is_passed_over(tmp_path):
    pretend(tmp_path / "path", "kwok", "hello")
    broken = pretend(tmp_path / "path", "etcd", "")
    broken.write_text("not a program")
    assert find("kwok") is None
    assert find("etcd") is None


@pytest.mark.parametrize(("version", "taken"), [("2.42.0", True), ("3.99.1", True), ("2.39.2", False)])
def test_any_recent_prometheus_on_path_will_do(tmp_path, version, taken):
    path = pretend(tmp_path / "path", "prometheus", f"prometheus, version {version} (branch: HEAD)")
    assert find("prometheus") == (path if taken else None)


def test_the_cache_is_keyed_by_component_and_version(tmp_path):
    folder = tmp_path / "cache" / "slicewise" / "bin" / f"kwok-v{PINNED['kwok'].version}"
    cached = pretend(folder, "kwok", "")
    assert find("kwok") == cached
    assert ensure(["kwok"]) == {"kwok": cached}


def test_a_relative_cache_home_is_ignored_as_xdg_demands():
    assert cache_folder({"XDG_CACHE_HOME": "somewhere"}) == Path.home() / ".cache" / "slicewise" / "bin"


def test_without_go_the_error_says_what_is_missing_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(
        BinaryUnavailable, match=r"etcd v3.* no `go` on PATH\. Install Go 1\.\d+.*KUBEBUILDER_ASSETS"
    ):
        ensure(["etcd"])


def test_an_unknown_program_is_refused_by_name():
    with pytest.raises(BinaryUnavailable, match=r"unknown program 'minikube': expected one of bridge, "):
        ensure(["minikube"])


@pytest.fixture
def small_program(tmp_path, monkeypatch, nothing_installed):
    """A Go module of one file, standing in for Kubernetes: the build is the same, only short."""
    if nothing_installed is None:
        pytest.skip("the build path needs Go, and there is no `go` on PATH")
    monkeypatch.setenv("PATH", f"{nothing_installed.parent}:/usr/bin:/bin")
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module example.test/small\n\ngo 1.21\n")
    (module / "main.go").write_text(
        'package main\n\nvar version = "unset"\n\nfunc main() { println(version) }\n'
    )
    return Program(
        name="small",
        component="small",
        version="1.2.3",
        module=module,
        package="example.test/small",
        linker_values=(("main.version", "v1.2.3"),),
    )


def test_a_build_puts_a_static_program_into_the_cache_and_tells_its_progress(small_program):
    destination = binaries.cached_path(small_program)
    (destination.parent / ".building-small-killed").mkdir(parents=True)
    lines: list[str] = []
    build(small_program, destination, lines.append, "2 of 3")
    assert binaries.reported_version(destination, small_program) == "1.2.3"
    assert lines[0] == "building small v1.2.3 (2 of 3)"
    assert lines[-1].startswith("built small v1.2.3 (2 of 3) in ")
    assert {path.name for path in destination.parent.iterdir()} == {"small", ".small.lock"}
    facts = subprocess.run(["go", "version", "-m", destination], capture_output=True, text=True, check=True)
    assert "CGO_ENABLED=0" in facts.stdout
    assert "-trimpath=true" in facts.stdout


def test_two_builders_at_once_build_it_once(small_program):
    destination = binaries.cached_path(small_program)
    lines: list[str] = []
    builders = [
        threading.Thread(target=build, args=(small_program, destination, lines.append)) for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert sum(line.startswith("built small") for line in lines) == 1
    assert destination.exists()


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(small_program):
    (small_program.module / "main.go").write_text("package main\n\nfunc main() { undefinedName() }\n")
    destination = binaries.cached_path(small_program)
    with pytest.raises(
        BinaryUnavailable, match=r"small v1\.2\.3 could not be built(.|\n)*undefined: undefinedName"
    ):
        build(small_program, destination, lambda _: None)
    assert {path.name for path in destination.parent.iterdir()} == {".small.lock"}


def test_a_cache_that_cannot_be_written_is_named(small_program, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BinaryUnavailable, match="XDG_CACHE_HOME"):
        build(small_program, blocked / "bin" / "small", lambda _: None)
