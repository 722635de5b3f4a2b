"""Any server with a gauge of requests in flight, a latency histogram and, if it has one, a request counter.

The default names are those of the usual HTTP instrumentation (``http_requests_in_flight``,
``http_request_duration_seconds``, ``http_requests_total``). There is no time to first token: what HTTP
middleware measures is the whole request.
"""

from __future__ import annotations

import re

from metrics.servers.preset import LatencyHistogram, ServerPreset
from metrics.units import TimeUnit

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def generic(
    *,
    name: str = "generic",
    in_flight: str = "http_requests_in_flight",
    duration: str = "http_request_duration_seconds",
    duration_unit: TimeUnit = "seconds",
    requests: str | None = "http_requests_total",
    matchers: str = "",
) -> ServerPreset:
    """A preset from metric names. ``duration`` is the histogram's base name (without ``_bucket``), its bounds
    in ``duration_unit``; ``matchers`` (PromQL label matchers) goes into each selector. Without ``requests``
    the histogram's count gives the rate.

    Raises ``ValueError`` naming the argument when something is no metric name.
    """
    asked = {"in_flight": in_flight, "duration": duration, "requests": requests}
    for argument, value in asked.items():
        if value is not None and not _METRIC_NAME.fullmatch(value):
            raise ValueError(f"{argument}: got {value!r}, expected a Prometheus metric name")
    return ServerPreset(
        name=name,
        in_flight=((in_flight,),),
        latency={"e2e": LatencyHistogram((duration.removesuffix("_bucket"),), duration_unit)},
        requests=(requests,) if requests is not None else (),
        signature=(in_flight,),
        matchers=matchers,
    )


GENERIC = generic()
