"""The autoscaling policy of one workload: its target, signals, steps, and what to do in an outage.

Pure. The YAML stands in a ConfigMap labelled ``slicewise.io/policy: autoscaling`` in the workload's namespace
under ``policy.yaml``. ``target`` and ``maxReplicas`` have no sensible default and must be given, as must a
signal (``inFlight`` or ``latency``). How a policy turns into a replica count: ``autoscaler.decide``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from cluster.carbon_trade_policy import Attainment, CarbonTrade
from cluster.lag_policy import Lag
from cluster.policy_model import (
    API_VERSION,
    AtLeastOne,
    Count,
    Name,
    NonNegative,
    PolicyModel,
    Positive,
    Share,
    load,
    schema,
)
from cluster.warm_policy import Warm
from metrics.servers import PRESETS, ServerPreset

AUTO: Final = "auto"
"""The server is recognised by what its pods export."""


class Target(PolicyModel):
    """The workload: any resource with a scale subresource, in the ConfigMap's namespace."""

    api_version: Name = Field(default="apps/v1", description="apiVersion of the workload")
    kind: Name = Field(default="Deployment", description="kind of the workload")
    name: Name = Field(description="name of the workload")


class InFlight(PolicyModel):
    """Requests in flight (running and waiting) as the sizing signal."""

    per_replica: Positive = Field(
        default=16.0,
        description="requests in flight that one replica should carry; to have it learned, leave out "
        "inFlight and state slo",
    )


class Latency(PolicyModel):
    """A bound on p95 latency that may raise the replicas and forbid lowering; slo learns, this does not."""

    p95_seconds: Positive = Field(description="seconds that 95 of 100 requests stay below")
    measure: Literal["e2e", "ttft"] = Field(
        default="e2e", description="whole request (e2e) or time to first token (ttft)"
    )
    window_seconds: Positive = Field(default=60.0, description="seconds over which the quantile is taken")


class Slo(PolicyModel):
    """The service level objective that the headroom is learned from."""

    attainment: Attainment = Field(
        default=0.99, description="share of requests that shall be answered in time, from 0.5 to below 1"
    )
    latency_seconds: Positive = Field(description="seconds within which a request is in time")
    measure: Literal["e2e", "ttft", "itl"] = Field(
        default="e2e",
        description="whole request (e2e), time to first token (ttft) or time between tokens (itl)",
    )
    worth: Positive = Field(
        default=50.0,
        description="what fewer late requests may cost, in times their share of the fleet: at 50, one in a "
        "hundred fewer may take half the fleet again; headroom that costs more is not taken",
    )
    period_seconds: Positive = Field(
        default=60.0, description="seconds between two corrections of the headroom"
    )
    learning_rate: Positive = Field(
        default=0.2, description="deviations that a period in which every request was late adds"
    )
    least_headroom: NonNegative = Field(
        default=0.0, description="least headroom, in deviations of the load from its forecast"
    )
    most_headroom: NonNegative = Field(
        default=8.0, description="most headroom, in deviations of the load from its forecast"
    )


class Panic(PolicyModel):
    """What a burst does: it raises at once and forbids lowering for a scale-down window."""

    threshold: Annotated[float, Field(strict=True, gt=1, allow_inf_nan=False)] = Field(
        default=2.0, description="load over what the ready replicas hold from which a burst is a panic"
    )


class GpuUtilisation(PolicyModel):
    """GPU utilisation as a guard, never as the only reason to grow."""

    scale_down_below: Share | None = Field(
        default=0.5,
        description="share of GPU time in use above which no replica is removed; null for no guard",
    )
    scale_up_above: Share | None = Field(
        default=None, description="share of GPU time in use above which a replica is added; null for never"
    )


class ScaleUp(PolicyModel):
    """How fast to grow."""

    tolerance: NonNegative = Field(default=0.05, description="relative excess of load that is ignored")
    stabilisation_seconds: NonNegative = Field(
        default=0.0, description="seconds for which a higher need must last"
    )
    max_step_percent: NonNegative = Field(
        default=100.0, description="largest growth in one period, percent of the replicas"
    )
    max_step_replicas: Count = Field(
        default=4, description="growth in one period that is always allowed, replicas"
    )


