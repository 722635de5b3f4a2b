"""Ray Serve (metrics exported by each Ray node, prefix ``ray_``), refreshed every 10 s.

In flight is what replicas work on plus what handles and proxies hold back for them. A Ray pod that holds no
handle exports no queue, so the queue may be absent where the replica reports, and is added where it is told.

The whole request is timed by the proxy. ``ray_serve_deployment_processing_latency_ms`` begins when a replica
takes the request, so it knows nothing of the queue before it (up to ``max_ongoing_requests`` go to a replica,
the rest wait): it speaks only for pods without a proxy in use. The proxy times probes of its own routes
(``/-/healthz``) as well; they are left out.
"""

from __future__ import annotations

from metrics.servers.preset import LatencyHistogram, ServerPreset

RUNNING = ("ray_serve_replica_processing_queries",)
WAITING = ("ray_serve_deployment_queued_queries",)

RAY_SERVE = ServerPreset(
    name="ray-serve",
    in_flight_where_told=(*RUNNING, *WAITING),
    running=RUNNING,
    waiting=WAITING,
    requests=("ray_serve_deployment_request_counter_total", "ray_serve_deployment_request_counter"),
    latency={
        "e2e": LatencyHistogram(
            (
                "ray_serve_http_request_latency_ms",
                "ray_serve_grpc_request_latency_ms",
                "ray_serve_deployment_processing_latency_ms",
            ),
            "milliseconds",
        )
    },
    without_probes='route!~"/-/.*"',
    signature=RUNNING,
    port=8080,
)
