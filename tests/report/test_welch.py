"""Welch's t-test against printed tables of Student's t and a worked example."""

from __future__ import annotations

import pytest

from sasa.report.welch import standard_error, student_tail, welch_p_value


@pytest.mark.parametrize(
    ("degrees", "t"),
    # Two-sided 5 % points as every table prints them, and √2, where P(|T| > t) is 1 − √½ for two degrees.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)],
)
def test_tail_at_the_printed_five_percent_points(degrees: int, t: float) -> None:
    assert student_tail(t, degrees) == pytest.approx(0.05, abs=6e-5)  # of three printed digits


def test_tail_in_closed_form() -> None:
    """One degree: Cauchy, 1/2 beyond ±1. Two degrees: 1 − t/√(2 + t²)."""
    assert student_tail(1, 1) == pytest.approx(0.5, abs=1e-12)
    for t in (0.1, 1.0, 3.0, 20.0):
        assert student_tail(t, 2) == pytest.approx(1 - t / (2 + t * t) ** 0.5, abs=1e-12)


def test_example_by_hand() -> None:
    """Means 2 and 4, variances 1 and 4: t = 2/√(5/3), ν = (5/3)²/(1/18 + 16/18) = 50/17."""
    p = welch_p_value([1, 2, 3], [2, 4, 6])
    assert p == pytest.approx(student_tail(2 / (5 / 3) ** 0.5, 50 / 17), abs=1e-12)
    assert welch_p_value([2, 4, 6], [1, 2, 3]) == p
    assert p == pytest.approx(0.2209, abs=1e-3)


def test_edges() -> None:
    assert welch_p_value([1], [2, 3]) is None
    assert welch_p_value([1, 1], [1, 1]) == 1
    assert welch_p_value([1, 1], [2, 2]) == 0
    assert standard_error([5]) is None
    assert standard_error([1, 2, 3]) == pytest.approx(1 / 3**0.5)