class ScaleDown(PolicyModel):
    """How fast to shrink."""

    tolerance: NonNegative = Field(default=0.1, description="relative lack of load that is ignored")
    stabilisation_seconds: NonNegative = Field(
        default=300.0, description="seconds over which the highest need counts"
    )
    max_step_percent: NonNegative = Field(
        default=50.0, description="largest reduction in one period, percent of the replicas"
    )
    max_step_replicas: Count = Field(default=4, description="largest reduction in one period, replicas")
    margin: Share = Field(default=0.1, description="share of capacity kept spare when shrinking")


class Outage(PolicyModel):
    """What to do when the signals stay away; the replicas are held before that."""

    fallback_after_seconds: NonNegative = Field(
        default=600.0, description="seconds without signals before the fallback"
    )
    fallback_replicas: Count | None = Field(
        default=None, description="replicas to go up to; null holds the replicas for ever"
    )


class Outside(PolicyModel):
    """Where requests wait before they reach a pod: what wakes a workload from zero replicas."""

    source: Literal["knative-activator", "inference-gateway", "keda-http", "istio"] | None = Field(
        default=None, description="what holds (istio: turns away) requests while no pod is there"
    )
    name: Name | None = Field(
        default=None,
        description="the workload's name at the source: revision, service, pool, model, route or host; by "
        "default the target's own",
    )
    query: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None, description="PromQL instead of a source: the number of requests that wait"
    )


class SignalSources(PolicyModel):
    """Where requests in flight are read, besides Prometheus."""

    direct_scrape: bool = Field(
        default=True,
        description="ask the pods themselves as well; where they cannot be reached Prometheus alone tells",
    )
    every_seconds: Annotated[float, Field(strict=True, ge=0.5, le=60, allow_inf_nan=False)] = Field(
        default=2.0, description="seconds between two looks at a pod's own metrics, 0.5 to 60"
    )


class Variant(PolicyModel):
    """One of several workloads that serve the same model on different GPUs behind one gateway."""

    of: Name = Field(description="name of the model; the policies of its variants share it")
    requests_per_second: Positive | None = Field(
        default=None,
        description="requests a second that one replica serves in time; learned while null",
    )


