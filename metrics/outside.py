"""Requests that wait outside a workload's pods: what gateways, activators and interceptors tell of them.

One query a source for all workloads; whose requests they are is told by labels, by which an answer is matched
afterwards. Where a source changed its names, the newer one goes first and the older fills in.

- ``knative-activator``: requests held by Knative's activator; OpenTelemetry names in newer releases, before
  them OpenCensus ones.
- ``inference-gateway``: the flow control queue of the endpoint picker (Gateway API inference extension; llm-d
  renamed it). It carries no namespace of its own: that of the scrape counts, as far as there is one.
- ``keda-http``: requests at the interceptor of KEDA's HTTP add-on; older releases tell them by host.
- ``istio``: requests that a proxy turned away for want of a pod (response flag UH), over the last minute.

All but the queue of the inference gateway count requests that a pod answers by now as well, so they tell of
waiting ones only while no pod is ready (``only_without_pods``).

Where series come and go with the requests, the query also asks for one that is there for as long as the
source is scraped (``presence``), tagged by ``PART``: Go statistics of older activators, ``target_info`` of
what speaks OpenTelemetry, ``istio_build`` of Istio's proxies. Pure: names and query text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from metrics.parts import PART, tagged
from metrics.samples import Sample
from metrics.servers import EVERYTHING, Scope

_PRESENCE: Final = "presence"


@dataclass(frozen=True, slots=True)
class Series:
    """One family of series. ``measure``: PromQL with ``%s`` for the selector; ``matchers``: what is selected;
    ``namespace``: the label with the workload's namespace, empty for that of the scrape, None where nothing
    tells it; ``names``: labels that name the workload.
    """

    metric: str
    namespace: str | None
    names: tuple[str, ...]
    measure: str = "%s"
    matchers: str = ""

    def query(self, scope: Scope) -> str:
        """The sum by whom it is about."""
        labels = ", ".join((*self._namespace_label(scope), *self.names))
        return f"sum by ({labels}) ({self.measure % scope.select(self.metric, self.matchers)})"

    def is_about(self, labels: Mapping[str, str], namespace: str, name: str, scope: Scope) -> bool:
        """Whether a series of this answer is about the workload; without a namespace it is about any."""
        there = [labels[label] for label in self._namespace_label(scope) if label in labels]
        return all(one == namespace for one in there) and any(labels.get(one) == name for one in self.names)

    def _namespace_label(self, scope: Scope) -> tuple[str, ...]:
        return () if self.namespace is None else (self.namespace or scope.namespace_label,)


@dataclass(frozen=True, slots=True)
class OutsideSource:
    """A source by its name in a policy. ``presence``: metrics with their matchers, of which one is there for
    as long as the source is scraped; empty where the series that it has shown stay that long themselves.
    """

    name: str
    series: tuple[Series, ...]
    only_without_pods: bool = True
    presence: tuple[tuple[str, str], ...] = ()

    def query(self, scope: Scope = EVERYTHING) -> str:
        """All that wait, by whom they wait for; and whether the source is scraped."""
        parts = [f"({series.query(scope)})" for series in self.series]
        if self.presence:
            there = " or ".join(scope.select(metric, matchers) for metric, matchers in self.presence)
            parts.append(tagged(f"count({there})", _PRESENCE))
        return " or ".join(parts)

    def told(self, samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], bool]:
        """Of an answer what tells of requests, and whether silence beside it means that none wait."""
        about = tuple(sample for sample in samples if sample.labels.get(PART) != _PRESENCE)
        return about, len(about) < len(samples) if self.presence else bool(about)

    def waiting(
        self, samples: Sequence[Sample], namespace: str, name: str, scope: Scope = EVERYTHING
    ) -> float:
        """How many wait for ``name``: 0 where no series is about it."""
        return sum(
            sample.value
            for sample in samples
            if any(series.is_about(sample.labels, namespace, name, scope) for series in self.series)
        )


_REVISION: Final = ("kn_revision_name", "kn_service_name", "kn_configuration_name")
_OLD_REVISION: Final = ("revision_name", "service_name", "configuration_name")
_POOL: Final = ("inference_pool", "target_model_name", "model_name")

OUTSIDE_SOURCES: Final[dict[str, OutsideSource]] = {
    source.name: source
    for source in (
        OutsideSource(
            "knative-activator",
            (
                Series("kn_revision_request_queued", "k8s_namespace_name", _REVISION),
                Series("kn_revision_request_concurrency", "k8s_namespace_name", _REVISION),
                Series("activator_request_concurrency", "namespace_name", _OLD_REVISION),
            ),
            presence=(("target_info", 'service_name="activator"'), ("activator_go_mallocs", "")),
        ),
        OutsideSource(
            "inference-gateway",
            (
                Series("llm_d_epp_flow_control_queue_size", "", _POOL),
                Series("inference_extension_flow_control_queue_size", "", _POOL),
            ),
            only_without_pods=False,  # and no presence: a gauge of one process that is never taken back
        ),
        OutsideSource(
            "keda-http",
            (
                Series("interceptor_request_concurrency", "route_namespace", ("route_name",)),
                Series("interceptor_pending_request_count", None, ("host",)),
            ),
            presence=(("target_info", 'service_name="interceptor-proxy"'),),
        ),
        OutsideSource(
            "istio",
            (
                Series(
                    "istio_requests_total",
                    "destination_service_namespace",
                    ("destination_service_name", "destination_workload"),
                    "increase(%s[1m])",
                    'reporter="source", response_flags="UH"',
                ),
            ),
            presence=(("istio_build", 'component="proxy"'),),
        ),
    )
}
