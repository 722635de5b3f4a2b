"""From the answers of Prometheus to the numbers of one workload: sums over its pods, means and quantiles.

Buckets of latency histograms are added over a workload's pods before the quantile is taken, totals and counts
before their mean: a mean of quantiles is no quantile, a mean of means is none of the requests. Requests that
never reached a server (dropped before it) are in no histogram. Absence stays absence, with the source's own
words. Nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from autoscaler import questions
from autoscaler.pods import PodSight
from autoscaler.questions import ABOUT, Question
from autoscaler.signals import NOT_ASKED
from cluster.policy import AutoscalingPolicy
from metrics import dcgm
from metrics.histogram import add_buckets, buckets_by_pod, quantile_from_buckets, share_above
from metrics.parts import PART
from metrics.samples import NoData, Sample, Vector
from metrics.servers import Scope, ServerPreset
from metrics.servers.means import TOKENS_IN, TOKENS_OUT
from metrics.servers.preset import Measure
from metrics.units import TimeUnit, to_seconds

PodKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Means:
    """Means a request (see ``Signals``)."""

    tokens_in: float | NoData
    tokens_out: float | NoData
    token_seconds: float | NoData
    service_seconds: float | NoData


NO_MEANS = Means(NOT_ASKED, NOT_ASKED, NOT_ASKED, NOT_ASKED)


class Answer:
    """The answer to one question, sorted by what it is about and by pod when first needed; kept as long as
    the answer is good.
    """

    def __init__(self, question: Question, given: Vector | NoData, scope: Scope) -> None:
        self.question = question
        self.given = given
        self._scope = scope
        self._sorted: dict[str, Vector] | None = None
        self._made: dict[tuple[str, ...], Any] = {}
        self._gpus: tuple[Vector | NoData, dcgm.GpuUtilisation | NoData] | None = None

    def read(self) -> None:
        """Sort it now as it will be wanted, so that the round that first wants it does not have to."""
        about = self.question.sole
        if about is None:
            return
        match self.question.read_by:
            case "values":
                self.by_pod(about)
            case "parts":
                self.parts_by_pod(about)
            case "buckets":
                self.buckets(about, self.question.unit)
            case None:
                return

    def utilisation(self, mig: Vector | NoData) -> dcgm.GpuUtilisation | NoData:
        """GPU use by pod: of whole GPUs, which this answer tells of, and of MIG devices."""
        if self._gpus is None or self._gpus[0] is not mig:
            self._gpus = mig, dcgm.utilisation(self.given, mig)
        return self._gpus[1]

    @property
    def failed(self) -> NoData | None:
        """Why there is no answer, None when there is one (an empty one included)."""
        return self.given if isinstance(self.given, NoData) and self.given.cause != "empty" else None

    def by_pod(self, about: str) -> Mapping[PodKey, float]:
        """Values by pod."""
        return self._once(("values", about), lambda: self._values(self._about(about).samples))  # type: ignore[no-any-return]

    def parts_by_pod(self, about: str) -> Mapping[str, Mapping[PodKey, float]]:
        """Values by part (``means``) and pod."""

        def sort() -> dict[str, dict[PodKey, float]]:
            parts: dict[str, list[Sample]] = {}
            for sample in self._about(about).samples:
                parts.setdefault(sample.labels.get(PART, ""), []).append(sample)
            return {part: self._values(samples) for part, samples in parts.items()}

        return self._once(("parts", about), sort)  # type: ignore[no-any-return]

    def buckets(self, about: str, unit: TimeUnit) -> Mapping[PodKey, dict[float, float]]:
        """Histograms by pod, bounds in seconds."""
        scope = self._scope

        def sort() -> dict[PodKey, dict[float, float]]:
            return buckets_by_pod(self._about(about), unit, scope.namespace_label, scope.pod_label)

        return self._once(("buckets", about, unit), sort)  # type: ignore[no-any-return]

    def _about(self, about: str) -> Vector:
        if not isinstance(self.given, Vector):
            return Vector(())
        if self.question.sole is not None:
            return self.given if self.question.sole == about else Vector(())
        if self._sorted is None:
            found: dict[str, list[Sample]] = {}
            for sample in self.given.samples:
                found.setdefault(sample.labels.get(ABOUT, ""), []).append(sample)
            self._sorted = {name: Vector(tuple(samples)) for name, samples in found.items()}
        return self._sorted.get(about, Vector(()))

    def _values(self, samples: Iterable[Sample]) -> dict[PodKey, float]:
        namespace, pod = self._scope.namespace_label, self._scope.pod_label
        return {(s.labels.get(namespace, ""), s.labels.get(pod, "")): s.value for s in samples}

    def _once(self, key: tuple[str, ...], make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class Answers:
    """All answers of one round."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self._gpus: dcgm.GpuUtilisation | NoData | None = None

    def values(self, name: str, about: str) -> Mapping[PodKey, float]:
        """Values by pod; nothing where there is no answer."""
        answer = self._answers.get(name)
        return {} if answer is None else answer.by_pod(about)

    def missing(self, name: str, pods: int) -> NoData:
        """Why none of a workload's ``pods`` has a value."""
        answer = self._answers.get(name)
        if answer is None:
            return NoData("the server's preset has no such metric", "empty")
        return answer.failed or NoData(f"none of the {pods} pods reports it", "empty")

    def total(self, name: str, about: str, pods: Sequence[PodKey]) -> float | NoData:
        """Sum over those of ``pods`` that report; NoData when none does."""
        values = self.values(name, about)
        found = [values[pod] for pod in pods if pod in values]
        return sum(found) if found else self.missing(name, len(pods))

    def p95(self, preset: ServerPreset, policy: AutoscalingPolicy, pods: Sequence[PodKey]) -> float | NoData:
        """The 95th percentile of the policy's latency over its window, seconds."""
        latency = policy.latency
        if latency is None:
            return NOT_ASKED
        summary = preset.summaries.get(latency.measure)
        if latency.measure not in preset.latency and summary is not None:
            return self._stated_p95(questions.about(preset, latency.measure), summary.unit, pods)
        buckets = self._histogram(preset, latency.measure, latency.window_seconds, pods)
        return buckets if isinstance(buckets, NoData) else quantile_from_buckets(buckets, 0.95)

    def missed(
        self, preset: ServerPreset, policy: AutoscalingPolicy, pods: Sequence[PodKey]
    ) -> float | NoData:
        """Share of the requests finished in the last learning period that took longer than the bound."""
        slo = policy.slo
        if slo is None:
            return NOT_ASKED
        buckets = self._histogram(preset, slo.measure, slo.period_seconds, pods)
        return buckets if isinstance(buckets, NoData) else share_above(buckets, slo.latency_seconds)

    def means(self, preset: ServerPreset, policy: AutoscalingPolicy, pods: Sequence[PodKey]) -> Means:
        """Tokens and times a request, over the learning period."""
        slo = policy.slo
        if slo is None:
            return NO_MEANS
        about = questions.about(preset, slo.measure)
        answer = self._answers.get(questions.means_of(about, slo.period_seconds))
        if answer is None:
            none = NoData(f"server {preset.name} counts no tokens and no times", "misconfigured")
            return Means(none, none, none, none)
        if answer.failed is not None:
            return Means(answer.failed, answer.failed, answer.failed, answer.failed)
        parts = answer.parts_by_pod(about)
        return Means(
            _mean(parts, TOKENS_IN, pods),
            _mean(parts, TOKENS_OUT, pods),
            _mean(parts, "itl", pods),
            _mean(parts, slo.measure, pods),
        )

    def gpu(self, namespace: str, pods: Sequence[PodSight]) -> float | NoData:
        """GPU utilisation of the workload, 0 to 1."""
        if self._gpus is None:
            whole, mig = self._answers.get(questions.GPU_WHOLE), self._answers.get(questions.GPU_MIG)
            slices = NOT_ASKED if mig is None else mig.given
            self._gpus = dcgm.utilisation(NOT_ASKED, slices) if whole is None else whole.utilisation(slices)
        if isinstance(self._gpus, NoData):
            return self._gpus
        found = self._gpus.workload(namespace, [pod.name for pod in pods])
        return found if isinstance(found, NoData) else found.ratio

    def _histogram(
        self, preset: ServerPreset, measure: Measure, window_seconds: float, pods: Sequence[PodKey]
    ) -> dict[float, float] | NoData:
        """The latency histogram of ``pods`` together: rates by bound in seconds."""
        histogram = preset.latency.get(measure)
        about = questions.about(preset, measure)
        answer = self._answers.get(questions.buckets_of(about, window_seconds))
        if histogram is None or answer is None:
            return NoData(f"server {preset.name} has no such latency histogram", "misconfigured")
        if isinstance(answer.given, NoData):
            return answer.given
        by_pod = answer.buckets(about, histogram.unit)
        found = [by_pod[pod] for pod in pods if pod in by_pod]
        if not found:
            return NoData(f"none of the {len(pods)} pods reports its latency", "empty")
        return add_buckets(found)

    def _stated_p95(self, about: str, unit: TimeUnit, pods: Sequence[PodKey]) -> float | NoData:
        """Quantiles of single pods cannot be added: the slowest pod speaks for all."""
        answer = self._answers.get(questions.stated_of(about))
        if answer is None:
            return NOT_ASKED
        if isinstance(answer.given, NoData):
            return answer.given
        values = answer.by_pod(about)
        found = [values[pod] for pod in pods if pod in values]
        return to_seconds(max(found), unit) if found else NoData("no pod states its latency", "empty")


def _mean(parts: Mapping[str, Mapping[PodKey, float]], name: str, pods: Sequence[PodKey]) -> float | NoData:
    totals, counts = parts.get(f"{name} total"), parts.get(f"{name} count")
    told, total, count = False, 0.0, 0.0
    if totals and counts:
        for pod in pods:
            if pod in totals and pod in counts:
                told, total, count = True, total + totals[pod], count + counts[pod]
    if not told:
        return NoData(f"none of the {len(pods)} pods counts {name}", "empty")
    if not count > 0.0:
        return NoData(f"no request was finished that {name} could be counted of", "not-a-number")
    return total / count
