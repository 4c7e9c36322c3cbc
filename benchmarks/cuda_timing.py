"""Time contenders on a CUDA device: events, warm-up, turns, a cold second-level cache."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measure import Contender, Timings, WrongOutputError

WARM_UP = 3


def warm(one: Contender) -> None:
    """Check what it computes and warm it up.

    Raises:
        WrongOutputError: Its error is above its tolerance.
    """
    error = one.error(one.run())
    if not error <= one.tolerance:
        raise WrongOutputError(
            f"{one.name}: wrong by {error:.2g} of the largest value, tolerance {one.tolerance:.2g}; not timed"
        )
    for _ in range(WARM_UP):
        one.run()


def measure_cuda(
    contenders: Sequence[Contender], *, rounds: int, calls: int = 3, flush: int = 2**28
) -> Timings:
    """Time contenders in turns; `warm` has checked each and warmed it up.

    Args:
        contenders: What to compare; their threads are left alone.
        rounds: Turns of each.
        calls: Timed calls a turn, of which the median counts.
        flush: Bytes that are written before each timed call, so that no contender finds its inputs in the
            second-level cache; 0 for none.
    """
    scratch = torch.empty(flush, dtype=torch.uint8, device="cuda")
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            seconds[one.name].append(statistics.median(_clock(one.run, scratch) for _ in range(calls)))
    return Timings(seconds)


def graphed(run: Callable[[], Any]) -> Callable[[], Any]:
    """Replay what `run` launches from a CUDA graph, so that its launches on the CPU are not timed.

    `run` takes nothing and always reads the same tensors. A replay gives the results of the capture, which it
    overwrites.
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
    """Seconds on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    scratch.zero_()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
