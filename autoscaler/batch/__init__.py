"""Batch work in time: jobs that only have to be done by a deadline are held until the grid is clean and
cheap.

Pure: ``curve``, ``grid_forecast``, ``durations``, ``work``, ``schedule``, ``contention``, ``candidates``,
``capacity``. ``loop`` reads the cluster and writes releases, ``side`` puts it together. What holds a job,
and what releases it when no controller lives, is in ``scheduler.windows``.
"""
