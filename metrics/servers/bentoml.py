"""BentoML: gauge of requests in progress, counter, histogram in seconds; labels ``endpoint``,
``service_name``, ``runner_name``.

Every service of a composed Bento reports the requests that pass through it. Pods of one service report one
service, so the sum over a pod's series is right there. The health endpoints are counted and timed like the
service's own (seen in 1.4), so they are left out by name.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

BENTOML = ServerPreset(
    name="bentoml",
    in_flight=(("bentoml_service_request_in_progress",),),
    requests=("bentoml_service_request_total",),
    latency={"e2e": LatencyHistogram(("bentoml_service_request_duration_seconds",))},
    signature=("bentoml_service_request_in_progress",),
    without_probes='endpoint!~"/(livez|readyz|healthz)"',
    port=3000,
)
