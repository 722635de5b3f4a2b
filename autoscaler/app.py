"""The controller's HTTP side: metrics, health, and the newest decisions as JSON.

``/healthz`` asks only whether the loop still turns, never whether others are well: restarting us cures no
outage. ``/readyz`` asks whether pods and policies are known. ``/decisions`` answers "why this count" without
a log. More routes may be added to the returned app by whoever composes the process.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from autoscaler.compose import Parts
from autoscaler.view import View
from metrics.samples import NoData

# A round may wait for one Prometheus timeout and a slow API server; ten periods without any is a hang.
LEAST_STUCK_SECONDS = 60.0


def create_app(parts: Parts) -> FastAPI:
    """Return the app over running (or yet to be started) parts."""
    app = FastAPI(title="slicewise-controller", docs_url=None, redoc_url=None)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        page, content_type = parts.exposition.render(request.headers.get("accept", ""))
        return Response(page, media_type=None, headers={"content-type": content_type})

    @app.get("/healthz")
    def healthz() -> Response:
        allowed = max(LEAST_STUCK_SECONDS, 10 * parts.controller.period_seconds())
        stuck = parts.stuck_for(time.monotonic(), allowed)
        if stuck is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"no round has ended for {stuck:.0f} s\n", status_code=503)

    @app.get("/readyz")
    def readyz() -> Response:
        missing = [what for what, known in parts.synced.items() if not known]
        if not missing:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"not known yet: {', '.join(missing)}\n", status_code=503)

    @app.get("/decisions")
    def decisions() -> Response:
        return JSONResponse([_as_json(view) for view in parts.controller.views])

    app.include_router(parts.fleet.routes())
    app.include_router(parts.nodes.routes())
    return app


def _as_json(view: View) -> dict[str, Any]:
    seen = view.signals
    return {
        "target": {
            "apiVersion": view.target.api_version,
            "kind": view.target.kind,
            "namespace": view.target.namespace,
            "name": view.target.name,
        },
        "replicas": {"current": seen.current, "desired": view.decision.replicas, "written": view.written},
        "pods": {
            "ready": seen.ready,
            "starting": seen.starting,
            "unschedulable": seen.unschedulable,
            "silent": seen.silent,
        },
        "server": view.server or None,
        "signals": {
            "inFlight": _value(seen.in_flight),
            "waiting": _value(seen.waiting),
            "requestsPerSecond": _value(seen.request_rate),
            "p95Seconds": _value(seen.p95_seconds),
            "gpuUtilisation": _value(seen.gpu_utilisation),
            "coldStartSeconds": _value(seen.cold_start_seconds),
            "tokensIn": _value(seen.tokens_in),
            "tokensOut": _value(seen.tokens_out),
            "tokenSeconds": _value(seen.token_seconds),
            "serviceSeconds": _value(seen.service_seconds),
        },
        "reasons": [{"code": r.code, "sentence": r.sentence} for r in view.decision.reasons],
    }


def _value(value: float | NoData) -> dict[str, Any]:
    return {"missing": value.reason} if isinstance(value, NoData) else {"value": value}
