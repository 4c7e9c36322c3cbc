"""Error messages of one form: "name: expected X, got Y; do Z"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def require(condition: bool, name: str, expected: str, got: object, advice: str = "") -> None:
    """Raise ValueError in that form unless the condition holds.

    Args:
        condition: Whether the value is right.
        name: The argument or configuration key.
        expected: What it should be, such as "an int of at least 1".
        got: The value, shown by its repr.
        advice: What to do about it, if it is not obvious.
    """
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {got!r}{f'; {advice}' if advice else ''}")


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "", cutoff: float = 0.6) -> str:
    """A hint to end an error message with: the known name that is most like a wrong one.

    Args:
        name: The wrong name.
        known: The right ones.
        otherwise: The hint where none is like it; by default there is no hint.
        cutoff: How like they must be, in [0, 1], as for `difflib.get_close_matches`.

    Returns:
        "; did you mean 'NAME'?", "; OTHERWISE" or "".
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; {otherwise}" if otherwise else ""
