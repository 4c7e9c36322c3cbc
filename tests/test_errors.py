"""The form of our error messages."""

from __future__ import annotations

import pytest

from sasa.errors import did_you_mean, require


def test_require_names_all_four_parts() -> None:
    require(True, "stride", "1 or 2", 3)
    with pytest.raises(ValueError, match=r"^stride: expected 1 or 2, got 3$"):
        require(False, "stride", "1 or 2", 3)
    with pytest.raises(ValueError, match=r"^mode: expected 'L' or 'RGB', got 'P'; convert the image$"):
        require(False, "mode", "'L' or 'RGB'", "P", "convert the image")


def test_did_you_mean() -> None:
    known = ["width_mult", "num_heads"]
    assert did_you_mean("widht_mult", known) == "; did you mean 'width_mult'?"
    assert did_you_mean("x", known) == ""
    assert did_you_mean("x", known, otherwise="see --help") == "; see --help"
    assert did_you_mean("width", known, cutoff=0.9) == ""
