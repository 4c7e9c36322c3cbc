"""A time limit for code in the main thread, by a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# Seconds until the error is raised again, because a compiler, for example, may have caught the first.
AGAIN = 5.0


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body after this many seconds, or at once if they are not positive.

    Deadlines may be nested and need the main thread of a POSIX system. Python handles the signal between two
    of its own instructions, so a call into C ends first.
    """

    def stop(*_: object) -> NoReturn:
        raise TimeoutError(f"not done after {max(0.0, seconds):.0f} s")

    if seconds <= 0:
        stop()
    began = time.monotonic()
    outer_left, _ = signal.getitimer(signal.ITIMER_REAL)
    outer = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)
        if outer_left:
            left = max(0.001, outer_left - (time.monotonic() - began))
            signal.setitimer(signal.ITIMER_REAL, left, AGAIN)
