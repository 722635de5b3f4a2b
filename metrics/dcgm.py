"""GPU utilisation a pod, from dcgm-exporter, as a ratio from 0 to 1 whatever the card.

Whole GPUs report ``DCGM_FI_DEV_GPU_UTIL`` in percent; MIG instances have no such field, permanently, and
report ``DCGM_FI_PROF_GR_ENGINE_ACTIVE`` as a ratio. Only series with ``GPU_I_ID`` are read on MIG: what the
parent GPU reports there is disputed. Values are instantaneous, so at least two samples inside the window
are averaged, and fewer count as absent.

The pod is in ``exported_pod``/``exported_namespace`` when Prometheus kept its own target labels (``pod`` is
then the exporter's), else in ``pod``/``namespace``. GPUs that no pod holds come out under the exporter's
own pod or without one; nobody asks for those.

Utilisation is the share of time in which something ran, not how much: a guard for scaling down, no measure
of load. Sources: dcgm-exporter ``etc/dcp-metrics-included.csv``, issues 216, 50, 430. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from metrics.samples import Labels, NoData, Vector
from metrics.servers.preset import Scope, promql_duration
from metrics.units import ShareUnit, to_ratio

GPU_UTIL: Final = "DCGM_FI_DEV_GPU_UTIL"
SM_ACTIVE: Final = "DCGM_FI_PROF_SM_ACTIVE"
GR_ENGINE_ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
DEFAULT_WINDOW_SECONDS: Final = 120.0
"""dcgm-exporter collects every 30 s by default: two minutes hold at least two of its own samples."""

Part: TypeAlias = Literal["whole", "mig"]
PodKey: TypeAlias = tuple[str, str]
"""(namespace, pod)"""


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Mean share of time busy, 0 to 1, over the pod's GPUs or MIG instances (or over ``pods`` pods of a
    workload), and the DCGM fields it came from.
    """

    ratio: float
    fields: tuple[str, ...]
    pods: int = 1


@dataclass(frozen=True, slots=True)
class GpuUtilisation:
    """What both queries said. ``absent`` is set when a query failed (not merely found nothing): pods without
    a value may then be there all the same.
    """

    pods: Mapping[PodKey, Utilisation]
    absent: NoData | None = None

    def pod(self, namespace: str, pod: str) -> Utilisation | NoData:
        return self.pods.get((namespace, pod)) or self._missing(f"pod {namespace}/{pod}")

    def workload(self, namespace: str, pods: Iterable[str]) -> Utilisation | NoData:
        """Mean over those ``pods`` that have a value; ``Utilisation.pods`` says how many that are."""
        found = [value for pod in pods if (value := self.pods.get((namespace, pod))) is not None]
        if not found:
            return self._missing(f"the pods asked for in namespace {namespace}")
        fields = tuple(sorted({field for value in found for field in value.fields}))
        return Utilisation(sum(value.ratio for value in found) / len(found), fields, len(found))

    def _missing(self, whose: str) -> NoData:
        return self.absent or NoData(f"DCGM reports no utilisation, or too few samples, for {whose}", "empty")


def queries(window_seconds: float = DEFAULT_WINDOW_SECONDS, matchers: str = "") -> dict[Part, str]:
    """One query for whole GPUs and one for MIG instances, each for all pods. ``matchers`` goes into each
    selector.
    """
    scope = Scope(matchers=matchers)
    return {
        "whole": _query(scope.select(GPU_UTIL, 'GPU_I_ID=""'), window_seconds),
        "mig": _query(scope.select(GR_ENGINE_ACTIVE, 'GPU_I_ID!=""'), window_seconds),
    }


def sm_activity_query(window_seconds: float = DEFAULT_WINDOW_SECONDS, matchers: str = "") -> str:
    """Mean share of time in which the SMs had work, by pod: for a pod that never lacks work, its speed."""
    scope = Scope(matchers=matchers)
    instances = _query(scope.select(SM_ACTIVE, 'GPU_I_ID!=""'), window_seconds)
    whole = _query(scope.select(SM_ACTIVE, 'GPU_I_ID=""'), window_seconds)
    # Where a pod has MIG instances, what their parent GPU reports is not its own.
    return f"{instances} or {whole}"


def sm_activity(answer: Vector | NoData) -> Mapping[PodKey, float]:
    """Read the answer to ``sm_activity_query``, 0 to 1 by pod; values that are no ratio are left out."""
    samples = () if isinstance(answer, NoData) else answer.samples
    found = {_pod(sample.labels): to_ratio(sample.value, "ratio") for sample in samples}
    return {pod: value for pod, value in found.items() if not isinstance(value, NoData)}


def _query(selector: str, window_seconds: float) -> str:
    window = promql_duration(window_seconds)
    return (
        "avg by (namespace, pod, exported_namespace, exported_pod) "
        f"(avg_over_time({selector}[{window}]) and count_over_time({selector}[{window}]) >= 2)"
    )


def utilisation(whole: Vector | NoData, mig: Vector | NoData) -> GpuUtilisation | NoData:
    """Read the answers to ``queries``. ``NoData`` when neither has a value; its reason is the graver of the
    two.

    A value that is no share of its unit (percent where a ratio is due) makes its pod absent, not wrong.
    """
    values: dict[PodKey, list[tuple[float, str]]] = {}
    refused: NoData | None = None
    parts: tuple[tuple[Vector | NoData, ShareUnit, str], ...] = (
        (whole, "percent", GPU_UTIL),
        (mig, "ratio", GR_ENGINE_ACTIVE),
    )
    for answer, unit, field in parts:
        if isinstance(answer, NoData):
            continue
        for sample in answer.samples:
            ratio = to_ratio(sample.value, unit)
            if isinstance(ratio, NoData):
                refused = NoData(
                    f"{field} of pod {'/'.join(_pod(sample.labels))}: {ratio.reason}", ratio.cause
                )
                continue
            values.setdefault(_pod(sample.labels), []).append((ratio, field))
    failed = next((a for a in (whole, mig) if isinstance(a, NoData) and a.cause != "empty"), None) or refused
    if not values:
        return failed or NoData("Prometheus has no DCGM utilisation of any pod", "empty")
    pods = {
        pod: Utilisation(sum(r for r, _ in readings) / len(readings), tuple(sorted({f for _, f in readings})))
        for pod, readings in values.items()
    }
    return GpuUtilisation(pods, failed)


def _pod(labels: Labels) -> PodKey:
    if labels.get("exported_pod"):
        return labels.get("exported_namespace", ""), labels["exported_pod"]
    return labels.get("namespace", ""), labels.get("pod", "")
