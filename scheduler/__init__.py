"""Where a pod runs: demand, fleet state, prices, ranks, the extender and the planner.

Decisions are pure; I/O lives in ``extender``, ``feed``, ``planner.nominate`` and ``__main__``.
"""
