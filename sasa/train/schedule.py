"""The learning-rate schedule: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """The learning rate of a step, relative to the peak.

    Args:
        step: Optimizer steps taken so far, 0 <= step <= total.
        total: Steps of the whole run.
        warmup: Steps of the warm-up, 0 <= warmup < total.

    Returns:
        (step + 1) / warmup while step < warmup, so the first step is not zero and the last one of the warm-up
        is 1; then half a cosine from 1 at step = warmup to 0 at step = total.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
