"""Mean, standard error, and Welch's t-test of two small samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def welch_p_value(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t-test, that two samples have the same mean.

    Args:
        one: Independent values, such as the accuracy of one network over seeds.
        other: The other sample, of any size and spread.

    Returns:
        In [0, 1]; None where a sample has fewer than two values.
    """
    if len(one) < 2 or len(other) < 2:
        return None
    a, b = (statistics.variance(sample) / len(sample) for sample in (one, other))
    difference = abs(statistics.fmean(one) - statistics.fmean(other))
    if a + b == 0:
        return 0.0 if difference else 1.0
    degrees = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return student_tail(difference / math.sqrt(a + b), degrees)


def student_tail(t: float, degrees: float) -> float:
    """The probability that Student's t is further from 0 than t, for at least one degree of freedom.

    With x = √ν tan θ the density becomes one of cos(θ)^(ν−1), which Simpson's rule integrates to θ(t).
    """
    peak = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    end, steps = math.atan(t / math.sqrt(degrees)), 1000
    weights = (1 if i in (0, steps) else 4 if i % 2 else 2 for i in range(steps + 1))
    heights = (math.cos(end * i / steps) ** (degrees - 1) for i in range(steps + 1))
    inside = 2 * peak * end / steps / 3 * sum(w * h for w, h in zip(weights, heights, strict=True))
    return min(1.0, max(0.0, 1 - inside))
