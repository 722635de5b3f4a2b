"""Routes of the fleet page: one static page and three JSON endpoints that it reads.

``GET /`` the page; ``/static/…`` its script and style; ``/api/fleet`` the nodes (a ``FleetView`` without
pods); ``/api/pods`` the GPU pods; ``/api/bills?namespace=&pod=`` what that pod would cost on every node,
cheapest first. Read-only. The two callables are given by the caller and must be safe to call from any thread;
this module keeps no state and makes no decision. It has no login: serve it where the controller's other ports
are served.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Query, Response

from autoscaler.fleetpage.view import FleetView
from scheduler.bill import Bill

_MEDIA_TYPES = {"fleet.js": "text/javascript; charset=utf-8", "fleet.css": "text/css; charset=utf-8"}
# The page loads nothing from elsewhere, and says so to the browser: a pod's name can never become a script.
_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def fleet_routes(view: Callable[[], FleetView], bills: Callable[[str, str], list[Bill]]) -> APIRouter:
    """The page's router. ``bills(namespace, pod)`` raises LookupError for a pod that is not known."""
    router = APIRouter(tags=["fleet page"])

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(_asset("index.html"), media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    @router.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        media_type = _MEDIA_TYPES.get(name)
        if media_type is None:
            raise HTTPException(404, f"no such file: {name}; there are {', '.join(sorted(_MEDIA_TYPES))}")
        return Response(_asset(name), media_type=media_type, headers=_PAGE_HEADERS)

    @router.get("/api/fleet", summary="Every node, GPU and MIG instance with its use")
    def fleet() -> Response:
        seen = view()
        return _json(
            {
                "generation": seen.generation,
                "currency": seen.currency,
                "totals": seen.totals,
                "nodes": seen.nodes,
            }
        )

    @router.get("/api/pods", summary="GPU pods, waiting and running")
    def pods() -> Response:
        seen = view()
        return _json({"generation": seen.generation, "pods": seen.pods})

    @router.get("/api/bills", summary="The price of one pod on every node, cheapest first, term by term")
    def pod_bills(
        namespace: Annotated[str, Query(min_length=1, max_length=63)],
        pod: Annotated[str, Query(min_length=1, max_length=253)],
    ) -> Response:
        try:
            priced = bills(namespace, pod)
        except LookupError as error:
            raise HTTPException(404, f"pod {namespace}/{pod} is not known: {error}") from error
        ordered = sorted(priced, key=lambda bill: (not bill.feasible, bill.total, bill.node))
        return _json({"namespace": namespace, "pod": pod, "bills": [_bill(bill) for bill in ordered]})

    return router


def _bill(bill: Bill) -> dict[str, Any]:
    """An infeasible bill has no meaningful total; JSON has no infinity either."""
    return {
        "node": bill.node,
        "feasible": bill.feasible,
        "reason": bill.reason or "",
        "terms": {name: float(value) for name, value in bill.terms.items()} if bill.feasible else {},
        "total": float(bill.total) if bill.feasible else None,
    }


def _asset(name: str) -> bytes:
    return files("autoscaler.fleetpage").joinpath("static", name).read_bytes()


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
