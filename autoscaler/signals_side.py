"""Where the autoscaler's signals come from, put together: Prometheus, the pods' own pages, scales by watch.

Owns the threads that ask the pods and the watches of the scales; ``collector`` and ``scales`` are what the
control loop uses. Started before the loop and stopped after it. Only a process that leads asks pods: the
collector tells the scrape whom to follow, and tells it nobody when the lead is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from autoscaler.collect import Collector, Source
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.scale_index import ScaleIndex
from autoscaler.scrape import DirectScrape, Outcome
from autoscaler.signals import NOT_ASKED
from autoscaler.targets import Targets
from cluster.client import Api
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.samples import NoData
from metrics.servers import Scope


class SignalsSide:
    """The sources of one controller."""

    def __init__(
        self,
        api: Api,
        source: Source,
        pods: PodIndex,
        metrics: AutoscalerMetrics,
        *,
        matchers: str = "",
        burst: Callable[[], None] = lambda: None,
        doomed: Callable[[PodSight], bool] = lambda _pod: False,
        grid: Callable[[Sequence[PodSight]], float | NoData] = lambda _pods: NOT_ASKED,
    ) -> None:
        """``burst``: see ``DirectScrape``; ``doomed`` and ``grid``: see ``Collector``."""

        def observed(outcome: Outcome) -> None:
            metrics.direct_scrapes.labels(outcome).inc()

        self.scales = ScaleIndex(api, Targets(api))
        self._scrape = DirectScrape(observed=observed, burst=burst)
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow-answers")
        self.collector = Collector(
            source,
            pods,
            scope=Scope(matchers=matchers),
            scrape=self._scrape,
            executor=self._slow,
            doomed=doomed,
            grid=grid,
        )

    def start(self) -> None:
        """Start the threads that ask pods; the watches begin with the first target of their kind."""
        self._scrape.start()

    def stop(self) -> None:
        """Stop asking and watching. Safe to call twice."""
        self._scrape.stop()
        self._slow.shutdown(wait=True, cancel_futures=True)
        self.scales.stop()
