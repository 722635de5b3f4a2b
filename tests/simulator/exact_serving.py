"""Every request by itself on replicas of their own: what the simulation in steps is checked against.

Each replica has its own batch and its own virtual clock; a request goes to the replica with the fewest, or
waits in one queue when all are full. Events are arrivals and ends; nothing is rounded to a step.
"""

from __future__ import annotations

import heapq
from collections import deque

from simulator.autoscaling_server import ServerModel


def share_in_time(server: ServerModel, slope, at_seconds, work, patience_seconds, replicas):
    """The share of requests that began within their patience, on ``replicas`` that never change."""
    waits = waits_of(server, slope, at_seconds, work, replicas)
    timely = [
        wait <= min(patience, server.queue_timeout_seconds)
        for wait, patience in zip(waits, patience_seconds, strict=True)
    ]
    return sum(timely) / len(timely)


def waits_of(server: ServerModel, slope, at_seconds, work, replicas):
    """Seconds that each request waited; the queue timeout for those that were refused."""
    ends: list[list[float]] = [[] for _ in range(replicas)]
    clock, seen = [0.0] * replicas, [0.0] * replicas
    waits = [server.queue_timeout_seconds] * len(at_seconds)
    queue: deque[int] = deque()
    arrived = 0

    def pace(replica):
        return server.base_seconds + slope * len(ends[replica])

    def catch_up(replica, now):
        clock[replica] += (now - seen[replica]) / pace(replica)
        seen[replica] = now

    def begin(request, now):
        replica = min(range(replicas), key=lambda one: len(ends[one]))
        if len(ends[replica]) >= server.slots:
            return False
        catch_up(replica, now)
        heapq.heappush(ends[replica], clock[replica] + work[request])
        waits[request] = now - at_seconds[request]
        return True

    while arrived < len(at_seconds) or queue:
        ending, which = float("inf"), -1
        for replica in range(replicas):
            if ends[replica]:
                at = seen[replica] + (ends[replica][0] - clock[replica]) * pace(replica)
                if at < ending:
                    ending, which = at, replica
        coming = at_seconds[arrived] if arrived < len(at_seconds) else float("inf")
        now = min(ending, coming)
        if ending <= coming:
            catch_up(which, now)
            heapq.heappop(ends[which])
        else:
            queue.append(arrived)
            arrived += 1
        while queue and now - at_seconds[queue[0]] > server.queue_timeout_seconds:
            queue.popleft()
        while queue and begin(queue[0], now):
            queue.popleft()
    return waits
