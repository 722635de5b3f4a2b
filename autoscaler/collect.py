"""Gather the signals of all workloads: one question a kind of signal for the whole cluster, joined by pod.

Prometheus knows pods, the API server knows whose pods they are. What is asked, and how often, is in
``questions``; how answers become numbers in ``answers``; what the pods' own pages add in ``merge_loads``;
which server a workload runs in ``server_memory``. Prometheus is the slow source with everything, the pages
(``scrape``) the fast one with the load alone, and either suffices.

Absence stays absence: a workload with ready pods none of which reports gets ``NoData``, a single silent pod
is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, Protocol

from autoscaler import questions
from autoscaler.answers import NO_MEANS, Answer, Answers, PodKey
from autoscaler.cold_start import ColdStarts
from autoscaler.merge_loads import MergedLoad, Told, merged
from autoscaler.outside import OutsideQueues, outside_queries
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight, Standing
from autoscaler.questions import Need, Question, need_of
from autoscaler.round_times import Phase
from autoscaler.scrape import NOT_SCRAPED, DirectScrape, Followed
from autoscaler.server_memory import ServerMemory
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.slow_answers import SlowAnswers
from autoscaler.streams import stream_of, stream_queries
from autoscaler.targets import ScaleSight, Target
from autoscaler.undisturbed import Held
from cluster.autoscaling_policy import AUTO, AutoscalingPolicy
from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, Scope, ServerPreset, find_preset, promql_duration
from metrics.servers.detect import detect, detection_query
from metrics.servers.page import readable

UNSCHEDULABLE_AFTER_SECONDS: Final = 60.0
# Pods come and go all the time in a large cluster; a new pod's server may be told a little later.
DETECT_SECONDS: Final = 15.0
# Shorter than this a difference between the sources is Prometheus' age, not a fault.
APART_SECONDS: Final = 60.0


class Source(Protocol):
    """What is needed of Prometheus."""

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        """Answer all queries at the same instant, each with a vector or with why there is none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A target with its policy and what its scale said."""

    policy: AutoscalingPolicy
    sight: ScaleSight


@dataclass(frozen=True, slots=True)
class _Seen:
    """The pods of a workload in this round, and its server (None: not recognised, ``unknown`` says why)."""

    present: tuple[PodSight, ...]
    keys: tuple[PodKey, ...]
    standings: Mapping[str, Standing]
    preset: ServerPreset | None
    unknown: NoData = NOT_ASKED


@dataclass(slots=True)
class _Kept:
    """What is kept of a workload between rounds: the starts that were watched, the loads of its pods, since
    when the two sources contradict each other, and how.
    """

    starts: ColdStarts = field(default_factory=ColdStarts)
    counted: frozenset[str] = frozenset()
    loads: Mapping[str, float] | None = None
    apart_since: float | None = None
    apart: str | None = None


class Collector:
    """Collects once a round. Used by one thread."""

    def __init__(
        self,
        source: Source,
        pods: PodIndex,
        *,
        scope: Scope = EVERYTHING,
        scrape: DirectScrape | None = None,
        executor: Executor | None = None,
        unschedulable_after_seconds: float = UNSCHEDULABLE_AFTER_SECONDS,
        doomed: Callable[[PodSight], bool] = lambda _pod: False,
        grid: Callable[[Sequence[PodSight]], float | NoData] = lambda _pods: NOT_ASKED,
    ) -> None:
        """``scrape`` asks the pods themselves; without it Prometheus alone tells. ``executor`` asks what is
        not urgent; without it the round does. ``doomed``: whether the pod's node is about to go. ``grid``:
        mean intensity of the grids under some pods, g/kWh.
        """
        self._doomed, self._grid = doomed, grid
        self._source, self._pods, self._scope, self._scrape = source, pods, scope, scrape
        self._unschedulable_after = unschedulable_after_seconds
        self._kept: dict[Target, _Kept] = {}
        self._servers = ServerMemory()
        self._detected: tuple[float, NoData | None] | None = None
        self._needs: frozenset[Need] = frozenset()
        self._questions: dict[str, Question] = {}
        self._outside = OutsideQueues(scope)
        self._outside_asked: dict[str, str] = {}
        self._outside_given: dict[str, Vector | NoData] = {}
        self._slow = SlowAnswers(lambda queries, at: source.query_many(queries, at), scope, executor)

    def check(self, policy: AutoscalingPolicy) -> None:
        """Raise ValueError with what is wrong when no question can be made from ``policy``."""
        if policy.server != AUTO:
            find_preset(policy.server)
        if policy.slo is not None:
            promql_duration(policy.slo.period_seconds)
        if policy.latency is not None:
            promql_duration(policy.latency.window_seconds)

    @property
    def beside(self) -> Sequence[Held]:
        """What is asked beside the rounds, by threads of its own."""
        return (self._slow,) if self._scrape is None else (self._slow, self._scrape)

    def ask(
        self,
        workloads: Sequence[Workload],
        at: float,
        enter: Callable[[Phase], None] = lambda _phase: None,
    ) -> Callable[[Workload], Signals]:
        """Ask everything at Unix time ``at``; the result gives the signals of any one of ``workloads``.
        ``enter`` is told where the time goes.

        An outage raises nothing: it is in the signals.
        """
        enter("pods")
        wanted = {workload.sight.target for workload in workloads}
        self._kept = {target: self._kept.get(target) or _Kept() for target in wanted}
        seen = self._look(workloads, at)
        needs = frozenset(
            need_of(w.policy, preset)
            for w in workloads
            if (preset := seen[w.sight.target].preset) is not None
        )
        if needs != self._needs:
            self._needs, self._questions = needs, questions.questions(needs, self._scope)
        self._outside_asked = {
            **outside_queries((w.policy.outside for w in workloads), self._scope),
            **stream_queries((w.policy.lag for w in workloads), self._scope),
        }
        enter("prometheus")
        read = Answers(self._answers(at))
        enter("pods")
        self._follow(workloads, seen)
        return lambda workload: self._signals(workload, seen[workload.sight.target], read, at)

    def pod_loads(self, target: Target) -> Mapping[str, float] | None:
        """Requests in flight of each pod that tells, by pod name, in the last round; None before one."""
        kept = self._kept.get(target)
        return None if kept is None else kept.loads

    def server_of(self, target: Target) -> str | None:
        """The server that was recognised; None where none was, or the policy names it."""
        preset = self._servers.preset_of(target)
        return None if preset is None else preset.name

    def contradiction(self, target: Target) -> str | None:
        """How Prometheus and the pods contradict each other, when they have done so for long."""
        kept = self._kept.get(target)
        return None if kept is None else kept.apart

    def forget(self) -> None:
        """Stop asking the pods: this process leads no more."""
        self._kept = {}
        if self._scrape is not None:
            self._scrape.follow({})

    # --- pods and servers -----------------------------------------------------------------------------

    def _look(self, workloads: Sequence[Workload], at: float) -> dict[Target, _Seen]:
        seen: dict[Target, _Seen] = {}
        unknown: list[Target] = []
        for workload in workloads:
            target = workload.sight.target
            pods = self._pods.matching(target.namespace, workload.sight.selector)
            standings = {pod.uid: self._standing(pod, at) for pod in pods}
            present = tuple(pod for pod in pods if standings[pod.uid] != "leaving")
            keys = tuple((pod.namespace, pod.name) for pod in present)
            preset = None if workload.policy.server == AUTO else find_preset(workload.policy.server)
            seen[target] = _Seen(present, keys, standings, preset)
            if preset is None and self._servers.wants(target, keys):
                unknown.append(target)
        self._servers.keep(seen.keys())
        self._recognise(unknown, seen, at)
        for workload in workloads:
            target, found = workload.sight.target, seen[workload.sight.target]
            if found.preset is None:
                preset = self._servers.preset_of(target)
                why = NOT_ASKED if preset is not None else self._unrecognised(found)
                seen[target] = _Seen(found.present, found.keys, found.standings, preset, why)
        return seen

    def _recognise(self, unknown: Sequence[Target], seen: Mapping[Target, _Seen], at: float) -> None:
        """Ask which servers run, when some workload wants to know and the last answer is not fresh."""
        if not unknown:
            return
        new = any(self._servers.preset_of(target) is None for target in unknown)
        asked = self._detected
        if asked is not None and asked[1] is None and 0.0 <= at - asked[0] < (5.0 if new else DETECT_SECONDS):
            return
        answer = self._source.query_many({"servers": detection_query(self._scope)}, at)["servers"]
        failed = answer if isinstance(answer, NoData) and answer.cause != "empty" else None
        self._detected = (at, failed)
        found = detect(answer, self._scope) if isinstance(answer, Vector) else {}
        for target in unknown:
            shown = NOT_SCRAPED if self._scrape is None else self._scrape.pages(target)
            self._servers.look(target, seen[target].keys, found, shown.server)

    def _unrecognised(self, seen: _Seen) -> NoData:
        if not seen.keys:
            return NoData("there is no pod yet that its model server could be recognised by", "empty")
        if self._detected is not None and self._detected[1] is not None:
            return self._detected[1]
        return NoData(
            f"no known model server is recognised by what the {len(seen.keys)} pods export: have Prometheus "
            "scrape them with the labels namespace and pod, or name the server in the policy",
            "misconfigured",
        )

    def _follow(self, workloads: Sequence[Workload], seen: Mapping[Target, _Seen]) -> None:
        if self._scrape is None:
            return
        followed: dict[Target, Followed] = {}
        for workload in workloads:
            signals, found = workload.policy.signals, seen[workload.sight.target]
            # A server that tells of other pods, or counts time only, is left to Prometheus.
            # Recognised by its proxies only: its own page may know better.
            preset = found.preset
            if workload.policy.server == AUTO and preset is not None and preset.only_the_door:
                preset = None
            if signals.direct_scrape and (preset is None or readable(preset)):
                share = workload.policy.in_flight
                followed[workload.sight.target] = Followed(
                    found.present,
                    preset,
                    signals.every_seconds,
                    None if share is None else share.per_replica,
                )
        self._scrape.follow(followed)

    # --- answers --------------------------------------------------------------------------------------

    def _answers(self, at: float) -> dict[str, Answer]:
        """Ask what every round asks; take what the slow questions have brought."""
        urgent = {name: q for name, q in self._questions.items() if not q.good_for_seconds}
        slow = {name: q for name, q in self._questions.items() if q.good_for_seconds}
        texts = {name: question.text(()) for name, question in urgent.items()}
        given = self._source.query_many({**texts, **self._outside_asked}, at)
        self._outside_given = {name: given[name] for name in self._outside_asked}
        # Begun only now, so that Prometheus does not work on it while the round waits.
        answers = self._slow.current(slow, at)
        for name, question in urgent.items():
            answers[name] = Answer(question, given[name], self._scope)
        return answers

    def _standing(self, pod: PodSight, at: float) -> Standing:
        standing = pod.standing(at, self._unschedulable_after)
        return "doomed" if standing != "leaving" and self._doomed(pod) else standing

    # --- one workload ---------------------------------------------------------------------------------

    def _signals(self, workload: Workload, seen: _Seen, read: Answers, now: float) -> Signals:
        policy, target, preset = workload.policy, workload.sight.target, seen.preset
        count = Counter(seen.standings.values())
        current, ready, stuck = workload.sight.replicas, count["ready"], count["unschedulable"]
        load = self._load(workload, seen, read, now)
        unknown = seen.unknown
        means = NO_MEANS if preset is None else read.means(preset, policy, seen.keys)
        guarded = policy.gpu_utilisation is not None
        return Signals(
            current=current,
            ready=ready,
            # Pods that the workload's controller has not made yet are on their way too.
            starting=max(count["starting"], current - ready - stuck),
            unschedulable=stuck,
            silent=load.silent,
            in_flight=load.in_flight,
            request_rate=unknown if preset is None else read.total(questions.RATE, preset.name, seen.keys),
            p95_seconds=unknown if preset is None else read.p95(preset, policy, seen.keys),
            gpu_utilisation=read.gpu(target.namespace, seen.present) if guarded else NOT_ASKED,
            cold_start_seconds=self._cold_start(target, seen.present),
            slo_missed=unknown if preset is None else read.missed(preset, policy, seen.keys),
            waiting=NOT_ASKED if policy.slo is None else load.waiting,
            waiting_outside=self._outside.waiting(
                policy.outside, target.namespace, target.name, self._outside_given, ready=ready
            ),
            tokens_in=means.tokens_in,
            tokens_out=means.tokens_out,
            token_seconds=means.token_seconds,
            service_seconds=means.service_seconds,
            unix_seconds=now,
            grid_grams_per_kwh=NOT_ASKED if policy.carbon is None else self._grid(seen.present),
            stream=stream_of(policy.lag, self._outside_given),
        )

    def _load(self, workload: Workload, seen: _Seen, read: Answers, now: float) -> MergedLoad:
        """Requests in flight by both sources."""
        target, preset = workload.sight.target, seen.preset
        kept = self._kept[target]
        told = Told({}, {}, seen.unknown)
        if preset is not None:
            in_flight = read.values(questions.IN_FLIGHT, preset.name)
            waiting = read.values(questions.WAITING, preset.name)
            told = Told(
                {pod: in_flight[ns, pod] for ns, pod in seen.keys if (ns, pod) in in_flight},
                {pod: waiting[ns, pod] for ns, pod in seen.keys if (ns, pod) in waiting},
                read.missing(questions.IN_FLIGHT, len(seen.keys)),
            )
        pages = NOT_SCRAPED if self._scrape is None else self._scrape.pages(target)
        ready = {pod.name for pod in seen.present if seen.standings[pod.uid] == "ready"}
        load = merged([pod.name for pod in seen.present], ready, told, pages.fresh, pages.asked)
        kept.loads = load.by_pod
        if load.apart is None:
            kept.apart_since = kept.apart = None
        elif kept.apart_since is None:
            kept.apart_since = now
        elif now - kept.apart_since >= APART_SECONDS:
            kept.apart = (
                f"for {now - kept.apart_since:.0f} s {load.apart.pods} pods themselves have told of "
                f"{load.apart.pages:.4g} requests in flight and Prometheus of {load.apart.prometheus:.4g}; "
                "the larger number counts; look for pods that are scraped twice or not at all"
            )
        return load

    def _cold_start(self, target: Target, pods: Sequence[PodSight]) -> float | NoData:
        kept = self._kept[target]
        new = [pod for pod in pods if pod.start_seconds is not None and pod.uid not in kept.counted]
        for pod in new:
            kept.starts = kept.starts.add(pod.start_seconds or 0.0)
        if new or len(kept.counted) > len(pods):
            there = {pod.uid for pod in pods}
            kept.counted = frozenset(uid for uid in kept.counted if uid in there) | {pod.uid for pod in new}
        return kept.starts.measured()
