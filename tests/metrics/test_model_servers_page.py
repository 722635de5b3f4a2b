"""The documentation's table of model servers says what the presets say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.servers import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "model-servers.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (?:(\d+) `([^`]+)`|as annotated) \| (.+) \|$", re.MULTILINE)


def test_every_server_has_one_row():
    assert [row[0] for row in ROW.findall(PAGE.read_text())] == list(PRESETS)


@pytest.mark.parametrize("row", ROW.findall(PAGE.read_text()), ids=lambda row: row[0])
def test_a_row_tells_where_and_by_which_names_the_load_is_read(row):
    name, port, path, load = row
    preset = PRESETS[name]
    assert port == str(preset.port or "")
    assert path == (preset.path if preset.port else "")
    gauges = [names[0] for names in preset.in_flight] or list(preset.in_flight_where_told)
    busy = preset.busy_time.names if preset.busy_time is not None else ()
    assert re.findall(r"`([^`]+)`", load) == (gauges or list(busy))
    assert load.startswith("time spent") == (not gauges)
