"""A fake node made from a capture of real cards (``slicewise-node discover --capture``).

Discovery on such a node must tell what it told on the hardware, so that a capture is a fixture: the code is
tested on cards that nobody has at hand. Facts that discovery never asks are absent, and answered with "not
supported".

Run ``python -m tests.fake_nvml.captured A.json B.json`` to see in which calls two captures answer in another
way (an error against an answer, or another error); values are not compared, as no two cards have the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.fake_nvml.state import FakeNode

_NUMBERS = {
    "nvmlDeviceGetMinorNumber": "minor",
    "nvmlDeviceGetNumaNodeId": "numa",
    "nvmlDeviceGetModuleId": "module",
    "nvmlDeviceGetArchitecture": "architecture",
    "nvmlDeviceGetPowerUsage": "power_milliwatts",
    "nvmlDeviceGetPowerManagementLimit": "power_limit_milliwatts",
    "nvmlDeviceGetTotalEnergyConsumption": "energy_millijoules",
    "nvmlDeviceGetSupportedEventTypes": "events",
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetSerial": "serial",
}
_SYSTEM = {
    "nvmlSystemGetDriverVersion": "driver",
    "nvmlSystemGetNVMLVersion": "nvml",
    "nvmlSystemGetCudaDriverVersion": "cuda",
    "nvmlDeviceGetCount": "gpus",
}
_ENGINES = (
    "multiprocessorCount",
    "copyEngineCount",
    "decoderCount",
    "encoderCount",
    "jpegCount",
    "ofaCount",
)
INVALID_ARGUMENT = 2


def node_from_capture(path: Path, capture: Mapping[str, Any]) -> FakeNode:
    """A fake node in ``path`` that answers as the captured cards did."""
    values = {"profile": "captured", "privileged": "1"}
    places = {
        (call["arguments"][0], call["arguments"][1]): call["arguments"][2]
        for call in capture["calls"]
        if call["call"] == "nvmlDeviceGetGpuInstancePossiblePlacements" and call["arguments"][2]
    }
    for call in capture["calls"]:
        values |= {key: str(value) for key, value in _facts(call, places)}
    values |= _instances(capture, values)
    node = FakeNode(path)
    node.write(values)
    return node


def _instances(capture: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """GPU instances by what NVML told of each, compute instances by the MIG devices."""
    found: dict[str, str] = {}
    slices: dict[str, str] = {}
    devices: dict[str, dict[str, Any]] = {}
    for call in capture["calls"]:
        answer = call.get("answer")
        if call["call"] == "nvmlGpuInstanceGetInfo" and answer is not None:
            on = answer["device"].replace(" ", ".")
            for key, value in values.items():
                if key.startswith(f"{on}.profile.") and int(value.split()[0]) == answer["profileId"]:
                    place = answer["placement"]
                    found[f"{on}.gi.{answer['id']}"] = (
                        f"{key.rpartition('.')[2]} {place['start']} {place['size']}"
                    )
                    slices[f"{on}.{answer['id']}"] = value.split()[1]
        elif answer is not None and call["arguments"] and str(call["arguments"][0]).startswith("mig "):
            devices.setdefault(call["arguments"][0], {})[call["call"]] = answer
    for name, told in devices.items():
        on = name.partition(" of ")[2].replace(" ", ".")
        owner = told["nvmlDeviceGetGpuInstanceId"]
        compute = told["nvmlDeviceGetComputeInstanceId"]
        index, uuid = name.split()[1], told["nvmlDeviceGetUUID"]
        found[f"{on}.ci.{owner}.{compute}"] = f"0 0 {slices[f'{on}.{owner}']} {index} {uuid}"
    return found


def _facts(
    call: Mapping[str, Any], places: Mapping[tuple[str, int], list[dict[str, int]]]
) -> Iterator[tuple[str, object]]:
    name, arguments, answer = call["call"], call["arguments"], call.get("answer")
    if name in _SYSTEM and answer is not None:
        yield _SYSTEM[name], answer
    gpu = str(arguments[0]) if arguments else ""
    if not gpu.startswith("gpu "):
        return
    on = gpu.replace(" ", ".")
    if name == "nvmlDeviceGetNvLinkState" and call.get("error") == INVALID_ARGUMENT:
        yield f"{on}.links", arguments[1]
    if answer is None:
        return
    if name in _NUMBERS:
        yield f"{on}.{_NUMBERS[name]}", answer
    elif name == "nvmlDeviceGetPciInfo":
        yield f"{on}.pci", answer["busId"]
        yield f"{on}.pci_device_id", answer["pciDeviceId"]
    elif name == "nvmlDeviceGetMemoryInfo":
        yield f"{on}.memory_mib", answer["total"] >> 20
    elif name == "nvmlDeviceGetCudaComputeCapability":
        yield f"{on}.compute_capability", f"{answer[0]}.{answer[1]}"
    elif name == "nvmlDeviceGetMigMode":
        yield f"{on}.mig_current", answer[0]
        yield f"{on}.mig_pending", answer[1]
    elif name == "nvmlDeviceGetTotalEccErrors":
        yield f"{on}.ecc.{arguments[1]}.{arguments[2]}", answer
    elif name == "nvmlDeviceGetRemappedRows":
        yield f"{on}.remapped_rows", " ".join(map(str, answer))
    elif name == "nvmlDeviceGetGpuInstanceProfileInfo":
        yield from _profile(on, arguments[1], answer, places.get((gpu, answer["id"]), []))
    elif name == "nvmlDeviceGetTopologyCommonAncestor":
        yield f"{on}.ancestor.{arguments[1].removeprefix('gpu ')}", answer
    elif name == "nvmlDeviceGetP2PStatus":
        yield f"{on}.p2p.{arguments[1].removeprefix('gpu ')}", answer
    elif name == "nvmlDeviceGetGpuFabricInfoV":
        told = arguments[1]
        cluster = bytes(told["clusterUuid"]).hex()
        yield f"{on}.fabric", f"{told['state']} {cluster} {told['cliqueId']} {told['healthMask']}"
    elif name == "nvmlDeviceGetFieldValues" and answer[0]["nvmlReturn"] == 0:
        yield f"{on}.link_megabytes_per_second", answer[0]["value"]["uiVal"]
    else:
        yield from _link(on, name, arguments, answer)


def _link(on: str, name: str, arguments: list[Any], answer: Any) -> Iterator[tuple[str, object]]:
    """Calls on one link follow each other: state, type, and where it ends."""
    if name == "nvmlDeviceGetNvLinkState":
        yield f"{on}.link.{arguments[1]}", f"{answer} 255 none"
    elif name == "nvmlDeviceGetNvLinkRemoteDeviceType":
        yield f"{on}.link.{arguments[1]}", f"1 {answer} none"
    elif name == "nvmlDeviceGetNvLinkRemotePciInfo":
        yield f"{on}.link.{arguments[1]}", f"1 0 {answer['busId']}"
    elif name == "nvmlDeviceGetNvLinkVersion":
        yield f"{on}.link_version", answer


def _profile(
    on: str, number: int, told: Mapping[str, Any], places: list[dict[str, int]]
) -> Iterator[tuple[str, object]]:
    if not places:
        return
    name = told.get("name", "").removeprefix("MIG ")
    if not name:
        yield "profiles_without_names", 1
    engines = [told[kind] for kind in _ENGINES]
    numbers = [told["id"], told["sliceCount"], told["instanceCount"], *engines, told["memorySizeMB"]]
    starts = ",".join(str(place["start"]) for place in places)
    yield (
        f"{on}.profile.{number}",
        f"{' '.join(map(str, numbers))} {places[0]['size']} {starts} {name or 'unnamed'}",
    )


def answers(capture: Mapping[str, Any]) -> dict[tuple[str, str], int | None]:
    """For each call with its plain arguments: NVML's error code, or None where it answered."""
    found: dict[tuple[str, str], int | None] = {}
    for call in capture["calls"]:
        plain = [argument for argument in call["arguments"] if isinstance(argument, str | int)]
        found.setdefault((call["call"], str(plain)), call.get("error"))
    return found


def main(arguments: list[str]) -> int:
    """Print the calls that two captures answer in another way; 1 where there are any."""
    if len(arguments) != 2:
        print("usage: python -m tests.fake_nvml.captured A.json B.json", file=sys.stderr)
        return 2
    first, second = (answers(json.loads(Path(file).read_text())) for file in arguments)
    different = [key for key in first if key in second and first[key] != second[key]]
    for name, plain in different:
        words = [
            "an answer" if code is None else f"error {code}"
            for code in (first[name, plain], second[name, plain])
        ]
        print(f"{name}{plain}: {words[0]} against {words[1]}")
    print(f"{len(first.keys() & second.keys())} calls in both, {len(different)} answered in another way")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
