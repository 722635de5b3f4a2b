"""What one pod's own page of metrics says about its load, without Prometheus between.

Reads the text exposition format (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4, and the
same lines of OpenMetrics): only the lines of the wanted names are looked at, since a page of a model server
has thousands of lines and is read every second or two. Only gauges can be read off one page; a server whose
load is the rate of a counter (Little's law) is left to Prometheus, and so is one that tells of other pods.

Pure: bytes in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from metrics.samples import NoData
from metrics.servers import PRESETS, ServerPreset


@dataclass(frozen=True, slots=True)
class PageLoad:
    """Requests in one pod; ``waiting`` is the part of them in its queue, None where the server does not
    tell.
    """

    in_flight: float
    waiting: float | None


def readable(preset: ServerPreset) -> bool:
    """Whether the load of a pod of this server can be read off its own page."""
    gauges = bool(preset.in_flight or preset.in_flight_where_told)
    return gauges and not preset.pod_label and not preset.matchers


def recognise(page: bytes, presets: Iterable[ServerPreset] = tuple(PRESETS.values())) -> ServerPreset | None:
    """The first preset whose marks the page shows, in the order of the registry; None without any."""
    text = b"\n" + page
    for preset in presets:
        wanted = [matcher.encode() for matcher in _each(preset.matchers)]
        marks = (line for name in preset.signature for line in _lines(text, name))
        if any(all(one in line for one in wanted) for line in marks):
            return preset
    return None


def load_on_page(preset: ServerPreset, page: bytes) -> PageLoad | NoData:
    """The requests that the page tells of; NoData when a gauge is missing or is not a number."""
    if not readable(preset):
        return NoData(f"server {preset.name} has no gauge of requests in flight on its page", "misconfigured")
    text = b"\n" + page
    if preset.in_flight_where_told:
        told = [_newest(text, (name,), preset.per_pod) for name in preset.in_flight_where_told]
        found = [value for value in told if value is not None]
        in_flight = sum(found) if found else None
    else:
        parts = [_newest(text, names, preset.per_pod) for names in preset.in_flight]
        # One that is missing would make the rest too little.
        in_flight = None if None in parts else sum(value for value in parts if value is not None)
    if in_flight is None or not math.isfinite(in_flight):
        return NoData(f"the page lacks a gauge of server {preset.name}", "empty")
    waiting = None
    if preset.tells_waiting_of_in_flight:
        waiting = _newest(text, preset.waiting, preset.per_pod)
        if waiting is None and preset.in_flight_where_told:
            waiting = 0.0
    return PageLoad(in_flight, waiting)


def _each(matchers: str) -> list[str]:
    """Matchers as a page spells labels: those of equality, which are all that presets state."""
    return [part.strip() for part in matchers.split(",") if part.strip()]


def _newest(text: bytes, names: Iterable[str], per_pod: str) -> float | None:
    """The value by the first of ``names`` that the page has: its series added, or the largest."""
    for name in names:
        values = [value for line in _lines(text, name) if (value := _value(line)) is not None]
        if values:
            return max(values) if per_pod == "max" else sum(values)
    return None


def _lines(text: bytes, name: str) -> Iterator[bytes]:
    """What follows the name on each of its lines: labels, value and perhaps a time."""
    wanted = b"\n" + name.encode()
    at = text.find(wanted)
    while at >= 0:
        begin = at + len(wanted)
        end = text.find(b"\n", begin)
        end = len(text) if end < 0 else end
        if text[begin : begin + 1] in (b"{", b" ", b"\t"):
            yield text[begin:end]
        at = text.find(wanted, end)


def _value(rest: bytes) -> float | None:
    # Label values may hold braces and blanks, what follows them may not; an exemplar never follows a gauge.
    fields = rest.rpartition(b"}")[2].split()
    try:
        value = float(fields[0]) if fields else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
