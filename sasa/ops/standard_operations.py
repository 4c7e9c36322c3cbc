"""A mode in which the ops are traced as operations that every runtime has, for `sasa.export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_active = False


@contextmanager
def standard_operations() -> Iterator[None]:
    """Within this context, no op runs a kernel of sasa. It is not meant for several threads."""
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before


def active() -> bool:
    """Whether the mode is on."""
    return _active
