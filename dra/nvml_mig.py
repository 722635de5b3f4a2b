"""MIG through NVML for one card: what it offers, what exists, make one, take one away.

Profiles are found by counting their numbers up until NVML says that there is none (``nvml.h`` promises that);
an unsupported number is skipped. Placements need root; without it the catalogue's stand in.

An instance here is a GPU instance with the compute instance that fills it: made together, and undone together
when the second step fails, so that a caller never finds half of one of its own. A process that dies between
the steps does leave a half: ``live`` shows it with no compute instance.
"""

from __future__ import annotations

from collections.abc import Iterator

from dra.cards import CardRefused, InstanceProfile, LiveInstance
from dra.catalog import UnknownModel, find_model
from dra.nvml_library import Handle, Library, by_reference, instances, placement, placements, unsigned
from dra.nvml_names import profile_name

MOST_PROFILES = 64
MOST_COMPUTE_PROFILES = 32
MOST_COMPUTE_INSTANCES = 8
_SHARED_ENGINES = 0


def read_profiles(
    library: Library, handle: Handle, product: str, card_mib: int | None
) -> tuple[tuple[InstanceProfile, ...], bool]:
    """The profiles in NVML's order, and whether the card itself told their placements."""
    found: list[InstanceProfile] = []
    told = True
    for number in range(MOST_PROFILES):
        try:
            information = _profile_information(library, handle, number)
        except CardRefused as refusal:
            if refusal.kind == "lost":
                raise
            if refusal.kind == "invalid":
                break
            continue
        name = profile_name(
            _text(getattr(information, "name", "")),
            number,
            information.sliceCount,
            information.memorySizeMB,
            card_mib,
        )
        places = _placements(library, handle, information.id)
        if places is None:
            told = False
            places = _from_catalogue(product, name, information.id)
        if places is None:
            continue  # nobody knows where it may lie: it cannot be offered
        size, starts = places
        found.append(
            InstanceProfile(
                name=name,
                profile_id=information.id,
                size=size,
                starts=starts,
                compute_slices=information.sliceCount,
                memory_mib=information.memorySizeMB,
                max_instances=information.instanceCount,
                multiprocessors=information.multiprocessorCount,
                copy_engines=information.copyEngineCount,
                decoders=information.decoderCount,
                encoders=information.encoderCount,
                jpeg_engines=information.jpegCount,
                ofa_engines=information.ofaCount,
            )
        )
    return tuple(found), told


def _profile_information(library: Library, handle: Handle, number: int) -> Handle:
    """The newest structure that driver and pynvml share: only the second has the profile's name."""
    try:
        return library.call("nvmlDeviceGetGpuInstanceProfileInfo", handle, number, 2)
    except CardRefused as refusal:
        if refusal.kind != "not-supported":
            raise
        return library.call("nvmlDeviceGetGpuInstanceProfileInfo", handle, number, 1)


def _placements(library: Library, handle: Handle, profile_id: int) -> tuple[int, tuple[int, ...]] | None:
    name = "nvmlDeviceGetGpuInstancePossiblePlacements"
    count = unsigned()
    if library.ask(name, handle, profile_id, None, by_reference(count)) is None or not count.value:
        return None
    room = placements(count.value)
    if library.ask(name, handle, profile_id, room, by_reference(count)) is None:
        return None
    size = int(room[0].size)
    return size, tuple(sorted(int(place.start) for place in room[: count.value] if place.size == size))


def _from_catalogue(product: str, name: str, profile_id: int) -> tuple[int, tuple[int, ...]] | None:
    model = find_model(product)
    known = None if isinstance(model, UnknownModel) else model.profile(name)
    if known is None or known.profile_id not in (None, profile_id):
        return None
    return known.size, known.starts


def read_live(
    library: Library, handle: Handle, gpu_uuid: str, profiles: tuple[InstanceProfile, ...]
) -> tuple[LiveInstance, ...]:
    """What exists on a card in MIG mode, by start. Raises CardRefused, "no-permission" without root."""
    compute = _compute_instances(library, handle)
    found: list[LiveInstance] = []
    for profile in profiles:
        for instance in _gpu_instances(library, handle, profile):
            try:
                told = library.call("nvmlGpuInstanceGetInfo", instance)
            except CardRefused as refusal:
                if refusal.kind == "invalid":
                    continue  # taken away since it was listed
                raise
            found.append(_live(gpu_uuid, told, compute.get(told.id, {})))
    return tuple(sorted(found, key=lambda instance: instance.start))


