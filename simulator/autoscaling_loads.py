"""Loads made by seeds, and parts of recorded traces: material for judging an autoscaler on what it was not
tuned on.

Every family draws its own level, times and shapes from the seed. Rates are requests a second of windows of a
minute, those with bursts of 10 s; what comes within a second is drawn later (``autoscaling_demand``).

    diurnal   level · (1 + amplitude · sin(a day, any phase)) · exp(AR(1) noise that lasts some 20 min)
    steps     fivefold from every second full hour on, and back on the next
    bursts    a stream at random; every some 300 s a burst of Pareto size (tail 1.3) within 30 s
    mmpp      two rates that differ by 3 to 6, exponential stays of some 20 min and some 5 min
    ramps     up to 3 to 5 times within 20 to 90 min, a while there, and down as slowly
    weekday   24 h of a Friday with office hours and then a Saturday that has 0.4 of it and no office hours
    drift     rate and tokens a request wander by a factor of 1.5 to 3, each its own way

Pure but for the seeds passed in. None of them is fitted to a recorded trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from simulator.autoscaling_trace import NO_TOKENS, Floats, WindowTrace

MINUTE_SECONDS = 60.0
BURST_WINDOW_SECONDS = 10.0
DAY_SECONDS = 86_400.0
HOUR_SECONDS = 3600.0
# What the season needs to have seen before the day changes.
WEEKDAY_BEFORE_HOURS = 24.0

Draw = np.random.Generator
Family = Callable[[int, float], WindowTrace]


def diurnal(seed: int, hours: float) -> WindowTrace:
    """A part of a day with noise."""
    draw = _draw("diurnal", seed)
    at = _times(hours, MINUTE_SECONDS)
    level, amplitude = _between(draw, 5.0, 60.0), draw.uniform(0.3, 0.8)
    shape = 1.0 + amplitude * np.sin(2.0 * math.pi * (at / DAY_SECONDS + draw.uniform()))
    return _trace("diurnal", seed, at, level * shape * _noise(draw, len(at), 0.1), draw.uniform(1.0, 2.0))


def steps(seed: int, hours: float) -> WindowTrace:
    """Fivefold in every second hour, on the hour."""
    draw = _draw("steps", seed)
    at = _times(hours, MINUTE_SECONDS)
    high = (at // HOUR_SECONDS).astype(np.int64) % 2 == 1
    rate = _between(draw, 2.0, 10.0) * np.where(high, 5.0, 1.0)
    return _trace("steps", seed, at, rate * _noise(draw, len(at), 0.03), draw.uniform(1.0, 1.5))


def bursts(seed: int, hours: float) -> WindowTrace:
    """Bursts of heavy-tailed size that are over within half a minute."""
    draw = _draw("bursts", seed)
    at = _times(hours, BURST_WINDOW_SECONDS)
    base = _between(draw, 1.0, 6.0)
    counts = draw.poisson(base * BURST_WINDOW_SECONDS, len(at)).astype(np.float64)
    now = draw.exponential(300.0)
    while now < hours * HOUR_SECONDS:
        size = int(min(300.0 * base, 10.0 * base * (1.0 + draw.pareto(1.3))))
        places = ((now + draw.uniform(0.0, 30.0, size)) / BURST_WINDOW_SECONDS).astype(np.int64)
        np.add.at(counts, places[places < len(at)], 1.0)
        now += draw.exponential(300.0)
    return _trace("bursts", seed, at, counts / BURST_WINDOW_SECONDS, 1.0)


def mmpp(seed: int, hours: float) -> WindowTrace:
    """A Poisson process whose rate jumps between two values at random times."""
    draw = _draw("mmpp", seed)
    at = _times(hours, BURST_WINDOW_SECONDS)
    low, times = _between(draw, 2.0, 12.0), draw.uniform(3.0, 6.0)
    stays = (draw.uniform(900.0, 1500.0), draw.uniform(120.0, 480.0))
    rate, now, high = np.empty(len(at)), 0.0, 0
    while now < hours * HOUR_SECONDS:
        until = now + draw.exponential(stays[high])
        rate[(at >= now) & (at < until)] = low * (times if high else 1.0)
        now, high = until, 1 - high
    counts = draw.poisson(rate * BURST_WINDOW_SECONDS)
    return _trace("mmpp", seed, at, counts / BURST_WINDOW_SECONDS, 1.0)


def ramps(seed: int, hours: float) -> WindowTrace:
    """Up, a while there, down, a while there, and again."""
    draw = _draw("ramps", seed)
    at = _times(hours, MINUTE_SECONDS)
    low = _between(draw, 3.0, 15.0)
    times, values, now = [0.0], [low], 0.0
    while now < hours * HOUR_SECONDS:
        ramp, high = draw.uniform(1200.0, 5400.0), low * draw.uniform(3.0, 5.0)
        for stay, value in ((draw.uniform(600.0, 2400.0), low), (ramp, high)):
            now += stay
            times.append(now)
            values.append(value)
        for stay, value in ((draw.uniform(600.0, 2400.0), high), (ramp, low)):
            now += stay
            times.append(now)
            values.append(value)
    rate = np.interp(at, times, values)
    return _trace("ramps", seed, at, rate * _noise(draw, len(at), 0.05), draw.uniform(1.0, 2.0))


def weekday(seed: int, hours: float) -> WindowTrace:
    """``hours`` of a Saturday after 24 h that let expect another Friday; longer than the others by these."""
    draw = _draw("weekday", seed)
    at = _times(hours + WEEKDAY_BEFORE_HOURS, MINUTE_SECONDS)
    begins = draw.uniform(6.0, 11.0)
    hour = begins + at / HOUR_SECONDS
    office = np.exp(-0.5 * ((hour % 24.0 - 14.0) / 3.5) ** 2)
    saturday = at >= WEEKDAY_BEFORE_HOURS * HOUR_SECONDS
    night = 0.25 + 0.1 * np.sin(2.0 * math.pi * (hour - 9.0) / 24.0)
    shape = np.where(saturday, 0.4 * (night + 0.5), night + office)
    level = _between(draw, 8.0, 40.0)
    return _trace("weekday", seed, at, level * shape * _noise(draw, len(at), 0.05), draw.uniform(1.0, 2.0))


def drift(seed: int, hours: float) -> WindowTrace:
    """Rate and lengths that change slowly and independently."""
    draw = _draw("drift", seed)
    at = _times(hours, MINUTE_SECONDS)
    slow = [
        draw.uniform(1.5, 3.0)
        ** np.sin(2.0 * math.pi * (at / draw.uniform(3.0, 9.0) / HOUR_SECONDS + draw.uniform()))
        for _ in range(3)
    ]
    rate = _between(draw, 5.0, 30.0) * slow[0] * _noise(draw, len(at), 0.03)
    cv = draw.uniform(1.0, 2.0)
    return _trace("drift", seed, at, rate, cv, NO_TOKENS[0] * slow[1], NO_TOKENS[1] * slow[2])


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.__name__: family for family in (diurnal, steps, bursts, mmpp, ramps, weekday, drift)}
)


def part(trace: WindowTrace, from_hours: float, hours: float) -> WindowTrace:
    """The part of a recorded trace from ``from_hours`` on. Raises ValueError where it has not so much."""
    first = round(from_hours * HOUR_SECONDS / trace.window_seconds)
    last = first + max(1, round(hours * HOUR_SECONDS / trace.window_seconds))
    if first < 0 or last > len(trace.rate_rps):
        raise ValueError(
            f"{trace.name}: got hours {from_hours:g} to {from_hours + hours:g}, expected a part of its "
            f"{trace.span_seconds / HOUR_SECONDS:g} h"
        )
    kept = slice(first, last)
    return WindowTrace(
        f"{trace.name}, from hour {from_hours:g}",
        trace.window_seconds,
        trace.rate_rps[kept],
        trace.cv[kept],
        trace.input_tokens[kept],
        trace.output_tokens[kept],
    )


def _draw(family: str, seed: int) -> Draw:
    """A stream of its own for every family and seed."""
    return np.random.default_rng([seed, *family.encode()])


def _times(hours: float, window_seconds: float) -> Floats:
    """The beginnings of the windows, in seconds."""
    windows = max(1, round(hours * HOUR_SECONDS / window_seconds))
    return np.arange(windows, dtype=np.float64) * window_seconds


def _between(draw: Draw, low: float, high: float) -> float:
    """A level between two, all orders of size alike."""
    return float(low * (high / low) ** draw.uniform())


def _noise(draw: Draw, windows: int, deviation: float) -> Floats:
    """A factor around 1 that forgets in some 20 windows."""
    kept = 0.95
    values, value = np.empty(windows), 0.0
    for place, fresh in enumerate(draw.normal(0.0, deviation * math.sqrt(1.0 - kept**2), windows).tolist()):
        value = kept * value + fresh
        values[place] = value
    return np.exp(values)


def _trace(
    family: str,
    seed: int,
    at: Floats,
    rate: Floats,
    cv: float,
    taken: Floats | None = None,
    given: Floats | None = None,
) -> WindowTrace:
    same = np.ones_like(at)
    return WindowTrace(
        f"{family}/{seed}",
        float(at[1] - at[0]) if len(at) > 1 else MINUTE_SECONDS,
        np.asarray(rate, dtype=np.float64),
        same * cv,
        same * NO_TOKENS[0] if taken is None else taken,
        same * NO_TOKENS[1] if given is None else given,
    )
