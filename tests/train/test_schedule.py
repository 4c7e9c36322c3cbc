from __future__ import annotations

import pytest

from sasa.train.schedule import warmup_cosine


def test_warm_up_is_linear_from_the_first_step() -> None:
    assert [warmup_cosine(step, 100, 4) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_halves_in_the_middle_and_ends_at_zero() -> None:
    assert warmup_cosine(55, 100, 10) == pytest.approx(0.5)
    assert warmup_cosine(100, 100, 10) == pytest.approx(0.0)
    factors = [warmup_cosine(step, 100, 10) for step in range(10, 101)]
    assert factors == sorted(factors, reverse=True)


def test_without_warm_up() -> None:
    assert warmup_cosine(0, 10, 0) == 1.0
