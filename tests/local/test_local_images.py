"""A container image is an archive of given files, and the same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile

from deploy.local.images import Link, archive, write


def parts(image: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(image)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_an_archive_names_its_image_and_runs_the_given_command():
    found = parts(archive("localhost/pause:1", {"/pause": b"program"}, ("/pause", "now")))
    [manifest] = json.loads(found["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    config = json.loads(found[manifest["Config"]])
    assert config["config"]["Entrypoint"] == ["/pause", "now"]
    assert manifest["Config"] == hashlib.sha256(found[manifest["Config"]]).hexdigest() + ".json"
    [layer] = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(found[layer]).hexdigest()]
    assert parts(found[layer]) == {"pause": b"program"}


def test_the_same_files_give_the_same_image():
    files = {"/b": b"2", "/a": b"1"}
    assert archive("x:1", files, ("/a",)) == archive("x:1", dict(reversed(files.items())), ("/a",))
    assert archive("x:1", files, ("/a",), architecture="arm64") != archive("x:1", files, ("/a",))


def test_a_file_of_this_machine_comes_with_its_time_and_its_mode_and_a_link_stays_one(tmp_path):
    program, note = tmp_path / "program", tmp_path / "note"
    program.write_bytes(b"run")
    note.write_bytes(b"read" * 5000)
    program.chmod(0o700)
    os.utime(note, (1, 1_700_000_000.5))
    (tmp_path / "other").symlink_to(note)
    files = {"/opt/bin/run": program, "/opt/note": tmp_path / "other", "/opt/bin/again": Link("run")}
    with (tmp_path / "image.tar").open("w+b") as out:
        write(out, "x:1", files, ("/opt/bin/run",))
    with tarfile.open(fileobj=io.BytesIO(parts((tmp_path / "image.tar").read_bytes())["layer.tar"])) as tar:
        found = {member.name: member for member in tar}
    assert [(name, found[name].mode) for name in ("opt/bin/run", "opt/note")] == [
        ("opt/bin/run", 0o755),
        ("opt/note", 0o644),
    ]
    assert (found["opt/note"].mtime, found["opt/note"].size) == (1_700_000_000, 20_000)
    assert (found["opt/bin/again"].issym(), found["opt/bin/again"].linkname) == (True, "run")
    assert found["opt"].isdir()
    assert list(found).index("opt/bin") < list(found).index("opt/bin/run")
