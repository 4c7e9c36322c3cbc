"""Time contenders on a CUDA device: by events, after a warm-up, in turns, with a cold second-level cache."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measure import Contender, Timings

WARM_UP = 3


def warm(one: Contender) -> None:
    """Check the output of a contender and warm it up.

    Raises:
        WrongOutputError: The error exceeds the tolerance.
    """
    one.check()
    for _ in range(WARM_UP):
        one.run()


def measure_cuda(
    contenders: Sequence[Contender], *, rounds: int, calls: int = 3, flush: int = 2**28
) -> Timings:
    """Time contenders in turns; call `warm` with each of them first.

    Args:
        contenders: Implementations to compare; their numbers of threads are ignored.
        rounds: Turns of each contender.
        calls: Timed calls per turn, of which the median counts.
        flush: Bytes that are written before each timed call, so that no inputs remain in the second-level
            cache; 0 for none.
    """
    scratch = torch.empty(flush, dtype=torch.uint8, device="cuda")
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            seconds[one.name].append(statistics.median(_clock(one.run, scratch) for _ in range(calls)))
    return Timings(seconds)


def graphed(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that replays the kernels of `run` from a CUDA graph, so that launching takes no time.

    `run` has no arguments and always reads the same tensors. Each replay returns the tensors of the capture
    with new values.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> Any:
        graph.replay()
        return results

    return replay


def _clock(run: Callable[[], Any], scratch: torch.Tensor) -> float:
    """Return the seconds on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    scratch.zero_()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
