"""The checkpoint: it comes back as it was written, or it is refused with what to do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra.driver.checkpoint import (
    VERSION,
    Checkpoint,
    CheckpointRefused,
    ClaimRecord,
    HeldDevice,
    parse,
    render,
)
from dra.driver.checkpoint_file import CheckpointFile, write_durably

words = st.text("abc-/.0", max_size=8)
device = st.builds(
    HeldDevice,
    request=words,
    pool=words,
    device=words,
    gpu_uuid=words,
    start=st.integers(0, 15),
    size=st.integers(0, 16),
    profile_id=st.none() | st.integers(0, 70),
    share_id=st.none() | words,
    consumed=st.dictionaries(words, words, max_size=2),
    admin=st.booleans(),
    gpu_instance_id=st.none() | st.integers(-1, 14),
    mig_uuid=st.none() | words,
    seen=st.lists(st.integers(0, 14), max_size=3).map(tuple),
)
record = st.builds(
    ClaimRecord,
    uid=words,
    namespace=words,
    name=words,
    stage=st.sampled_from(["preparing", "prepared", "unpreparing"]),
    devices=st.lists(device, max_size=3).map(tuple),
)
checkpoint = st.builds(
    Checkpoint,
    boot_id=words,
    claims=st.dictionaries(words, record, max_size=3),
    numbers=st.dictionaries(words, st.integers(0, 15), max_size=3),
    leftovers=st.lists(device, max_size=2).map(tuple),
)


@given(checkpoint)
def test_what_is_written_is_read(state):
    assert parse(render(state), "x") == state


@given(checkpoint, st.data())
def test_a_file_with_one_wrong_byte_is_refused_or_says_the_same(state, data):
    text = bytearray(render(state))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 6))
    with contextlib.suppress(CheckpointRefused):
        assert parse(bytes(text), "x") == state


@given(checkpoint, st.data())
def test_a_file_that_was_cut_is_refused(state, data):
    text = render(state)
    with pytest.raises(CheckpointRefused):
        parse(text[: data.draw(st.integers(0, len(text) - 1))], "x")


def test_another_version_is_refused_with_what_to_do():
    text = json.loads(render(Checkpoint())) | {"version": VERSION + 1}
    with pytest.raises(CheckpointRefused, match=r"got version 2, expected 1.*Drain the node"):
        parse(json.dumps(text).encode(), "x")


def test_no_file_is_an_empty_state_and_a_write_replaces_it(tmp_path):
    state = CheckpointFile(tmp_path / "deep" / "folder")
    assert state.read() == Checkpoint()
    state.write(Checkpoint(boot_id="b"))
    assert state.read() == Checkpoint(boot_id="b")
    assert [p.name for p in state.folder.iterdir()] == ["checkpoint.json"]


def test_a_failed_write_leaves_the_old_state_and_no_litter(tmp_path, monkeypatch):
    state = CheckpointFile(tmp_path)
    state.write(Checkpoint(boot_id="old"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        state.write(Checkpoint(boot_id="new"))
    assert state.read().boot_id == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.json"]


def test_file_and_folder_are_synced_in_that_order(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    write_durably(tmp_path / "x", b"1")
    assert len(synced) == 2
    assert synced[0].startswith(str(tmp_path / ".x."))
    assert synced[1] == str(tmp_path)


def test_a_dead_process_leaves_no_lock_behind(tmp_path):
    state = CheckpointFile(tmp_path)
    hold = (
        "import sys; from pathlib import Path; from dra.driver.checkpoint_file import CheckpointFile\n"
        "lock = CheckpointFile(Path(sys.argv[1])).try_publish_lock(); print(lock is not None, flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"True\n"
        assert state.try_publish_lock() is None
    finally:
        other.kill()
        other.communicate()
    handle = state.try_publish_lock()
    assert handle is not None
    os.close(handle)
