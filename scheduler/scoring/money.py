"""Price of the GPU-hours themselves and of being interrupted on them.

    price = Σ GPU equivalents × gpu_hour(node class, else model) + interruptions per hour × cost of one ×
    GPU equivalents

The node class (on-demand, spot, reserved) comes from the policy by node labels. Nothing here knows whether
the node is paid for anyway: a reserved node is given its own class with a low price.
"""

from __future__ import annotations

import numpy as np

from scheduler.scoring.context import Floats, TermContext


def price(context: TermContext) -> Floats:
    """Money per hour on each row."""
    total: Floats = (context.taken * context.gpu_hour).sum(axis=1) + context.counted * context.row_hour
    classes = context.world.policy.nodes
    if classes:
        risk = np.array([c.interruptions_per_hour * c.interruption_cost for c in classes] + [0.0])
        total = total + risk[context.columns.class_id] * context.equivalents
    return total
