"""Environments of model servers: pinned with hashes, finished or begun anew; a machine without an index."""

from __future__ import annotations

import re

import pytest

from deploy.local import model_servers
from deploy.local.model_servers import (
    MODEL_SERVERS,
    ModelServerFailed,
    ModelServerUnavailable,
    ensure,
    find,
    lock_file,
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_servers, "LOCKED_FOR", tuple(model_servers.sys.version_info[:2]))


def pip(monkeypatch, script):
    """A stand-in for the interpreter: `-m venv FOLDER` makes one whose pip runs ``script``."""

    def make(folder):
        base = folder / "base-python"
        base.parent.mkdir(parents=True, exist_ok=True)
        made = '#!/bin/sh\\n[ "$3" = install ] || exit 0\\n' + script
        base.write_text(
            f"#!/bin/sh\nmkdir -p $3/bin\nprintf '{made}' > $3/bin/python\nchmod +x $3/bin/python\n"
        )
        base.chmod(0o755)
        monkeypatch.setattr(model_servers, "_interpreter", lambda: base)

    return make


@pytest.mark.parametrize("server", MODEL_SERVERS)
def test_every_package_is_pinned_with_hashes(server):
    text = lock_file(server).read_text()
    pins = re.findall(r"^([a-z0-9._-]+)==\S+", text, re.MULTILINE | re.IGNORECASE)
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins)
    assert all("--hash=sha256:" in block for block in blocks)
    wanted = lock_file(server).with_suffix(".in").read_text().strip()
    name, version = wanted.split("==")
    assert f"{name.split('[')[0]}=={version} " in text
    assert "://" not in text.replace("https://pip.pypa.io", ""), "no address of an index belongs in a lock"


def test_an_environment_is_installed_once_and_found_afterwards(monkeypatch, tmp_path):
    pip(monkeypatch, "echo Collecting one\\\\necho ran >> $0.log\\n")(tmp_path)
    said: list[str] = []
    assert find("bentoml") is None
    python = ensure("bentoml", said.append)
    assert find("bentoml") == python
    assert ensure("bentoml", said.append) == python
    assert [line.split(":")[0] for line in said if line.startswith("installing")] == ["installing bentoml"]


def test_a_broken_off_installation_is_begun_anew(monkeypatch, tmp_path):
    pip(monkeypatch, "echo disk full; exit 1\\n")(tmp_path)
    with pytest.raises(ModelServerFailed, match="disk full"):
        ensure("bentoml")
    assert find("bentoml") is None
    pip(monkeypatch, "exit 0\\n")(tmp_path)
    assert ensure("bentoml").exists()


def test_a_machine_without_an_index_says_so(monkeypatch, tmp_path):
    pip(monkeypatch, "echo ERROR: No matching distribution found for bentoml; exit 1\\n")(tmp_path)
    with pytest.raises(ModelServerUnavailable, match="cannot be fetched from a package index here"):
        ensure("bentoml")


def test_a_machine_without_the_python_of_the_locks_says_so(monkeypatch):
    monkeypatch.setattr(model_servers, "LOCKED_FOR", (3, 2))
    with pytest.raises(ModelServerUnavailable, match=r"no python3\.2 on PATH"):
        ensure("ray")


def test_an_unknown_server_is_refused_by_name():
    with pytest.raises(ModelServerUnavailable, match="expected one of mlserver, bentoml, ray"):
        ensure("vllm")
