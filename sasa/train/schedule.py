"""The learning rate's course: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Factor on the peak learning rate at a step.

    Args:
        step: optimizer steps taken so far, 0 <= step <= total.
        total: steps of the whole run.
        warmup: steps of the warm-up, 0 <= warmup < total.

    Returns:
        (step + 1) / warmup while step < warmup, so that the first step moves and the warm-up's last
        is at 1; then half a cosine from 1 at step = warmup to 0 at step = total.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
