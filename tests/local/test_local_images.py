"""A container image is an archive of given files, and the same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

from deploy.local.images import archive


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
