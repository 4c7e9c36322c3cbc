"""How the time of the op grows with pixels, window and threads.

Forward, 64 channels, 8 heads, fp32, channels-last, no_grad. Corners of each output are checked in float64
against the reference backend: the op is local, so a corner of the output depends on a corner of the input.

    python -m benchmarks.scaling [--threads 2] [--quick]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import sasa
from benchmarks.measure import Contender, Output, Report, Timings, against, arguments

CHANNELS, HEADS = 64, 8
TOLERANCE = 1e-4  # of the largest value
CORNER = 32  # height and width of the corners that are checked


def main() -> None:
    """Measure, print and write."""
    args = arguments(__doc__).parse_args()
    report = Report("scaling", args)
    sides = [32, 64, 128, 256, 512, 1024]
    if args.quick:
        sides = sides[:3]
    elif report.backend == "reference":
        sides = sides[:4]
        report.note("no larger maps: the reference backend stores the weights of all windows")
    batch, op = report.batch, partial(contender, backend=report.backend)

    with torch.no_grad():
        maps = [op(f"{side} × {side}", side, 7, 1) for side in sides]
        by_pixels = report.measure("by pixels, batch 1, k = 7", maps, maps[0].name, rounds=21)
        for side in sides:
            each = by_pixels.time(f"{side} × {side}").median / side**2
            print(f"  {side:5} × {side:<5}{1e9 * each:8.1f} ns per pixel")
        report.target("op, time by pixels: exponent of the fit", exponent(by_pixels, sides), "<=", 1.1)

        windows = [op(f"k = {k}", 56, k, batch) for k in (7, 11)]
        by_window = report.measure(f"by window, 64 @ 56, batch {batch}", windows, "k = 7", rounds=21)
        report.target("op, k = 11 / k = 7", by_window.ratio("k = 11", "k = 7"), "<=", 2.6)

        if args.threads > 1:
            name = f"{args.threads} threads"
            counts = [op("1 thread", 56, 7, batch, threads=1), op(name, 56, 7, batch, threads=args.threads)]
            by_threads = report.measure(f"by threads, 64 @ 56, batch {batch}", counts, "1 thread", rounds=21)
            ratio = by_threads.ratio("1 thread", name)
            report.target(f"op, 1 thread / {name}", ratio, ">=", 0.9 * args.threads)
        else:
            report.note("with one thread, scaling with threads is not measured")
    report.finish()


def contender(
    name: str, side: int, kernel_size: int, batch: int, *, backend: str, threads: int | None = None
) -> Contender:
    """Return the op on a square map as a contender."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, 3 * CHANNELS, side, side).to(memory_format=torch.channels_last)
    rel = [torch.randn(HEADS, kernel_size, CHANNELS // HEADS // 2) for _ in range(2)]
    op = partial(sasa.local_attention, num_heads=HEADS, kernel_size=kernel_size)
    run = partial(op, *qkv.split(CHANNELS, 1), *rel, backend=backend)
    return Contender(name, run, corners_against(op, qkv, rel, kernel_size // 2), TOLERANCE, threads)


def corners_against(
    op: Callable[..., Tensor], qkv: Tensor, rel: list[Tensor], reach: int
) -> Callable[[Output], float]:
    """Return a function for the error in the top left and bottom right corners of an output."""
    side = min(CORNER, qkv.shape[-1])
    needed = min(CORNER + reach, qkv.shape[-1])
    rel = [x.double() for x in rel]

    def reference(part: Tensor) -> Tensor:
        return op(*part.double().split(CHANNELS, 1), *rel, backend="reference")

    first = reference(qkv[..., :needed, :needed])[..., :side, :side]
    last = reference(qkv[..., -needed:, -needed:])[..., -side:, -side:]
    error = against([first, last])

    def at_corners(output: Output) -> float:
        assert isinstance(output, Tensor)
        return error([output[..., :side, :side], output[..., -side:, -side:]])

    return at_corners


def exponent(timings: Timings, sides: list[int]) -> float:
    """Return the slope of log time over log pixels by least squares: 1 means linear."""
    pixels = [math.log(side**2) for side in sides]
    times = [math.log(timings.time(f"{side} × {side}").median) for side in sides]
    return statistics.linear_regression(pixels, times).slope


if __name__ == "__main__":
    main()