class AutoscalingPolicy(PolicyModel):
    """The policy of one workload."""

    api_version: Literal["slicewise.io/v1alpha1"] = Field(
        default="slicewise.io/v1alpha1", description="version of this format"
    )
    kind: Literal["AutoscalingPolicy"] = Field(default="AutoscalingPolicy", description="kind of policy")
    target: Target
    actuator: Literal["write", "advise"] = Field(
        default="write",
        description="write sets the replicas; advise only decides, and an HPA or KEDA follows the decision",
    )
    server: Name = Field(
        default=AUTO,
        description="name of the inference server's preset; auto recognises it by what its pods export",
    )
    signals: SignalSources = SignalSources()
    min_replicas: Count = Field(default=1, description="fewest replicas")
    max_replicas: AtLeastOne = Field(description="most replicas")
    in_flight: InFlight | None = None
    latency: Latency | None = None
    slo: Slo | None = None
    lag: Lag | None = None
    carbon: CarbonTrade | None = None
    gpu_utilisation: GpuUtilisation | None = None
    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()
    panic: Panic | None = None
    variant: Variant | None = None
    cold_start_seconds: NonNegative = Field(
        default=60.0, description="seconds from a new replica to its first answer, until measured"
    )
    outage: Outage = Outage()
    outside: Outside | None = None
    warm: Warm = Warm()
    period_seconds: Positive = Field(default=5.0, description="seconds between two decisions")

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        found: list[tuple[tuple[str | int, ...], object, str, str]] = []
        if self.server != AUTO and self.server not in PRESETS:
            found.append(
                (
                    ("server",),
                    self.server,
                    f"{AUTO} or one of {', '.join(sorted(PRESETS))}",
                    "name one, or leave the key out: the server is recognised by what its pods export",
                )
            )
        if self.min_replicas > self.max_replicas:
            found.append(
                (
                    ("minReplicas",),
                    self.min_replicas,
                    f"at most maxReplicas ({self.max_replicas})",
                    "lower it or raise maxReplicas",
                )
            )
        fallback = self.outage.fallback_replicas
        if fallback is not None and not self.min_replicas <= fallback <= self.max_replicas:
            found.append(
                (
                    ("outage", "fallbackReplicas"),
                    fallback,
                    f"minReplicas ({self.min_replicas}) to maxReplicas ({self.max_replicas})",
                    "choose a number between the two",
                )
            )
        guard = self.gpu_utilisation
        if (
            guard is not None
            and guard.scale_up_above is not None
            and guard.scale_down_below is not None
            and guard.scale_down_below >= guard.scale_up_above
        ):
            found.append(
                (
                    ("gpuUtilisation", "scaleDownBelow"),
                    guard.scale_down_below,
                    f"less than scaleUpAbove ({guard.scale_up_above:g})",
                    "leave a gap between the two",
                )
            )
        if self.carbon is not None:
            found.extend(self.carbon.against(None if self.slo is None else self.slo.attainment))
        if self.lag is not None and (self.in_flight is not None or self.slo is not None):
            found.append(
                (
                    ("lag",),
                    self.lag.group,
                    "no inFlight and no slo beside it",
                    "size a streaming consumer by lag alone, or delete lag",
                )
            )
        if self.in_flight is None and self.latency is None and self.slo is None and self.lag is None:
            found.append(
                (
                    ("inFlight",),
                    None,
                    "inFlight or latency, an objective (slo), or lag for a streaming consumer",
                    "state the objective, or give one of the two signals",
                )
            )
        outside = self.outside
        if outside is not None and (outside.source is None) == (outside.query is None):
            found.append(
                (
                    ("outside",),
                    None,
                    "one of source and query",
                    "name the source of the waiting requests, or give a query of your own",
                )
            )
        slo = self.slo
        if slo is not None and slo.least_headroom > slo.most_headroom:
            found.append(
                (
                    ("slo", "leastHeadroom"),
                    slo.least_headroom,
                    f"at most mostHeadroom ({slo.most_headroom:g})",
                    "lower it or raise mostHeadroom",
                )
            )
        return found


def remarks(policy: AutoscalingPolicy) -> tuple[str, ...]:
    """What is allowed in a policy and still hardly meant, one sentence each."""
    found = []
    woken = policy.outside is not None or policy.lag is not None or policy.variant is not None
    if policy.min_replicas == 0 and not woken:
        found.append(
            "minReplicas: 0 without outside: one replica stays, since nothing outside the pods could ask for "
            "the first one back; name a source under outside, or write minReplicas: 1"
        )
    preset, slo, latency = PRESETS.get(policy.server), policy.slo, policy.latency
    if preset is not None and slo is not None and slo.measure not in preset.latency:
        found.append(
            f"slo.measure: {preset.name} exports no histogram of {slo.measure}, so what was really late is "
            "not learned from and the headroom goes by the load alone" + _measures(preset)
        )
    if preset is not None and slo is not None and policy.in_flight is None and not preset.tokens_out:
        found.append(
            f"inFlight: {preset.name} counts no tokens, so what one replica carries is not learned and taken "
            "for 16; give inFlight.perReplica"
        )
    if (
        preset is not None
        and latency is not None
        and latency.measure not in {*preset.latency, *preset.summaries}
    ):
        found.append(
            f"latency.measure: {preset.name} exports no {latency.measure}, so latency neither raises nor "
            "holds" + _measures(preset)
        )
    return tuple(found)


def _measures(preset: ServerPreset) -> str:
    told = sorted({*preset.latency, *preset.summaries})
    return f"; it exports {', '.join(told)}" if told else "; it exports no latency at all"


def load_autoscaling_policy(text: str, where: str) -> AutoscalingPolicy:
    """Read the text of an autoscaling policy; ``where`` names it in messages.

    Raises PolicyRefused with every problem found.
    """
    return load(AutoscalingPolicy, text, where)


def autoscaling_policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of the autoscaling policy."""
    return schema(AutoscalingPolicy, f"Slicewise AutoscalingPolicy {API_VERSION}")
