"""The decision as an external metric: external.metrics.k8s.io/v1beta1, served as an aggregated API.

    slicewise_desired_replicas   the decided count; an HPA with target AverageValue 1 wishes ceil(value/1)
    slicewise_in_flight          requests running and waiting, summed over the pods

One item a workload, selected by the labels ``kind`` and ``name`` of the target (or ``policy``). HPA adds the
items up, so an HPA selects one. What is not known is answered as a Status with the sentence why (503), and
never as a number: HPA then keeps the replicas. Where several workloads match and one is not known, the whole
answer is an error, since the sum of the others would be too small.

Discovery and health are answered by every replica, so that the APIService stays available while the lead
changes; numbers by the leader alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from autoscaler.doors.access_review import Access
from autoscaler.doors.advice import Advice, Advised, NotKnown, Observer, Result, labels_of
from autoscaler.doors.front_proxy import Trust, User, user_of
from autoscaler.selectors import SelectorRefused, parse_selector
from cluster.api_errors import ApiError
from cluster.times import rfc3339
from metrics.samples import NoData

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
DESIRED_REPLICAS: Final = "slicewise_desired_replicas"
IN_FLIGHT: Final = "slicewise_in_flight"
METRICS: Final = (DESIRED_REPLICAS, IN_FLIGHT)

PEER_NAMES: Final = "slicewise.peer_names"  # in the ASGI scope: common names of the client's certificate

_REASONS: Final = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}

_RESULTS: Final[dict[int, Result]] = {400: "mistaken", 401: "refused", 403: "refused", 404: "mistaken"}


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def create_app(
    advice: Advice,
    trust: Callable[[], Trust | None],
    allows: Callable[[User, Access], bool],
    wall_clock: Callable[[], float],
    observe: Observer = lambda _result: None,
) -> FastAPI:
    """The API. ``trust`` is None until the cluster said whom to trust; ``allows`` raises ApiError."""
    app = FastAPI(title="slicewise external metrics", docs_url=None, redoc_url=None, openapi_url=None)
    root = f"/apis/{GROUP}/{VERSION}"

    @app.exception_handler(_Refused)
    def refused(_request: Request, refusal: _Refused) -> JSONResponse:
        observe(_RESULTS.get(refusal.status, "not_known"))
        # A connection that is kept would bring the next request to this replica again.
        return JSONResponse(
            status_object(refusal.status, str(refusal)), refusal.status, headers={"connection": "close"}
        )

    @app.get("/healthz")
    @app.get("/livez")
    @app.get("/readyz")
    def health() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/apis")
    def groups(request: Request) -> JSONResponse:
        _caller(request, trust())
        return JSONResponse({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_object()]})

    @app.get(f"/apis/{GROUP}")
    def group(request: Request) -> JSONResponse:
        _caller(request, trust())
        return JSONResponse(group_object())

    @app.get(root)
    def resources(request: Request) -> JSONResponse:
        _caller(request, trust())
        return JSONResponse(resource_list())

    @app.get(f"{root}/namespaces/{{namespace}}/{{metric}}")
    def values(
        request: Request,
        namespace: str,
        metric: str,
        labelSelector: str = "",  # noqa: N803 - the API's name
    ) -> JSONResponse:
        user = _caller(request, trust())
        try:
            allowed = allows(user, Access(GROUP, VERSION, namespace, metric))
        except ApiError as error:
            raise _Refused(503, f"could not ask whether {user.name!r} may read {metric}: {error}") from None
        if not allowed:
            raise _Refused(
                403,
                f"{user.name!r} may not list {metric} of {GROUP} in namespace {namespace}: no role allows it",
            )
        if metric not in METRICS:
            raise _Refused(404, f"no metric {metric!r}; expected one of {', '.join(METRICS)}")
        items = _items(advice, namespace, metric, labelSelector, wall_clock())
        observe("served")
        return JSONResponse(
            {
                "kind": "ExternalMetricValueList",
                "apiVersion": f"{GROUP}/{VERSION}",
                "metadata": {},
                "items": items,
            }
        )

    return app


def _caller(request: Request, trust: Trust | None) -> User:
    if trust is None:
        raise _Refused(503, "it is not known yet which front proxy to trust")
    names = request.scope.get(PEER_NAMES)
    if names is None or not trust.admits(names):
        raise _Refused(401, "expected the client certificate of kube-apiserver's front proxy")
    user = user_of(trust, request.headers.items())
    if user is None:
        raise _Refused(401, f"expected the caller in one of {', '.join(trust.username_headers)}")
    return user


def _items(advice: Advice, namespace: str, metric: str, selector: str, now: float) -> list[dict[str, Any]]:
    known = {key: labels_of(key, target) for key, target in advice.known(namespace).items()}
    wanted = list(known)
    if selector:
        try:
            parsed = parse_selector(selector)
        except SelectorRefused as problem:
            raise _Refused(400, f"labelSelector {problem}") from None
        wanted = [key for key, labels in known.items() if parsed.matches(labels)]
    try:
        advice.willing()
        if not wanted:
            names = "; ".join(f"kind={one['kind']},name={one['name']}" for one in known.values()) or "none"
            raise _Refused(
                404,
                f"no workload with an autoscaling policy in namespace {namespace} matches {selector!r} "
                f"(there: {names})",
            )
        return [_item(metric, advice.of(key), now) for key in sorted(wanted)]
    except NotKnown as unknown:
        raise _Refused(503, str(unknown)) from None


def _item(metric: str, advised: Advised, now: float) -> dict[str, Any]:
    value: float | NoData = float(advised.replicas) if metric == DESIRED_REPLICAS else advised.in_flight
    if isinstance(value, NoData):
        raise _Refused(503, f"{advised.target}: requests in flight are not known: {value.reason}")
    return {
        "metricName": metric,
        "metricLabels": advised.labels,
        "timestamp": rfc3339(now - advised.age_seconds),
        "value": quantity(value),
    }


def quantity(value: float) -> str:
    """A number of at least 0 as a Kubernetes quantity, in thousandths where it is not whole."""
    if value == math.floor(value):
        return str(int(value))
    return f"{math.ceil(value * 1000.0)}m"


def group_object() -> dict[str, Any]:
    """The API group, for discovery."""
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    }


def resource_list() -> dict[str, Any]:
    """The metrics as resources, for discovery."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{VERSION}",
        "resources": [
            {
                "name": name,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            for name in METRICS
        ],
    }


def status_object(code: int, message: str) -> dict[str, Any]:
    """A refusal as the API server words it (metav1.Status)."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "ServiceUnavailable"),
        "code": code,
    }
