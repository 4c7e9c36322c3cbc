"""Standard error, the paired t-test, and Holm's correction for several tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def paired_p_value(differences: Sequence[float]) -> float | None:
    """The two-sided p-value of the paired t-test, whose null hypothesis is a mean difference of zero.

    Args:
        differences: Independent differences of two values, such as the accuracies of two networks trained
            with the same seed.

    Returns:
        The p-value in [0, 1]; None for fewer than two differences.
    """
    error = standard_error(differences)
    if error is None:
        return None
    mean = abs(statistics.fmean(differences))
    if error == 0:
        return 0.0 if mean else 1.0
    return student_tail(mean / error, len(differences) - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that the chance of one false rejection among all tests is at most the level.

    (Holm, 1979.) The smallest of m is multiplied by m, the next by m − 1 and so on; none becomes smaller than
    the one before it or larger than 1.

    Args:
        p_values: P-values of several tests in any order. None, a test without result, is not counted.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted


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
