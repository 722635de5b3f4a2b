"""The extender as a FastAPI application: HTTP around ``verbs``.

    POST /scheduler/filter /scheduler/prioritize /scheduler/preempt /scheduler/bind      k8s.io/kube-
                                                                                         scheduler/extender/v1
    GET  /healthz  the process answers     GET /readyz  it may be asked     GET /metrics     GET /openapi.json

The verbs take raw bodies and return bytes: a response model would cost 25 times the decision itself at 5,000
nodes. Their bodies are documented in the OpenAPI document instead. Filter and prioritize, asked for every
pod, are answered before FastAPI sees them (``exchange.HotPath``); the routes here document them and answer
alike. They run on the event loop, because they compute for a few milliseconds and wait for nothing; bind
waits for the API server and runs in a thread. ``Server-Timing`` of each answer says how long the body took to
arrive (read) and the answer to make (answer), in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response

from metrics.exposition import Exposition
from scheduler.extender.codec import problem
from scheduler.extender.exchange import JSON, Decide, Exchange, Hot, HotPath
from scheduler.extender.verbs import Binder, Decisions, Preemptor, Verbs

DEFAULT_MAX_BODY_BYTES: Final = 32 * 1024 * 1024

_POD = {"type": "object", "description": "core/v1 Pod"}
_NAMES = {"type": "array", "items": {"type": "string"}, "nullable": True}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_VICTIMS = {"type": "object", "nullable": True, "description": "victims by node name"}
_ARGS = {"Pod": _POD, "Nodes": {"type": "object", "nullable": True}, "NodeNames": _NAMES}
_RESULT = {
    "Nodes": {"type": "object", "nullable": True},
    "NodeNames": _NAMES,
    "FailedNodes": _TEXTS,
    "FailedAndUnresolvableNodes": _TEXTS,
    "Error": {"type": "string"},
}
_SCORE = {"Host": {"type": "string"}, "Score": {"type": "integer", "minimum": 1, "maximum": 10}}
_BINDING = {key: {"type": "string"} for key in ("PodName", "PodNamespace", "PodUID", "Node")}


def create_app(
    decider: Decisions,
    *,
    exposition: Exposition,
    ready: Callable[[], Mapping[str, bool]],
    synced: Callable[[], bool] = lambda: True,
    max_body_bytes: Callable[[], int] = lambda: DEFAULT_MAX_BODY_BYTES,
    draining: Callable[[], bool] = lambda: False,
    binder: Binder | None = None,
    preemptor: Preemptor | None = None,
) -> HotPath:
    """Build the application.

    ``ready``: what /readyz waits for, by name. ``synced``: whether the fleet may be judged; until then
    everything passes through. ``max_body_bytes`` is asked for each request, so that a policy edit holds at
    once. ``draining`` makes /readyz 503 and closes connections after
    their answer. Without a ``binder`` /scheduler/bind is refused; without a ``preemptor`` /scheduler/preempt
    leaves the victims as they came.
    """
    app = FastAPI(
        title="Slicewise scheduler extender",
        description="Filters and ranks nodes for GPU pods; see k8s.io/kube-scheduler/extender/v1.",
        docs_url=None,
        redoc_url=None,
    )
    verbs = Verbs(decider, exposition.extender, synced, binder, preemptor)
    exchange = Exchange(exposition, max_body_bytes, draining)

    async def answer(request: Request, verb: str, decide: Decide, *, wait: bool = False) -> Response:
        given = await exchange.answer(request.scope, request.receive, verb, decide, wait=wait)
        return Response(given.content, given.code, given.headers, JSON)

    @app.post("/scheduler/filter", **_documented("ExtenderFilterResult", _ARGS, _object(_RESULT)))
    async def filter_nodes(request: Request) -> Response:
        """Refuse the nodes on which the pod cannot run, each with a reason."""
        return await answer(request, "filter", verbs.filter)

    @app.post("/scheduler/prioritize", **_documented("HostPriorityList", _ARGS, _array(_SCORE)))
    async def prioritize_nodes(request: Request) -> Response:
        """Rank the nodes by the price of the pod on them: 10 is the best, a node left out has 0."""
        return await answer(request, "prioritize", verbs.prioritize)

    preemption = {"Pod": _POD, "NodeNameToVictims": _VICTIMS, "NodeNameToMetaVictims": _VICTIMS}
    result = _object({"NodeNameToMetaVictims": _VICTIMS})

    @app.post("/scheduler/preempt", **_documented("ExtenderPreemptionResult", preemption, result))
    async def preempt(request: Request) -> Response:
        """Choose the victims of least loss; drop the nodes on which evicting pods cannot help."""
        return await answer(request, "preempt", verbs.preempt)

    @app.post(
        "/scheduler/bind",
        **_documented("ExtenderBindingResult", _BINDING, _object({"Error": {"type": "string"}})),
    )
    async def bind(request: Request) -> Response:
        """Bind the pod, where this server is configured to."""
        if verbs.binder is None:
            exchange.observe("bind", 404, 0.0)
            return Response(_NO_BINDER, 404, None, JSON)
        return await answer(request, "bind", verbs.bind, wait=True)

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process answers."""
        return Response(b"ok", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 once everything the answers rest on is there, else 503; the body names each part."""
        parts = {**ready(), "serving": not draining()}
        return Response(msgspec.json.encode(parts), 200 if all(parts.values()) else 503, None, JSON)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Prometheus exposition."""
        content, media_type = exposition.render(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    hot = {
        "/scheduler/filter": Hot("filter", verbs.filter, verbs.settle),
        "/scheduler/prioritize": Hot("prioritize", verbs.prioritize, verbs.settle),
    }
    return HotPath(app, exchange, hot)


_NO_BINDER = problem(
    "this extender does not bind pods",
    got="a bind request",
    expected="no bindVerb in the extender's entry of KubeSchedulerConfiguration",
    do="remove bindVerb so that kube-scheduler binds by itself, or start slicewise-scheduler with --bind",
)


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties}


def _array(properties: Mapping[str, object]) -> dict[str, object]:
    return {"type": "array", "items": _object(properties)}


def _documented(returns: str, body: Mapping[str, object], result: Mapping[str, object]) -> dict[str, Any]:
    """OpenAPI for a route that reads and writes bytes itself."""
    told = {k: {"type": "string"} for k in ("error", "got", "expected", "do")}
    refused = {"content": {JSON: {"schema": _object(told)}}}
    return {
        "response_class": Response,
        "responses": {
            200: {"description": returns, "content": {JSON: {"schema": result}}},
            **{
                code: {"description": why, **refused}
                for code, why in ((400, "not readable"), (413, "too large"), (415, "not JSON"))
            },
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {JSON: {"schema": _object(body)}}}},
    }
