"""Traces of inference requests: one row a request, or one row a model and a window of time.

Requests: ``t_s, input_tokens, output_tokens`` (Azure LLM inference trace 2023). Windows: ``model, t_s,
rate_rps, rate_weighted_cv, mean_input_tokens, mean_output_tokens`` (sums over the clients of ServeGen,
arXiv:2505.09999). Which of the two a file is, its header says. CSV, gzipped or not.

Windows of rate 0 are gaps in the log, and so are windows next to them with next to nothing in them: they
are cut out and the rest moves together. A model whose source has no token counts (they read 0) takes
``NO_TOKENS``.
"""

from __future__ import annotations

import csv
import gzip
import io
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

REQUEST_COLUMNS = ("t_s", "input_tokens", "output_tokens")
WINDOW_COLUMNS = (
    "model",
    "t_s",
    "rate_rps",
    "rate_weighted_cv",
    "mean_input_tokens",
    "mean_output_tokens",
)
# A window below this share of the median rate, beside a gap, is the gap's edge.
GAP_EDGE = 0.05
NO_TOKENS = (1000.0, 200.0)
"""Input and output tokens of a request where the trace does not tell them; chosen, near its chat models."""


class TraceRefused(Exception):
    """A file that is not a trace of requests; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Requests in order of arrival; times in seconds from the first. All three arrays are equally long."""

    name: str
    at_seconds: Floats
    input_tokens: Floats
    output_tokens: Floats

    @property
    def span_seconds(self) -> float:
        """From the first request to the last."""
        return float(self.at_seconds[-1])


@dataclass(frozen=True, slots=True)
class WindowTrace:
    """Rates of one model, a value a window of ``window_seconds``; gaps have been cut out."""

    name: str
    window_seconds: float
    rate_rps: Floats
    cv: Floats
    input_tokens: Floats
    output_tokens: Floats

    @property
    def span_seconds(self) -> float:
        """The length of all windows together."""
        return self.window_seconds * len(self.rate_rps)


Trace = RequestTrace | WindowTrace


def read_trace(path: Path, model: str | None = None, hours: float | None = None) -> Trace:
    """Read a trace file; ``model`` picks one of several, ``hours`` keeps the beginning.

    Raises TraceRefused.
    """
    rows = _rows(path)
    header = tuple(rows[0]) if rows else ()
    if set(REQUEST_COLUMNS) <= set(header):
        return _requests(path, rows, hours)
    if set(WINDOW_COLUMNS) <= set(header):
        return _windows(path, rows, model, hours)
    raise TraceRefused(
        f"{path}: got the columns {', '.join(header) or 'none'}, expected {', '.join(REQUEST_COLUMNS)} "
        f"(a row a request) or {', '.join(WINDOW_COLUMNS)} (a row a model and window)"
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
    except (OSError, EOFError, zlib.error) as problem:
        raise TraceRefused(f"{path}: cannot be read: {problem}; give a CSV file, gzipped or not") from problem
    except (UnicodeDecodeError, csv.Error) as problem:
        raise TraceRefused(
            f"{path}: is not a CSV text: {problem}; give a CSV file, gzipped or not"
        ) from problem


def _column(path: Path, rows: Sequence[dict[str, str]], name: str, empty: str = "") -> Floats:
    """A column as numbers; an ``empty`` that is a number stands for a field without a value."""
    values = np.empty(len(rows))
    for place, row in enumerate(rows):
        text = row.get(name) or empty
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 <= value < float("inf"):
            raise TraceRefused(
                f"{path}: line {place + 2}, {name}: got {text!r}, expected a number of 0 or more"
            )
        values[place] = value
    return values


def _requests(path: Path, rows: Sequence[dict[str, str]], hours: float | None) -> RequestTrace:
    at, taken, given = (_column(path, rows, name) for name in REQUEST_COLUMNS)
    order = np.argsort(at, kind="stable")
    at, taken, given = at[order] - at[order[0]], taken[order], given[order]
    kept = len(at) if hours is None else int(np.searchsorted(at, hours * 3600.0, side="left"))
    if kept < 2:
        raise TraceRefused(
            f"{path}: got {kept} requests, expected at least 2; give a longer trace or more hours"
        )
    return RequestTrace(_name(path), at[:kept], taken[:kept], given[:kept])


def _windows(
    path: Path, rows: Sequence[dict[str, str]], model: str | None, hours: float | None
) -> WindowTrace:
    models = list(dict.fromkeys(row["model"] for row in rows))
    if model is None and len(models) == 1:
        model = models[0]
    if model not in models:
        got = "no --trace-model" if model is None else f"--trace-model {model}"
        raise TraceRefused(f"{path}: got {got}, expected one of the models in it: {', '.join(models)}")
    rows = [row for row in rows if row["model"] == model]
    at, rate = (_column(path, rows, name) for name in WINDOW_COLUMNS[1:3])
    # A window without requests has no variation and no tokens to tell of.
    cv, taken, given = (_column(path, rows, name, empty="0") for name in WINDOW_COLUMNS[3:])
    lengths = np.diff(at)
    if len(at) < 2 or not np.allclose(lengths, lengths[0]) or lengths[0] <= 0.0:
        raise TraceRefused(f"{path}: {model}: expected windows of one length in order of time")
    kept = ~_gaps(rate)
    if not kept.any():
        raise TraceRefused(f"{path}: {model}: every window has rate 0, expected requests")
    rate, cv, taken, given = rate[kept], cv[kept], taken[kept], given[kept]
    last = len(rate) if hours is None else max(1, int(hours * 3600.0 / lengths[0]))
    return WindowTrace(
        f"{_name(path)}/{model}",
        float(lengths[0]),
        rate[:last],
        cv[:last],
        _known(taken, rate, NO_TOKENS[0])[:last],
        _known(given, rate, NO_TOKENS[1])[:last],
    )


def _gaps(rate: Floats) -> npt.NDArray[np.bool_]:
    """Windows of rate 0, and windows with next to nothing that touch one."""
    gap = rate <= 0.0
    if gap.all():
        return gap
    faint = rate < GAP_EDGE * statistics.median(rate[~gap].tolist())
    for _ in range(len(rate)):
        beside = np.zeros_like(gap)
        beside[1:] |= gap[:-1]
        beside[:-1] |= gap[1:]
        wider = gap | (beside & faint)
        if (wider == gap).all():
            break
        gap = wider
    return gap


def _known(tokens: Floats, rate: Floats, otherwise: float) -> Floats:
    """Token means with those that the source lacks filled in by the mean of the others."""
    there = tokens > 0.0
    mean = float(np.average(tokens[there], weights=rate[there])) if there.any() else otherwise
    return np.where(there, tokens, mean)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")
