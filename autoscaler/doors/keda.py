"""KEDA's external scaler over the decision: trigger types ``external`` and ``external-push``.

``scalerMetadata`` names the workload by ``policy`` (its ConfigMap in the ScaledObject's namespace), or by
``kind`` (Deployment by default) and ``name`` of the target. The one metric is the decided count with a target
of 1, so that the HPA which KEDA makes wishes exactly that many; active means at least one. Every number is
given as a whole one and as a floating-point one, for KEDA before and after 2.18.

What is not known ends the call with a status and the sentence why, never with a number: NOT_FOUND where no
policy names the workload, INVALID_ARGUMENT for metadata that name none, else UNAVAILABLE. KEDA keeps the
replicas then, or does what the ScaledObject's ``fallback`` says. ``StreamMetricSpec`` is left out, as the
protocol allows: the target never changes, and KEDA would reconcile every ScaledObject at every connection.
``StreamIsActive`` sends what is known, at once and on every change, and

- says nothing while nothing is known: KEDA comes back after an error only when a pause has passed that
  doubles up to a minute, and a workload at zero would wait for it (after an error to its other questions it
  hangs up as well, until it polls again);
- repeats *active* while the workload has no replica: KEDA hears it once, and drops it where it has no metric
  name yet or the API server refuses its write.

A stream ends in order (and KEDA's pause begins anew at its shortest) when the door closes and every
``STREAM_SECONDS``, since KEDA forgets earlier failures at no other time (kedacore/keda,
pkg/scalers/external_scaler.go and pkg/scaling/scale_handler.go, v2.21).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc

from autoscaler.controller import PolicyKey
from autoscaler.doors.advice import Advice, Advised, NotKnown, Observer
from autoscaler.doors.external_metrics import DESIRED_REPLICAS
from autoscaler.doors.externalscaler import externalscaler_pb2 as pb

PUSH_SECONDS: Final = 0.5
REPEAT_SECONDS: Final = 2.0
STREAM_SECONDS: Final = 600.0
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
        repeat_seconds: float = REPEAT_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
        observe: Observer = lambda _result: None,
    ) -> None:
        """``push_seconds``: between looks of a stream. ``repeat_seconds``: until *active* is said again to a
        workload at zero. ``stream_seconds``: how long a stream lasts. ``observe`` hears of each answer.
        """
        self._advice = advice
        self._observe = observe
        self._push_seconds = push_seconds
        self._repeat_seconds = repeat_seconds
        self._stream_seconds = stream_seconds
        self._open = True

    def opened(self) -> None:
        """Streams last from now on. Called, as ``close`` is, by the thread that serves."""
        self._open = True

    def close(self) -> None:
        """End every stream in order, each at its next look."""
        self._open = False

    async def IsActive(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Whether the workload should have a replica at all."""
        return pb.IsActiveResponse(result=(await self._advised(request, context)).replicas > 0)

    async def StreamIsActive(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The same, at once and on every change, as the module says."""
        ends = time.monotonic() + self._stream_seconds
        key = await self._key(request, context)
        sent: bool | None = None
        sent_at_seconds = 0.0
        while self._open and (now := time.monotonic()) < ends:
            advised = await self._known(key, context)
            if advised is not None:
                active = advised.replicas > 0
                asleep = active and advised.current == 0
                if active != sent or (asleep and now - sent_at_seconds >= self._repeat_seconds):
                    sent, sent_at_seconds = active, now
                    yield pb.IsActiveResponse(result=active)
            await asyncio.sleep(self._push_seconds)

    async def GetMetricSpec(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The metric's name and target. Known without a decision, so that KEDA can make its HPA."""
        await self._key(request, context)
        return _specs()

    async def StreamMetricSpec(self, request: Any, context: Any) -> None:  # noqa: N802
        """Left out: KEDA goes on with ``GetMetricSpec`` alone."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "the target never changes: GetMetricSpec tells what it is"
        )

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

    async def _known(self, key: PolicyKey, context: Any) -> Advised | None:
        """The decision; None while nothing is known. A policy that is gone ends the call."""
        try:
            return self._advice.of(key)
        except NotKnown as unknown:
            if unknown.cause == "not_found":
                await self._refuse(context, grpc.StatusCode.NOT_FOUND, str(unknown))
            return None

    async def _refuse(self, context: Any, code: grpc.StatusCode, sentence: str) -> None:
        self._observe("not_known" if code is grpc.StatusCode.UNAVAILABLE else "mistaken")
        await context.abort(code, sentence)


def _specs() -> Any:
    spec = pb.MetricSpec(metricName=DESIRED_REPLICAS, targetSize=TARGET, targetSizeFloat=float(TARGET))
    return pb.GetMetricSpecResponse(metricSpecs=[spec])