def _live(gpu_uuid: str, told: Handle, compute: dict[int, str | None]) -> LiveInstance:
    ids = sorted(compute)
    return LiveInstance(
        gpu_uuid=gpu_uuid,
        gpu_instance_id=int(told.id),
        compute_instance_id=ids[0] if ids else None,
        profile_id=int(told.profileId),
        start=int(told.placement.start),
        size=int(told.placement.size),
        mig_uuid=compute[ids[0]] if ids else None,
        others=tuple(ids[1:]),
    )


def _gpu_instances(library: Library, handle: Handle, profile: InstanceProfile) -> Iterator[Handle]:
    count = unsigned()
    room = instances(max(1, profile.max_instances))
    try:
        library.call("nvmlDeviceGetGpuInstances", handle, profile.profile_id, room, by_reference(count))
    except CardRefused as refusal:
        if refusal.kind == "not-supported":
            return  # MIG mode has just been switched off, or the profile is not of this mode
        raise
    yield from room[: count.value]


def _compute_instances(library: Library, handle: Handle) -> dict[int, dict[int, str | None]]:
    """UUIDs of MIG devices by GPU-instance id, then compute-instance id."""
    found: dict[int, dict[int, str | None]] = {}
    for index in range(library.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        device = library.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if device is None:
            continue  # a hole: indices are not closed up
        gpu_instance = library.ask("nvmlDeviceGetGpuInstanceId", device)
        compute_instance = library.ask("nvmlDeviceGetComputeInstanceId", device)
        if gpu_instance is not None and compute_instance is not None:
            uuid = library.ask("nvmlDeviceGetUUID", device)
            found.setdefault(int(gpu_instance), {})[int(compute_instance)] = uuid
    return found


def create(
    library: Library, handle: Handle, gpu_uuid: str, profile: InstanceProfile, start: int
) -> LiveInstance:
    """Make a GPU instance and its full compute instance, or leave nothing. Raises CardRefused."""
    wanted = placement(start, profile.size)
    name = "nvmlDeviceCreateGpuInstanceWithPlacement"
    instance = library.call(name, handle, profile.profile_id, by_reference(wanted))
    made = None
    try:
        made = library.call(
            "nvmlGpuInstanceCreateComputeInstance", instance, _full_compute_profile(library, instance)
        )
        told = library.call("nvmlGpuInstanceGetInfo", instance)
        return _live(gpu_uuid, told, _compute_instances(library, handle).get(told.id, {}))
    except CardRefused as refusal:
        raise _undone(library, instance, made, refusal) from None


def _undone(library: Library, instance: Handle, made: Handle | None, refusal: CardRefused) -> CardRefused:
    """Take the half-made instance away; the refusal to raise says when even that failed."""
    try:
        if made is not None:
            library.call("nvmlComputeInstanceDestroy", made)
        library.call("nvmlGpuInstanceDestroy", instance)
    except CardRefused as second:
        detail = f"{refusal.detail}; the half-made instance stays, {second.call}: {second.detail}"
        return CardRefused(refusal.call, refusal.kind, detail)
    return refusal


def _full_compute_profile(library: Library, instance: Handle) -> int:
    """Id of the compute profile with the most slices, the first of equals (the plain one)."""
    best: tuple[int, int] | None = None
    for number in range(MOST_COMPUTE_PROFILES):
        try:
            told = library.call(
                "nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, number, _SHARED_ENGINES, 1
            )
        except CardRefused as refusal:
            if refusal.kind == "invalid":
                break
            if refusal.kind != "not-supported":
                raise
            continue
        if best is None or told.sliceCount > best[0]:
            best = (int(told.sliceCount), int(told.id))
    if best is None:
        call = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
        raise CardRefused(call, "not-supported", "the GPU instance offers no compute-instance profile")
    return best[1]


def destroy(library: Library, handle: Handle, gpu_instance_id: int) -> None:
    """Take away every compute instance of a GPU instance, then itself. Raises CardRefused."""
    instance = library.call("nvmlDeviceGetGpuInstanceById", handle, gpu_instance_id)
    for number in range(MOST_COMPUTE_INSTANCES):
        try:
            compute = library.call("nvmlGpuInstanceGetComputeInstanceById", instance, number)
        except CardRefused as refusal:
            if refusal.kind in ("not-found", "invalid"):
                continue
            raise
        library.call("nvmlComputeInstanceDestroy", compute)
    library.call("nvmlGpuInstanceDestroy", instance)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
