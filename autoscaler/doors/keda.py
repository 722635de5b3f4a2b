"""KEDA's external scaler over the decision: trigger types ``external`` and ``external-push``.

``scalerMetadata`` names the workload by ``policy`` (its ConfigMap in the ScaledObject's namespace), or by
``kind`` (Deployment by default) and ``name`` of the target. The one metric is the decided count with a target
of 1, so that the HPA which KEDA makes wishes exactly that many; active means at least one. Every number is
given as a whole one and as a floating-point one, for KEDA before and after 2.18.

What is not known ends the call with a status and the sentence why, never with a number: NOT_FOUND where no
policy names the workload, INVALID_ARGUMENT for metadata that name none, else UNAVAILABLE. KEDA keeps the
replicas then, or does what the ScaledObject's ``fallback`` says. ``StreamIsActive`` sends at once and on
every change; ``StreamMetricSpec`` sends at once, and nothing later since the target never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc

from autoscaler.controller import PolicyKey
from autoscaler.doors.advice import Advice, Advised, NotKnown, Observer
from autoscaler.doors.external_metrics import DESIRED_REPLICAS
from autoscaler.doors.externalscaler import externalscaler_pb2 as pb

PUSH_SECONDS: Final = 0.5
TARGET: Final = 1


class MetadataRefused(ValueError):
    """The trigger's metadata name no workload."""


def policy_of(advice: Advice, namespace: str, metadata: dict[str, str]) -> PolicyKey:
    """The policy of the workload that a trigger names. Raises MetadataRefused, NotKnown (not_found)."""
    policy, name = metadata.get("policy", ""), metadata.get("name", "")
    if bool(policy) == bool(name):
        raise MetadataRefused(
            f"trigger metadata: got policy {policy!r} and name {name!r}, expected one of them: policy (the "
            "ConfigMap of the autoscaling policy), or kind and name of the workload"
        )
    known = advice.known(namespace)
    if policy:
        if (namespace, policy) not in known:
            raise NotKnown("not_found", _nothing(f"autoscaling policy {policy!r}", namespace, known))
        return namespace, policy
    kind = metadata.get("kind", "Deployment")
    for key, target in known.items():
        if (target.kind, target.name) == (kind, name):
            return key
    raise NotKnown("not_found", _nothing(f"autoscaling policy for {kind} {name!r}", namespace, known))


def _nothing(what: str, namespace: str, known: Mapping[PolicyKey, Any]) -> str:
    there = ", ".join(f"{key[1]} for {target.kind} {target.name}" for key, target in sorted(known.items()))
    return f"no {what} is in force in namespace {namespace} (there: {there or 'none'})"


class ExternalScaler:
    """The service, on asyncio: a stream costs no thread."""

    def __init__(
        self,
        advice: Advice,
        *,
        push_seconds: float = PUSH_SECONDS,
        observe: Observer = lambda _result: None,
    ) -> None:
        """``push_seconds``: seconds between looks of a stream. ``observe`` hears of numbers and errors."""
        self._advice = advice
        self._observe = observe
        self._push_seconds = push_seconds

    async def IsActive(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Whether the workload should have a replica at all."""
        return pb.IsActiveResponse(result=(await self._advised(request, context)).replicas > 0)

    async def StreamIsActive(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The same, at once and on every change."""
        sent: bool | None = None
        while True:
            active = (await self._advised(request, context)).replicas > 0
            if active != sent:
                sent = active
                yield pb.IsActiveResponse(result=active)
            await asyncio.sleep(self._push_seconds)

    async def GetMetricSpec(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The metric's name and target. Known without a decision, so that KEDA can make its HPA."""
        await self._key(request, context)
        return _specs()

    async def StreamMetricSpec(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The same, at once; it never changes."""
        await self._key(request, context)
        yield _specs()
        await asyncio.Event().wait()  # until the client or the server ends the stream

    async def GetMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The decided count."""
        if request.metricName not in ("", DESIRED_REPLICAS):
            await self._refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"metricName: got {request.metricName!r}, expected {DESIRED_REPLICAS!r}",
            )
        replicas = (await self._advised(request.scaledObjectRef, context)).replicas
        value = pb.MetricValue(
            metricName=DESIRED_REPLICAS, metricValue=replicas, metricValueFloat=float(replicas)
        )
        self._observe("served")
        return pb.GetMetricsResponse(metricValues=[value])

    async def _key(self, ref: Any, context: Any) -> PolicyKey:
        try:
            return policy_of(self._advice, ref.namespace, dict(ref.scalerMetadata))
        except MetadataRefused as refused:
            await self._refuse(
                context, grpc.StatusCode.INVALID_ARGUMENT, f"ScaledObject {ref.name}: {refused}"
            )
        except NotKnown as unknown:
            await self._refuse(context, grpc.StatusCode.NOT_FOUND, str(unknown))
        raise AssertionError("abort raises")

    async def _advised(self, ref: Any, context: Any) -> Advised:
        key = await self._key(ref, context)
        try:
            return self._advice.of(key)
        except NotKnown as unknown:
            code = grpc.StatusCode.NOT_FOUND if unknown.cause == "not_found" else grpc.StatusCode.UNAVAILABLE
            await self._refuse(context, code, str(unknown))
        raise AssertionError("abort raises")

    async def _refuse(self, context: Any, code: grpc.StatusCode, sentence: str) -> None:
        self._observe("not_known" if code is grpc.StatusCode.UNAVAILABLE else "mistaken")
        await context.abort(code, sentence)


def _specs() -> Any:
    spec = pb.MetricSpec(metricName=DESIRED_REPLICAS, targetSize=TARGET, targetSizeFloat=float(TARGET))
    return pb.GetMetricSpecResponse(metricSpecs=[spec])
