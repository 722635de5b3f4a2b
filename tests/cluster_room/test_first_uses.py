"""Types are first used by many threads at once, as when all watches begin: none sees half a type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from cluster.envelopes import know_types
from tests.polling import SOON_SECONDS

REPOSITORY = Path(__file__).parents[2]
PROCESSES = 2  # without the order of first uses nearly every one dies

# In a process of its own: types are first used once in a process, and what is looked for ends it.
FIRST_USES = """
import faulthandler, sys, threading
import cluster.wire as wire
import dra.resource_api as resource
from cluster.envelopes import list_decoder, object_decoder
faulthandler.enable()
sys.setswitchinterval(1e-6)
pod = b'{"metadata": {"name": "a", "ownerReferences": [{"kind": "X", "name": "y", "uid": "z"}]}, "spec": {}}'
kinds = 2 * [wire.Pod, wire.Node, wire.ConfigMap, wire.Lease, resource.ResourceSlice, resource.ResourceClaim]
together, seen = threading.Barrier(2 * len(kinds)), []
def one(kind):
    together.wait()
    seen.append(object_decoder(kind).decode(pod).metadata.name)
def many(kind):
    together.wait()
    seen.extend(item.metadata.name for item in list_decoder(kind).decode(b'{"items": [' + pod + b"]}").items)
threads = [threading.Thread(target=work, args=(kind,)) for kind in kinds for work in (one, many)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert seen == ["a"] * len(threads), seen
"""


def test_threads_that_decode_a_type_for_the_first_time_do_not_end_the_process():
    for _ in range(PROCESSES):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_USES],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=2 * SOON_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class Inner(msgspec.Struct):
    value: int = 0


class Outer(msgspec.Struct):
    inner: Inner = msgspec.field(default_factory=Inner)


class OnlyWritten(msgspec.Struct):
    either: set[int] | list[int] | None = None


def test_every_type_is_known_before_there_are_threads_and_one_that_cannot_be_read_is_passed_over():
    know_types()
    assert msgspec.json.decode(b'{"inner": {"value": 3}}', type=Outer).inner.value == 3
    know_types()
