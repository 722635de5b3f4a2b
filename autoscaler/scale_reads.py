"""Read the scales of many targets at once, each answered with its scale or with why there is none.

Most are read from memory, in microseconds, others by a request. So they are spread over the threads in parts:
a task for each would cost more than the reading. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, TypeAlias

from autoscaler.targets import ScaleSight, Target, TargetRefused
from cluster.api_errors import ApiError

PARALLEL_READS: Final = 8
_READS_A_TASK: Final = 16

Found: TypeAlias = ScaleSight | TargetRefused | ApiError


def read_all(
    targets: Sequence[Target], read: Callable[[Target], ScaleSight], executor: Executor
) -> dict[Target, Found]:
    """Read every one of ``targets``, in their order. Raises what ``read`` raises beside TargetRefused and
    ApiError.
    """

    def some(part: Sequence[Target]) -> dict[Target, Found]:
        return {target: _found(read, target) for target in part}

    # Neighbours go to different tasks: those that take a request each often stand together.
    tasks = max(PARALLEL_READS, len(targets) // _READS_A_TASK)
    read_parts = executor.map(some, [targets[number::tasks] for number in range(min(tasks, len(targets)))])
    found = {target: sight for part in read_parts for target, sight in part.items()}
    return {target: found[target] for target in targets}


def _found(read: Callable[[Target], ScaleSight], target: Target) -> Found:
    try:
        return read(target)
    except (TargetRefused, ApiError) as error:
        return error
