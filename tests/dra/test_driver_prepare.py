"""What the driver answers the kubelet: ready, or why not; and what is on cards, disk and in CDI then."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from dra.cards import CardRefused
from dra.driver.sharing import parse_sharing
from dra.driver.view import occupied
from dra.plugin.handler import ClaimRef
from dra.resource_api import ResourceClaim
from tests.dra.memory_cards import POOL, Node, card
from tests.dra.prepared_claims import SMALL, document, ready, refusal
from tests.dra.prepared_claims import node as node


def test_a_mig_claim_makes_the_instance_that_its_device_names(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-1-1g10gb-6")
    (device,) = ready(driver, claim)
    assert (device.request, device.pool, device.device) == ("gpu", POOL, "gpu-1-1g10gb-6")
    assert device.cdi_ids == ("k8s.gpu.slicewise.io/claim=uid-a-gpu-1-1g10gb-6",)
    assert node.live() == {("GPU-1", 1, SMALL, 6)}
    uuid = node.cards.instances["GPU-1"][0].mig_uuid
    found = document(node, claim)
    assert found["kind"] == "k8s.gpu.slicewise.io/claim"
    assert found["devices"][0]["name"] == "uid-a-gpu-1-1g10gb-6"
    assert found["devices"][0]["containerEdits"]["env"] == [f"SLICEWISE_DEVICE_GPU_1_1G10GB_6={uuid}"]
    assert found["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]


def test_preparing_again_gives_the_same_answer_and_makes_nothing(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-4g40gb-0")
    first, before = ready(driver, claim), node.live()
    assert ready(driver, claim) == first
    assert ready(node.driver(), claim) == first
    assert node.live() == before


def test_a_lost_cdi_document_is_written_again(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-4g40gb-0")
    ready(driver, claim)
    before = document(node, claim)
    (path,) = (node.folder / "cdi").iterdir()
    path.unlink()
    ready(driver, claim)
    assert document(node, claim) == before
    path.unlink()
    node.driver()
    assert document(node, claim) == before


def test_a_request_of_a_list_of_alternatives_is_named_without_the_alternative(node):
    claim = node.claims.allocate("a", "gpu-2", request="gpu/second")
    assert ready(node.driver(), claim)[0].request == "gpu"


def test_giving_back_takes_the_instance_and_the_document_away_and_may_be_repeated(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-0-4g40gb-0")
    ready(driver, claim)
    assert driver.unprepare([claim]) == {claim.uid: ""}
    assert not node.live()
    assert not node.documents()
    assert driver.unprepare([claim]) == {claim.uid: ""}


def test_giving_back_works_when_the_claim_object_is_gone_and_the_api_server_away(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(driver, claim)
    node.claims.objects.clear()
    node.claims.away = True
    assert node.driver().unprepare([claim]) == {claim.uid: ""}
    assert not node.live()


def test_a_claim_that_is_ready_needs_no_api_server(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    first = ready(driver, claim)
    node.claims.away = True
    assert ready(node.driver(), claim) == first
    assert "connection refused" in refusal(driver, ClaimRef("default", "b", "uid-b"))


def test_an_empty_request_is_answered(node):
    driver = node.driver()
    assert driver.prepare([]) == {}
    assert driver.unprepare([]) == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpu-0-1g10gb-0", "gpu-0-4g40gb-0"),
        ("gpu-0-1g10gb-6", "gpu-0-1g20gb-6"),
        ("gpu-2", "gpu-2"),
        ("gpu-0-7g80gb-0", "gpu-0-1g10gb-3"),
    ],
)
def test_a_device_that_overlaps_anothers_is_refused_until_that_is_given_back(node, first, second):
    driver = node.driver()
    one, two = node.claims.allocate("a", first), node.claims.allocate("b", second)
    ready(driver, one)
    before = node.live()
    words = refusal(driver, two)
    assert "default/a" in words
    assert second in words
    assert node.live() == before
    assert node.documents() == {one.uid}
    driver.unprepare([one])
    ready(driver, two)


def test_one_claim_with_two_overlapping_devices_is_refused(node):
    claim = node.claims.allocate("a", "gpu-0-1g10gb-0", "gpu-0-4g40gb-0")
    assert "same claim" in refusal(node.driver(), claim)
    assert not node.live()


def test_shares_of_one_gpu_go_to_several_claims(tmp_path):
    sharing = parse_sharing({"gpus": [{"index": 0, "mode": "mps", "shares": 4}]}, "test")
    node = Node(tmp_path, card(0, mig=False), sharing=sharing)
    driver = node.driver()
    one = node.claims.allocate("a", "gpu-0", shareID="s1", consumedCapacity={"share": "1", "memory": "40Gi"})
    two = node.claims.allocate("b", "gpu-0", shareID="s2", consumedCapacity={"share": "1"})
    (share,) = ready(driver, one)
    assert share.share_id == "s1"
    assert share.cdi_ids == ("k8s.gpu.slicewise.io/claim=uid-a-gpu-0-s1",)
    ready(driver, two)
    whole = node.claims.allocate("c", "gpu-0")
    assert "default/a" in refusal(driver, whole)
    many = node.claims.allocate("d", "gpu-0", shareID="s4", consumedCapacity={"share": "3"})
    assert "5 shares would be taken, it has 4" in refusal(driver, many)
    env = document(node, one)["devices"][0]["containerEdits"]["env"]
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=40960M" in env
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50" in env
    assert document(node, two)["devices"][0]["containerEdits"]["env"][2:] == [
        f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0={81559 // 4}M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25",
    ]


def test_a_foreign_instance_is_left_alone_and_its_place_refused(node):
    node.cards.put("GPU-0", SMALL, 2)
    driver = node.driver()
    before = node.live()
    words = refusal(driver, node.claims.allocate("a", "gpu-0-4g40gb-0"))
    assert "not made by this driver" in words
    assert "units 2 to 2" in words
    assert node.live() == before
    assert [i.start for i in driver.view.foreign] == [2]
    assert driver.view.hardware.gpus[0].withheld == 0b100
    ready(driver, node.claims.allocate("b", "gpu-0-3g40gb-4"))
    assert before < node.live()


def test_an_instance_made_by_others_at_a_place_that_we_announced_is_not_taken_for_ours(node):
    # The announcement says what was on the card before: a foreign instance with the same id later is new, but
    # one that was there is never ours.
    node.cards.put("GPU-0", SMALL, 6)
    driver = node.driver()
    refusal(driver, node.claims.allocate("a", "gpu-0-1g10gb-6"))
    assert driver.unprepare([ClaimRef("default", "a", "uid-a")]) == {"uid-a": ""}
    assert node.live() == {("GPU-0", 1, SMALL, 6)}


def test_an_instance_in_use_stays_held_and_is_destroyed_by_the_next_request(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(driver, claim)
    node.cards.refuse["destroy"] = CardRefused("nvmlGpuInstanceDestroy", "in-use", "a process runs")
    assert "in-use" in driver.unprepare([claim])[claim.uid]
    assert "default/a" in refusal(driver, node.claims.allocate("b", "gpu-0-1g10gb-6"))
    node.driver()  # a restart does not help, and does no harm
    assert len(node.live()) == 1
    node.cards.refuse.clear()
    assert driver.unprepare([claim])[claim.uid] == ""
    assert not node.live()


def test_a_card_that_refuses_to_make_an_instance_leaves_nothing_behind(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    node.cards.refuse["create"] = CardRefused(
        "nvmlDeviceCreateGpuInstanceWithPlacement", "no-permission", "root?"
    )
    assert "no-permission" in refusal(driver, claim)
    assert not driver.view.checkpoint.claims
    assert not node.documents()


def test_half_of_a_claim_that_fails_is_taken_back(node):
    node.cards.known[1] = dataclasses.replace(node.cards.known[1])
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-1-1g10gb-6")
    create = node.cards.create

    def second_fails(gpu_uuid, profile_id, start):
        if gpu_uuid == "GPU-1":
            raise CardRefused("create", "insufficient-resources", "full")
        return create(gpu_uuid, profile_id, start)

    node.cards.create = second_fails
    assert "insufficient-resources" in refusal(driver, claim)
    assert not node.live()
    assert not driver.view.checkpoint.claims


def test_a_missing_device_node_fails_the_claim_and_takes_the_instance_back(node):
    node.options = {"driver_root": node.folder, "proc_root": node.folder}
    words = refusal(node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6"))
    assert str(node.folder / "dev" / "nvidiactl") in words
    assert not node.live()


def test_a_claim_allocated_anew_elsewhere_gives_the_old_place_back_first(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(driver, claim)
    ready(driver, node.claims.allocate("a", "gpu-1-1g10gb-6"))
    assert node.live() == {("GPU-1", 1, SMALL, 6)}
    assert set(driver.view.checkpoint.claims) == {claim.uid}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": "other"}, "expected UID uid-a"),
        ({"pool": "slicewise/node-2"}, "pool slicewise/node-2"),
        ({"device": "gpu-9"}, "gpu-9"),
    ],
)
def test_a_claim_that_does_not_fit_is_refused_with_what_was_found(node, change, words):
    driver = node.driver()
    uid = change.pop("uid", None)
    node.claims.allocate("a", change.pop("device", "gpu-2"), uid=uid, **change)
    assert words in refusal(driver, ClaimRef("default", "a", "uid-a"))


def test_parameters_that_nobody_reads_are_refused_rather_than_ignored(node):
    claim = node.claims.allocate("a", "gpu-2")
    found = node.claims.objects["a"]
    config = {"source": "FromClaim", "opaque": {"driver": "gpu.slicewise.io", "parameters": {"x": 1}}}
    document = msgspec.to_builtins(found)
    document["status"]["allocation"]["devices"]["config"] = [config]
    node.claims.objects["a"] = msgspec.convert(document, ResourceClaim)
    assert "takes no parameters" in refusal(node.driver(), claim)


def test_a_claim_without_our_devices_is_ready_with_none(node):
    claim = node.claims.allocate("a", "nic-0", driver="nic.example.com")
    assert ready(node.driver(), claim) == ()


def test_admin_access_holds_nothing(node):
    driver = node.driver()
    ready(driver, node.claims.allocate("a", "gpu-2"))
    watching = node.claims.allocate("watch", "gpu-2", adminAccess=True)
    ready(driver, watching)
    none = node.claims.allocate("none", "gpu-0-1g10gb-6", adminAccess=True)
    assert "admin access needs an instance" in refusal(driver, none)
    ready(driver, node.claims.allocate("b", "gpu-0-1g10gb-6"))
    ready(driver, none)
    driver.unprepare([none, watching])
    assert len(node.live()) == 1


def test_two_drivers_of_one_node_see_each_others_work(node):
    old, new = node.driver(), node.driver()
    claim = node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(old, claim)
    assert "default/a" in refusal(new, node.claims.allocate("b", "gpu-0-1g20gb-6"))
    assert new.unprepare([claim])[claim.uid] == ""
    ready(old, node.claims.allocate("b", "gpu-0-1g20gb-6"))


def test_occupied_units_are_those_of_claims_foreign_instances_and_allocations(node):
    node.cards.put("GPU-1", SMALL, 0)
    driver = node.driver()
    ready(driver, node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-2"))
    masks = occupied(driver.view, {"GPU-0": 0b1111})
    full = driver.view.hardware.gpus[2].full_mask
    assert masks == {"GPU-0": 0b1001111, "GPU-1": 1, "GPU-2": full, "GPU-3": 0}
