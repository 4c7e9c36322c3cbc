"""Standard error, and Welch's t-test of two small samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def welch_p_value(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t-test, whose null hypothesis is that two samples have the same mean.

    Args:
        first: Independent values, such as the accuracy of a network over seeds.
        second: The other sample, with any size and variance.

    Returns:
        The p-value in [0, 1]; None if a sample has fewer than two values.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    a, b = (statistics.variance(sample) / len(sample) for sample in (first, second))
    difference = abs(statistics.fmean(first) - statistics.fmean(second))
    if a + b == 0:
        return 0.0 if difference else 1.0
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return student_tail(difference / math.sqrt(a + b), degrees)


def student_tail(t: float, degrees: float) -> float:
    """The probability that the absolute value of Student's t exceeds t.

    The substitution x = √ν tan θ turns the density into one proportional to cos(θ)^(ν−1), which is integrated
    from 0 to θ(t) by Simpson's rule.

    Args:
        t: The value, 0 or more.
        degrees: Degrees of freedom ν, at least 1.
    """
    peak = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    end, steps = math.atan(t / math.sqrt(degrees)), 1000
    weights = (1 if i in (0, steps) else 4 if i % 2 else 2 for i in range(steps + 1))
    heights = (math.cos(end * i / steps) ** (degrees - 1) for i in range(steps + 1))
    inside = 2 * peak * end / steps / 3 * sum(w * h for w, h in zip(weights, heights, strict=True))
    return min(1.0, max(0.0, 1 - inside))
