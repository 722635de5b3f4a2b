"""A capture of cards, made into a fake node, tells what the cards told."""

from __future__ import annotations

import copy
import json

import pytest

from dra.nvml_capture import Capture
from tests.fake_nvml.captured import answers, main, node_from_capture
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.loaded import cards_of
from tests.fake_nvml.state import FakeNode


def captured(node, library):
    capture = Capture()
    with cards_of(node, library, record=capture.record) as nvml:
        found = nvml.versions(), nvml.cards()
    return found, json.loads(json.dumps(capture.document()))


@pytest.mark.parametrize("profile", ["dgx-a100", "dgx-h100", "a100-pcie-pairs", "nvl72", "l40s"])
def test_a_node_made_from_a_capture_tells_the_same(library, tmp_path, profile):
    node = FakeNode.create(tmp_path / "first", profile, mig=(0, 1))
    if profile != "l40s":
        for instance in (("3g", 4, True), ("2g", 0, True), ("1g", 2, False)):
            name = next(p for p in _names(node) if p.startswith(instance[0]) and "+" not in p)
            node.add_instance(1, name, instance[1], compute=instance[2])
    found, capture = captured(node, library)
    again, second = captured(node_from_capture(tmp_path / "second", capture), library)
    assert again == found
    assert answers(second) == answers(capture)


def _names(node):
    values = node.values()
    return [value.split()[-1] for key, value in sorted(values.items()) if key.startswith("gpu.1.profile.")]


def test_two_captures_are_compared_by_what_is_answered_and_what_is_refused(library, tmp_path, capsys):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=1)
    _, one = captured(node, library)
    other = copy.deepcopy(one)
    for call in other["calls"]:
        if call["call"] == "nvmlDeviceGetSerial":
            del call["answer"]
            call["error"] = 3
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    for file, capture in zip(files, (one, other), strict=True):
        file.write_text(json.dumps(capture))
    assert main([str(files[0]), str(files[0])]) == 0
    assert main([str(file) for file in files]) == 1
    assert "nvmlDeviceGetSerial['gpu 0']: an answer against error 3" in capsys.readouterr().out
