"""The fake NVML inside the test process: pynvml as it is, on our library instead of the system's."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pynvml

from dra.cards import NoDriver
from dra.nvml import SYSTEM_FILES, Nvml, open_cards
from dra.nvml_library import Record
from tests.fake_nvml.state import FakeNode


@contextmanager
def pynvml_on(node: FakeNode, library: Path) -> Iterator[None]:
    """pynvml and ``FAKE_NVML_STATE`` point to ``node`` inside the block."""
    before = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache), os.environ.get("FAKE_NVML_STATE")
    pynvml.nvmlLib = ctypes.CDLL(str(library))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    os.environ["FAKE_NVML_STATE"] = str(node.path)
    try:
        yield
    finally:
        pynvml.nvmlLib = before[0]
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(before[1])
        if before[2] is None:
            del os.environ["FAKE_NVML_STATE"]
        else:
            os.environ["FAKE_NVML_STATE"] = before[2]


@contextmanager
def cards_of(
    node: FakeNode, library: Path, *, system_files: Path = SYSTEM_FILES, record: Record | None = None
) -> Iterator[Nvml]:
    """Our ``Cards`` on ``node``, closed at the end."""
    with pynvml_on(node, library):
        cards = open_cards(system_files=system_files, record=record)
        assert not isinstance(cards, NoDriver), cards
        try:
            yield cards
        finally:
            cards.close()
