"""Extras are built only when asked for, and a test that lacks one is told how to get it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.__main__ import EVERYTHING
from deploy.local.build import BinaryUnavailable
from deploy.local.extras import Extra, built, ensure_built, extras, there_already
from deploy.local.versions import Program, programs


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    """A cache of programs with nothing in it; Go's own stays where it is."""
    go = shutil.which("go")
    if go is not None:
        answer = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True)
        monkeypatch.setenv("GOCACHE", answer.stdout.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


@pytest.fixture
def small(tmp_path: Path) -> Extra:
    if shutil.which("go") is None:
        pytest.skip("the build path needs Go, and there is no `go` on PATH")
    module = tmp_path / "module"
    (module / "config").mkdir(parents=True)
    (module / "go.mod").write_text("module example.test/small\n\ngo 1.21\n")
    (module / "main.go").write_text("package main\n\nfunc main() {}\n")
    (module / "config" / "crd.yaml").write_text("kind: CustomResourceDefinition\n")
    (module / "config" / "crd.yaml").chmod(0o444)
    program = Program("small-extra", "small", "1.2.3", module, "example.test/small")
    return Extra("small", "example.test/small", (program,), ("config/*.yaml",))


def test_no_extra_is_built_unless_it_is_asked_for():
    names = {program.name for extra in extras().values() for program in extra.programs}
    assert names
    assert not names & set(EVERYTHING)
    assert not names & set(programs())


@pytest.mark.parametrize("name", sorted(extras()))
def test_each_is_pinned_and_told_with_the_command_that_builds_it(name: str):
    with pytest.raises(BinaryUnavailable, match=rf"v\d.*`python -m deploy\.local binaries --with {name}`"):
        built(name)


def test_a_built_extra_has_its_programs_and_the_files_of_its_release(small: Extra):
    lines: list[str] = []
    made = ensure_built(small, lines.append)
    assert subprocess.run([made.programs["small-extra"]], check=False).returncode == 0
    assert (made.files / "config" / "crd.yaml").read_text() == "kind: CustomResourceDefinition\n"
    assert there_already(small) == made
    lines.clear()
    assert ensure_built(small, lines.append) == made
    assert not lines


def test_files_that_the_release_does_not_have_are_named(small: Extra):
    wrong = Extra(small.name, small.path, small.programs, ("config/crd.yaml", "config/*.json"))
    with pytest.raises(BinaryUnavailable, match=r"expected files config/\*\.json in .*, found none"):
        ensure_built(wrong, lambda _: None)
    assert not wrong.kept.exists()
