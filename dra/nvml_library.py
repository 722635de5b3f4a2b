"""NVML by call name: the only importer of pynvml.

``call`` answers or raises ``CardRefused`` with a kind that a program can decide on. ``ask`` is for what a
card may not support: it answers None, and raises only for a lost card, about which nothing further can be
read. A ``record`` is told of every call, with what it answered or filled in and how long it took.

Source: nvidia-ml-py (module ``pynvml``) and NVIDIA's ``nvml.h``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

from dra.cards import CardRefused, NoDriver, RefusalKind

Handle = Any
"""What pynvml gives for a device, a MIG device, an instance or an event set."""

Record = Callable[[str, Sequence[object], object, float], None]
"""Called after each call with its name, its arguments, its answer or ``Refused``, and its seconds."""


@dataclass(frozen=True, slots=True)
class Refused:
    """In a record: the call failed with this NVML error."""

    code: int


_KINDS: dict[int, RefusalKind] = {
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "invalid",
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not-supported",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not-supported",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not-supported",
    pynvml.NVML_ERROR_DEPRECATED: "not-supported",
    pynvml.NVML_ERROR_NO_PERMISSION: "no-permission",
    pynvml.NVML_ERROR_NOT_FOUND: "not-found",
    pynvml.NVML_ERROR_GPU_NOT_FOUND: "not-found",
    pynvml.NVML_ERROR_GPU_IS_LOST: "lost",
    pynvml.NVML_ERROR_IN_USE: "in-use",
    pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES: "insufficient-resources",
    pynvml.NVML_ERROR_TIMEOUT: "timeout",
}


class Library:
    """An initialised NVML; made by ``open_library``, ended by ``close``."""

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._open = True

    def call(self, name: str, *arguments: object) -> Any:
        """The answer of one call. Raises CardRefused when NVML or the installed pynvml refuses it."""
        function = getattr(pynvml, name, None)
        if function is None:
            raise CardRefused(name, "not-supported", "the installed nvidia-ml-py does not know this call")
        began = time.perf_counter()
        try:
            answer = function(*arguments)
        except pynvml.NVMLError as error:
            code = int(getattr(error, "value", pynvml.NVML_ERROR_UNKNOWN))
            self._write(name, arguments, Refused(code), began)
            raise CardRefused(name, _KINDS.get(code, "other"), f"NVML error {code}, {error}") from None
        self._write(name, arguments, answer, began)
        return answer

    def ask(self, name: str, *arguments: object) -> Any | None:
        """The answer, or None where it is not told. Raises CardRefused only with kind "lost"."""
        try:
            return self.call(name, *arguments)
        except CardRefused as refusal:
            if refusal.kind == "lost":
                raise
            return None

    def close(self) -> None:
        """End the use of NVML; a second time does nothing."""
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                return  # nothing is left to let go of

    def _write(self, name: str, arguments: Sequence[object], answer: object, began: float) -> None:
        if self._record is not None:
            self._record(name, arguments, answer, time.perf_counter() - began)


def open_library(record: Record | None = None) -> Library | NoDriver:
    """Start NVML; ``NoDriver`` with the reason where that cannot be."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return NoDriver(f"NVML could not be started: {error}")
    return Library(record)


def by_reference(value: object) -> Any:
    """What C wants for a structure that it reads or fills."""
    return ctypes.byref(value)  # type: ignore[arg-type]  # every caller hands a ctypes object


def unsigned() -> Any:
    """A fresh unsigned integer for a count."""
    return ctypes.c_uint()


def placement(start: int, size: int) -> Any:
    """One GPU-instance placement."""
    return pynvml.c_nvmlGpuInstancePlacement_t(start, size)


def placements(count: int) -> Any:
    """Room for ``count`` GPU-instance placements."""
    return (pynvml.c_nvmlGpuInstancePlacement_t * count)()


def instances(count: int) -> Any:
    """Room for ``count`` GPU-instance handles."""
    return (pynvml.c_nvmlGpuInstance_t * count)()


def fabric_versions() -> tuple[Any, ...]:
    """Fabric-information structures to try, newest first."""
    known = (getattr(pynvml, f"c_nvmlGpuFabricInfo_v{version}_t", None) for version in (3, 2))
    return tuple(structure() for structure in known if structure is not None)


def address_of(handle: Handle) -> int | None:
    """What tells handles of one card or instance from those of another; None for what is no handle."""
    return ctypes.cast(handle, ctypes.c_void_p).value if isinstance(handle, ctypes._Pointer) else None


def plain(value: object) -> object:
    """A ctypes value as plain Python; a handle becomes ``HandleAt``.

    Of a reference the value that it points to is taken, so after the call it shows what NVML filled in.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, ctypes.Structure | ctypes.Union):
        # A field may be declared without a name that pynvml itself uses; take what the type declares.
        return {field[0]: plain(getattr(value, field[0])) for field in type(value)._fields_}
    if isinstance(value, ctypes.Array | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, ctypes._SimpleCData):
        return plain(value.value)
    referred = getattr(value, "_obj", None)
    return plain(referred) if referred is not None else HandleAt(address_of(value))


@dataclass(frozen=True, slots=True)
class HandleAt:
    """Stands for a handle in what ``plain`` gives."""

    address: int | None
