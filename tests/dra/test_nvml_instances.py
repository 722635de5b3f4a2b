"""Making and taking away MIG instances: rules, refusals, undoing, crashes, threads."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pynvml
import pytest

from dra.cards import CardRefused, LiveInstance
from dra.nvml_events import Events
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.loaded import cards_of, pynvml_on
from tests.fake_nvml.state import (
    DOUBLE_BIT_ECC,
    GPU_IS_LOST,
    INSUFFICIENT_RESOURCES,
    UNKNOWN,
    FakeNode,
)
from tests.polling import SOON_SECONDS

ONE, ONE_MEDIA, TWO, THREE, FOUR, SEVEN = 19, 20, 14, 9, 5, 0


@pytest.fixture
def node(tmp_path):
    return FakeNode.create(tmp_path / "state", "dgx-h100", gpus=2, mig=True)


@pytest.fixture
def nvml(node, library):
    with cards_of(node, library) as cards:
        yield cards


def refused(nvml, *arguments, by="create"):
    with pytest.raises(CardRefused) as caught:
        getattr(nvml, by)(*arguments)
    return caught.value


def test_an_instance_is_made_where_it_was_asked_and_is_seen_by_everyone(node, nvml):
    uuid = node.uuid(0)
    made = nvml.create(uuid, TWO, 4)
    assert (made.gpu_uuid, made.profile_id, made.start, made.size) == (uuid, TWO, 4, 2)
    assert made.compute_instance_id == 0
    assert made.mig_uuid.startswith("MIG-")
    assert made.bits == 0b110000
    assert nvml.live(uuid) == (made,)
    assert nvml.cards()[0].live == (made,)
    assert nvml.cards()[0].occupied == 0b110000
    (seen,) = node.instances()
    assert (seen.profile, seen.start, seen.compute) == ("2g.20gb", 4, (0,))
    nvml.destroy(uuid, made.gpu_instance_id)
    assert nvml.live(uuid) == ()
    assert node.instances() == ()


def test_a_mig_device_tells_whose_it_is(node, nvml):
    made = nvml.create(node.uuid(1), ONE, 0)
    parent = pynvml.nvmlDeviceGetHandleByIndex(1)
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 0)
    assert pynvml.nvmlDeviceIsMigDeviceHandle(device).value == 1
    assert pynvml.nvmlDeviceGetUUID(device) == made.mig_uuid
    assert pynvml.nvmlDeviceGetMemoryInfo(device).total == 9984 << 20
    assert pynvml.nvmlDeviceGetAttributes(device).multiprocessorCount == 16
    back = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
    assert pynvml.nvmlDeviceGetUUID(back) == node.uuid(1)


def test_the_state_survives_the_process_that_made_it(node, library):
    with cards_of(node, library) as first:
        made = first.create(node.uuid(0), THREE, 4)
    with cards_of(node, library) as second:
        assert second.live(node.uuid(0)) == (made,)


@pytest.mark.parametrize(
    ("profile", "start", "kind"),
    [
        (TWO, 2, "insufficient-resources"),  # overlaps the 3g at 0
        (TWO, 1, "invalid"),  # no such placement
        (77, 0, "invalid"),  # no such profile
        (SEVEN, 0, "insufficient-resources"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(node, nvml, profile, start, kind):
    nvml.create(node.uuid(0), THREE, 0)
    before = node.instances()
    assert refused(nvml, node.uuid(0), profile, start).kind == kind
    assert node.instances() == before


def test_a_second_media_instance_is_refused(node, nvml):
    nvml.create(node.uuid(0), ONE_MEDIA, 0)
    assert refused(nvml, node.uuid(0), ONE_MEDIA, 1).kind == "insufficient-resources"


def test_refusals_say_what_a_program_has_to_do(node, nvml, library):
    uuid = node.uuid(0)
    made = nvml.create(uuid, ONE, 0)
    node.busy(0, made.gpu_instance_id)
    assert refused(nvml, uuid, made.gpu_instance_id, by="destroy").kind == "in-use"
    node.busy(0, made.gpu_instance_id, False)
    assert refused(nvml, uuid, 13, by="destroy").kind == "not-found"
    assert refused(nvml, "GPU-of-another-node", ONE, 0).kind == "not-found"
    node.unprivileged()
    assert refused(nvml, uuid, ONE, 1).kind == "no-permission"
    assert refused(nvml, uuid, made.gpu_instance_id, by="destroy").kind == "no-permission"
    assert refused(nvml, uuid, by="live").kind == "no-permission"
    node.set("privileged", "1")
    node.lose(0)
    assert refused(nvml, uuid, ONE, 1).kind == "lost"
    assert refused(nvml, uuid, by="live").kind == "lost"


def test_out_of_mig_mode_nothing_is_made(node, nvml):
    node.set("gpu.1.mig_current", "0")
    assert nvml.live(node.uuid(1)) == ()
    assert refused(nvml, node.uuid(1), ONE, 0).kind == "not-supported"


@pytest.mark.parametrize(
    "symbol",
    [
        "nvmlGpuInstanceGetComputeInstanceProfileInfo",
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlGpuInstanceGetInfo",
    ],
)
def test_a_failure_half_way_leaves_nothing_behind(node, nvml, symbol):
    node.fault(symbol, "error", INSUFFICIENT_RESOURCES)
    assert refused(nvml, node.uuid(0), ONE, 0).kind == "insufficient-resources"
    assert node.instances() == ()


def test_a_failure_to_undo_is_said_and_the_half_is_seen(node, nvml):
    node.fault("nvmlGpuInstanceCreateComputeInstance", "error", UNKNOWN)
    node.fault("nvmlGpuInstanceDestroy", "error", UNKNOWN)
    refusal = refused(nvml, node.uuid(0), ONE, 0)
    assert refusal.kind == "other"
    assert "the half-made instance stays" in refusal.detail
    (half,) = nvml.live(node.uuid(0))
    assert (half.compute_instance_id, half.mig_uuid) == (None, None)
    nvml.destroy(node.uuid(0), half.gpu_instance_id)
    assert nvml.live(node.uuid(0)) == ()


def test_compute_instances_of_others_are_shown(node, nvml):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    instance = pynvml.nvmlDeviceCreateGpuInstance(handle, THREE)
    for _ in range(3):
        pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
    with pytest.raises(pynvml.NVMLError) as caught:
        pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
    assert caught.value.value == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
    (live,) = nvml.live(node.uuid(0))
    assert (live.start, live.compute_instance_id, live.others) == (4, 0, (1, 2))
    with pytest.raises(pynvml.NVMLError) as caught:
        pynvml.nvmlGpuInstanceDestroy(instance)
    assert caught.value.value == pynvml.NVML_ERROR_IN_USE
    nvml.destroy(node.uuid(0), live.gpu_instance_id)
    assert node.instances() == ()


@pytest.mark.parametrize("compute", [True, False])
def test_what_someone_else_made_is_seen_and_not_overlapped(node, nvml, compute):
    foreign = node.add_instance(0, "3g.40gb", 4, compute=compute)
    (live,) = nvml.live(node.uuid(0))
    assert (live.gpu_instance_id, live.start, live.size) == (foreign.gpu_instance_id, 4, 4)
    assert (live.mig_uuid is not None) is compute
    assert refused(nvml, node.uuid(0), TWO, 4).kind == "insufficient-resources"
    assert nvml.create(node.uuid(0), TWO, 0).start == 0


def test_holes_among_mig_devices_are_passed_over(node, nvml):
    made = [nvml.create(node.uuid(0), ONE, start) for start in range(4)]
    nvml.destroy(node.uuid(0), made[1].gpu_instance_id)
    assert nvml.live(node.uuid(0)) == (made[0], made[2], made[3])


def test_mig_mode_goes_on_at_once_or_waits_for_a_reset(library, tmp_path):
    hopper = FakeNode.create(tmp_path / "hopper", "dgx-h100", gpus=1)
    with cards_of(hopper, library) as nvml:
        assert nvml.set_mig_mode(hopper.uuid(0), True) is True
        made = nvml.create(hopper.uuid(0), ONE, 0)
        assert refused(nvml, hopper.uuid(0), False, by="set_mig_mode").kind == "in-use"
        nvml.destroy(hopper.uuid(0), made.gpu_instance_id)
        assert nvml.set_mig_mode(hopper.uuid(0), False) is True
    ampere = FakeNode.create(tmp_path / "ampere", "dgx-a100", gpus=1)
    with cards_of(ampere, library) as nvml:
        assert nvml.set_mig_mode(ampere.uuid(0), True) is False
        (card,) = nvml.cards()
        assert (card.mig_enabled, card.mig_pending) == (False, True)


CREATE = """
import sys
from dra.nvml import open_cards
nvml = open_cards()
made = nvml.create(sys.argv[1], 9, 4)
print(made.gpu_instance_id, flush=True)
nvml.destroy(sys.argv[1], made.gpu_instance_id)
"""


@pytest.mark.parametrize(
    ("symbol", "when", "left"),
    [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", "kill", ()),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", "kill-after", ((),)),
        ("nvmlGpuInstanceCreateComputeInstance", "kill", ((),)),
        ("nvmlGpuInstanceCreateComputeInstance", "kill-after", ((0,),)),
        ("nvmlComputeInstanceDestroy", "kill-after", ((),)),
        ("nvmlGpuInstanceDestroy", "kill-after", ()),
    ],
)
def test_a_process_that_dies_leaves_a_legal_card_that_the_next_one_can_mend(
    node, library, symbol, when, left
):
    node.fault(symbol, when)
    uuid = node.uuid(0)
    environment = {**os.environ, **node.environment(library)}
    done = subprocess.run(
        [sys.executable, "-c", CREATE, uuid], env=environment, check=False, timeout=2 * SOON_SECONDS
    )
    assert done.returncode == -9
    assert tuple(instance.compute for instance in node.instances()) == left
    with cards_of(node, library) as nvml:
        for instance in nvml.live(uuid):
            assert (instance.compute_instance_id is None) is (left == ((),))
            nvml.destroy(uuid, instance.gpu_instance_id)
        assert nvml.create(uuid, SEVEN, 0).size == 8


def test_threads_on_two_cards_do_not_disturb_each_other(node, nvml):
    uuids = [node.uuid(0), node.uuid(1)]

    def fill(uuid: str) -> list[LiveInstance]:
        made = [nvml.create(uuid, ONE, start) for start in range(7)]
        for instance in made[::2]:
            nvml.destroy(uuid, instance.gpu_instance_id)
        return made[1::2]

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(nvml.cards) for _ in range(2)]
        kept = list(pool.map(fill, uuids))
        for read in reads:
            assert len(read.result()) == 2
    assert [list(nvml.live(uuid)) for uuid in uuids] == kept


def test_a_slow_card_does_not_hold_up_the_other(node, nvml):
    symbol = "nvmlGpuInstanceCreateComputeInstance"
    node.fault(symbol, "slow", 3000)
    slow = threading.Thread(target=nvml.create, args=(node.uuid(0), ONE, 0))
    slow.start()
    until = time.monotonic() + SOON_SECONDS
    while node.values()["fault.1"] != f"{symbol} 0 0 slow 3000":
        assert time.monotonic() < until, "the slow call was never made"
    nvml.create(node.uuid(1), ONE, 0)
    assert slow.is_alive()
    slow.join()
    assert len(node.instances()) == 2


# Events


def test_an_xid_is_delivered_with_its_card_and_instance(node, nvml):
    assert nvml.wait_event(0) is None
    node.xid(1, 79)
    node.xid(0, 94, gpu_instance=7)
    first, second = nvml.wait_event(SOON_SECONDS), nvml.wait_event(SOON_SECONDS)
    assert (first.gpu_uuid, first.kind, first.code, first.gpu_instance_id) == (node.uuid(1), "xid", 79, None)
    assert (second.gpu_uuid, second.code, second.gpu_instance_id) == (node.uuid(0), 94, 7)
    assert nvml.wait_event(0) is None


def test_a_harmful_event_makes_the_card_unhealthy_until_it_was_reset(node, nvml):
    for code in (79, 31, 94, 79):
        node.xid(1, code)
        assert nvml.wait_event(SOON_SECONDS).code == code
    good, bad = nvml.cards()
    assert good.health.state == "healthy"
    assert bad.health.state == "unhealthy"
    assert bad.health.reasons == ("the driver reported XID 79",)
    node.lose(1)
    assert nvml.cards()[1].health.state == "unhealthy"
    node.find(1)
    assert nvml.cards()[1].health.state == "healthy"


def test_a_waiting_thread_is_woken_by_an_event(node, nvml):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(nvml.wait_event, 30)
        node.event(0, DOUBLE_BIT_ECC)
        assert waiting.result(timeout=SOON_SECONDS).kind == "ecc"


def test_what_happened_before_is_not_delivered(node, library):
    node.xid(0, 79)
    with cards_of(node, library) as nvml:
        assert nvml.wait_event(0) is None


def test_a_card_that_is_lost_is_told_once(node, nvml):
    node.lose(1)
    event = nvml.wait_event(SOON_SECONDS)
    assert (event.gpu_uuid, event.kind) == (node.uuid(1), "lost")
    assert nvml.wait_event(0) is None


def test_cards_without_events_make_the_wait_a_plain_one(node, library):
    for gpu in (0, 1):
        node.unsupported(gpu, "nvmlDeviceGetSupportedEventTypes")
    with cards_of(node, library) as nvml:
        began = time.perf_counter()
        assert nvml.wait_event(0.05) is None
        assert time.perf_counter() - began >= 0.04


def test_a_failing_event_set_is_a_refusal(node, nvml):
    node.fault("nvmlEventSetWait_v2", "error", UNKNOWN)
    assert refused(nvml, 1, by="wait_event").kind == "other"


def test_close_ends_a_wait_soon_and_may_be_called_twice(node, library):
    with pynvml_on(node, library), cards_of(node, library) as nvml, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(nvml.wait_event, 10 * SOON_SECONDS)
        nvml.close()
        assert waiting.result(timeout=SOON_SECONDS) is None
        nvml.close()


def test_an_event_of_a_card_that_is_gone_still_names_it(node, nvml, monkeypatch):
    node.xid(1, 79)
    node.fault("nvmlDeviceGetUUID", "error", GPU_IS_LOST)
    assert nvml.wait_event(SOON_SECONDS).gpu_uuid == node.uuid(1)


def test_events_without_any_card_is_nothing(node, nvml):
    events = Events(nvml._library, {})
    assert events.wait(0) is None
    events.close()


# The fake itself keeps to NVML's contract


def test_the_fake_refuses_structures_of_another_version(node, nvml):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    information = pynvml.c_nvmlGpuInstanceProfileInfo_v2_t()
    information.version = 0x04000098
    function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetGpuInstanceProfileInfoV")
    assert function(handle, 0, ctypes.byref(information)) == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH


def test_the_fakes_answer_before_init_and_after_shutdown_is_uninitialised(node, library):
    with pynvml_on(node, library):
        with pytest.raises(pynvml.NVMLError) as caught:
            pynvml.nvmlDeviceGetCount()
        assert caught.value.value == pynvml.NVML_ERROR_UNINITIALIZED


def test_remaining_capacity_is_what_still_fits(node, nvml):
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, ONE) == 7
    nvml.create(node.uuid(0), FOUR, 0)
    assert pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, ONE) == 3
    assert pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, FOUR) == 0
