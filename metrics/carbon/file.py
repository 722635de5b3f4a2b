"""Hourly intensities from a CSV file: ``time_utc`` (ISO 8601, start of the hour), then one column a zone.

The form is that of ``data/hourly-sample.csv`` beside this module. Rows must follow each other at one hour; an
empty cell is an absence. The file is read again when it changes on disk, so that a job may keep it current.

Without a clock start, the file's times are wall-clock times and outside them there is no data. With one, that
instant of the file counts as the moment ``started_at_seconds`` and the file repeats for ever: recorded hours
replayed as if they were today. Processes that must agree are given the same ``started_at_seconds``.
"""

from __future__ import annotations

import csv
import math
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from metrics.carbon.intensity import Intensity, Kind
from metrics.samples import NoData

HOUR_SECONDS = 3600.0
FORECAST_HOURS = 48


@dataclass(frozen=True, slots=True)
class HourlyTable:
    """Parsed file: ``columns[zone][hour]`` in g/kWh (NaN where the cell was empty); ``start_seconds`` of the
    first row.
    """

    start_seconds: float
    hours: int
    columns: dict[str, tuple[float, ...]]


class TableRefused(ValueError):
    """The file is not an hourly table; the message names line, got and expected."""


def parse_table(text: str, where: str) -> HourlyTable:
    """Parse CSV ``text``; raises ``TableRefused`` naming ``where`` and the line."""
    rows = csv.reader(text.splitlines())
    header = next(rows, None)
    if not header or header[0].strip() != "time_utc" or len(header) < 2:
        raise TableRefused(f'{where} line 1: got {header!r}, expected a header "time_utc,ZONE,..."')
    zones = [name.strip() for name in header[1:]]
    if len(set(zones)) != len(zones) or "" in zones:
        raise TableRefused(f"{where} line 1: zone names must be present and differ, got {zones!r}")
    columns: list[list[float]] = [[] for _ in zones]
    start: float | None = None
    count = 0
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise TableRefused(f"{where} line {line}: got {len(row)} cells, expected {len(header)}")
        at = _instant(row[0], where, line)
        if start is None:
            start = at
        elif at != start + count * HOUR_SECONDS:
            expected = datetime.fromtimestamp(start + count * HOUR_SECONDS, UTC).isoformat()
            raise TableRefused(
                f"{where} line {line}: got time {row[0]!r}, expected {expected} (one row an hour, no gaps)"
            )
        for column, cell in zip(columns, row[1:], strict=True):
            column.append(_grams(cell, where, line))
        count += 1
    if start is None:
        raise TableRefused(f"{where}: no rows after the header")
    return HourlyTable(
        start, count, {zone: tuple(column) for zone, column in zip(zones, columns, strict=True)}
    )


def _instant(text: str, where: str, line: int) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TableRefused(
            f"{where} line {line}: got time {text!r}, expected ISO 8601 like 2023-01-01T00:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _grams(text: str, where: str, line: int) -> float:
    if not text.strip():
        return math.nan
    try:
        grams = float(text)
    except ValueError:
        grams = -1.0
    if not (math.isfinite(grams) and grams >= 0):
        raise TableRefused(f"{where} line {line}: got {text!r}, expected grams per kWh, 0 or more")
    return grams


def _span(table: HourlyTable) -> str:
    first = datetime.fromtimestamp(table.start_seconds, UTC)
    end = datetime.fromtimestamp(table.start_seconds + table.hours * HOUR_SECONDS, UTC)
    return f"{first:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}"


class HourlyFile:
    """Provider over a file. The user says whether the figures are average or marginal."""

    source = "file"

    def __init__(
        self,
        path: str | Path,
        kind: Kind,
        clock_start_seconds: float | None = None,
        started_at_seconds: float | None = None,
    ) -> None:
        """``clock_start_seconds``: the file's instant that counts as ``started_at_seconds`` of the wall
        clock; the latter, when left out, is the ``now`` of the first question.
        """
        self._path = Path(path)
        self.kind: Kind = kind
        self._clock_start = clock_start_seconds
        self._started_at = started_at_seconds
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int], HourlyTable | NoData] | None = None

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        table = self._table()
        return table if isinstance(table, NoData) else self._at(table, zone, now)

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        """The next two days of the file, beginning with the hour in force: what a perfect forecast would say.
        Ends early where the file ends or has an empty cell.
        """
        table = self._table()
        if isinstance(table, NoData):
            return table
        entries: list[Intensity] = []
        for hour in range(FORECAST_HOURS):
            entry = self._at(table, zone, now + hour * HOUR_SECONDS)
            if isinstance(entry, NoData):
                return tuple(entries) if entries else entry
            entries.append(entry)
        return tuple(entries)

    def _at(self, table: HourlyTable, zone: str, now: float) -> Intensity | NoData:
        column = table.columns.get(zone)
        if column is None:
            known = ", ".join(sorted(table.columns))
            return NoData(f"{self._path} has no zone {zone!r}; it has: {known}", "misconfigured")
        ahead = self._ahead_seconds(now)
        end = table.start_seconds + table.hours * HOUR_SECONDS
        if self._clock_start is not None and not table.start_seconds <= self._clock_start < end:
            return NoData(
                f"carbon.fileClockStart lies outside {self._path}: it covers {_span(table)}", "misconfigured"
            )
        hour = math.floor((now - ahead - table.start_seconds) / HOUR_SECONDS)
        if self._clock_start is None and not 0 <= hour < table.hours:
            return NoData(
                f"{self._path} covers {_span(table)}, not now; set carbon.fileClockStart to replay it",
                "stale",
            )
        grams = column[hour % table.hours]
        if math.isnan(grams):
            return NoData(f"{self._path} has an empty cell for zone {zone!r} in this hour", "empty")
        at = table.start_seconds + hour * HOUR_SECONDS + ahead
        return Intensity(zone, grams, self.kind, at, at + HOUR_SECONDS, self.source, estimated=False)

    def _ahead_seconds(self, now: float) -> float:
        """How far the wall clock is ahead of the file's clock."""
        if self._clock_start is None:
            return 0.0
        with self._lock:
            if self._started_at is None:
                self._started_at = now
            return self._started_at - self._clock_start

    def _table(self) -> HourlyTable | NoData:
        try:
            stat = os.stat(self._path)
        except OSError as problem:
            return NoData(f"cannot read carbon.file {self._path}: {problem.strerror}", "misconfigured")
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with self._lock:
            if self._read is None or self._read[0] != version:
                self._read = (version, self._parse())
            return self._read[1]

    def _parse(self) -> HourlyTable | NoData:
        try:
            return parse_table(self._path.read_text(encoding="utf-8"), str(self._path))
        except OSError as problem:
            return NoData(f"cannot read carbon.file {self._path}: {problem.strerror}", "misconfigured")
        except UnicodeDecodeError:
            return NoData(f"carbon.file {self._path} is not UTF-8 text", "malformed")
        except TableRefused as refused:
            return NoData(str(refused), "malformed")
