"""The paired t-test against printed tables of Student's t, and Holm's correction by hand."""

from __future__ import annotations

import pytest

from sasa.report.significance import holm, paired_p_value, standard_error, student_tail


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
    """Differences 1, 2 and 3: mean 2, variance 1, t = 2√3 with two degrees."""
    p = paired_p_value([1, 2, 3])
    assert p == pytest.approx(1 - 12**0.5 / 14**0.5, abs=1e-12)
    assert paired_p_value([-3, -1, -2]) == pytest.approx(p)


def test_edges() -> None:
    assert paired_p_value([1]) is None
    assert paired_p_value([0, 0]) == 1
    assert paired_p_value([1, 1]) == 0
    assert standard_error([5]) is None
    assert standard_error([1, 2, 3]) == pytest.approx(1 / 3**0.5)


def test_holm_by_hand() -> None:
    """Sorted: 3·0.01, 2·0.03, and 1·0.04, which is no less than 0.06."""
    assert holm([0.03, None, 0.01, 0.04]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
