"""How the op's cost grows with pixels, window and threads.

Forward, 64 channels, 8 heads, fp32, channels-last, no_grad. Corners of each output are checked against the
reference backend in float64: the op is local, so that a corner of the map is enough to compute a corner.

    python -m benchmarks.scaling [--threads 2] [--quick]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import sasa
from benchmarks.measure import Contender, Output, Report, Timings, against, arguments, measure

CHANNELS, HEADS = 64, 8
TOLERANCE = 1e-4  # of the largest value
CORNER = 32  # pixels of an output's corner that is checked


def main() -> None:
    """Measure, print and write."""
    args = arguments(__doc__).parse_args()
    report = Report("scaling", args)
    sides = [32, 64, 128, 256, 512, 1024]
    if args.quick:
        sides = sides[:3]
    elif report.backend == "reference":
        sides = sides[:4]
        report.note("no larger maps: the reference backend keeps every window's weights")
    batch = 1 if args.quick else 8
    rounds = args.rounds or (2 if args.quick else 21)
    turn = 0.01 if args.quick else 0.1

    with torch.no_grad():
        by_pixels = measure(
            [contender(f"{side} × {side}", side, 7, 1, report.backend) for side in sides],
            rounds=rounds,
            turn=turn,
        )
        report.timings("by pixels, batch 1, k = 7", by_pixels, f"{sides[0]} × {sides[0]}")
        for side in sides:
            each = by_pixels.time(f"{side} × {side}").median / side**2
            print(f"  {side:5} × {side:<5}{1e9 * each:8.1f} ns a pixel")
        report.target("op, time by pixels: exponent of the fit", exponent(by_pixels, sides), "<=", 1.1)

        windows = [contender(f"k = {k}", 56, k, batch, report.backend) for k in (7, 11)]
        by_window = measure(windows, rounds=rounds, turn=turn)
        report.timings(f"by window, 64 @ 56, batch {batch}", by_window, "k = 7")
        report.target("op, k = 11 / k = 7", by_window.ratio("k = 11", "k = 7"), "<=", 2.6)

        if args.threads > 1:
            name = f"{args.threads} threads"
            counts = [
                contender("1 thread", 56, 7, batch, report.backend, threads=1),
                contender(name, 56, 7, batch, report.backend, threads=args.threads),
            ]
            by_threads = measure(counts, rounds=rounds, turn=turn)
            report.timings(f"by threads, 64 @ 56, batch {batch}", by_threads, "1 thread")
            ratio = by_threads.ratio("1 thread", name)
            report.target(f"op, 1 thread / {name}", ratio, ">=", 0.9 * args.threads)
        else:
            report.note("one thread asked for or one core here: no scaling with threads measured")
    report.finish()


def contender(
    name: str, side: int, kernel_size: int, batch: int, backend: str, threads: int | None = None
) -> Contender:
    """The op on a square map."""
    torch.manual_seed(0)
    qkv = torch.randn(batch, 3 * CHANNELS, side, side).to(memory_format=torch.channels_last)
    rel = [torch.randn(HEADS, kernel_size, CHANNELS // HEADS // 2) for _ in range(2)]
    op = partial(sasa.local_attention, num_heads=HEADS, kernel_size=kernel_size)
    run = partial(op, *qkv.split(CHANNELS, 1), *rel, backend=backend)
    return Contender(name, run, corners_against(op, qkv, rel, kernel_size // 2), TOLERANCE, threads)


def corners_against(
    op: Callable[..., Tensor], qkv: Tensor, rel: list[Tensor], reach: int
) -> Callable[[Output], float]:
    """Measures the error at the top left and the bottom right of an output."""
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
    """The slope of log time over log pixels, by least squares: 1 is linear."""
    xs = [2 * math.log(side) for side in sides]
    ys = [math.log(timings.time(f"{side} × {side}").median) for side in sides]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return products / sum((x - mean_x) ** 2 for x in xs)


if __name__ == "__main__":
    main()
