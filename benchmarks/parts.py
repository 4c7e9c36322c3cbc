"""The time of the parts of the op: leave out one at a time, next to the least time of the arithmetic.

A part is the difference of two calls of the public API. "Products" (q·k) are what k=None saves, including the
packing of k; "values" what value heads of one channel save; "positions" what missing embeddings save;
"exponentials" are a window of 7 × 7 minus one of 1 × 1, with heads of two channels and so few products;
"moving" is a window of 1 × 1: reading q, k and v, packing, writing. The parts overlap in the processor and
need not add up. A matrix product of torch in the same run gives the arithmetic speed of this machine. "Layer"
is the whole LocalSelfAttention2d with its projections, next to the time of the projections at that speed.

    python -m benchmarks.parts [--threads 1] [--batch 1] [--quick]
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import sasa
from benchmarks.measure import Contender, Report, arguments
from benchmarks.op import HEADS, KERNEL, attention, inputs
from benchmarks.shapes import RESNET50, Spatial

SIDE = 1024  # of the square matrices that are multiplied


def main() -> None:
    """Measure, print and write."""
    args = arguments(__doc__, batch=True).parse_args()
    report = Report("parts", args)
    for shape in RESNET50[:1] if args.quick else RESNET50:
        parts(report, shape)
    report.finish()


@torch.no_grad()
def parts(report: Report, shape: Spatial) -> None:
    """Time the op at one shape, whole and without parts."""
    channels, batch, backend = shape.channels, report.batch, report.backend
    qkv, *rel = inputs(shape, batch)
    q, k, v = qkv.split(channels, 1)
    narrow_q, narrow_k, _ = maps(shape, batch, 2 * HEADS)  # heads of two channels
    thin = maps(shape, batch, HEADS)[2]  # heads of one channel
    op = attention(backend, shape.stride)
    layer = sasa.LocalSelfAttention2d(
        channels, channels, KERNEL, shape.stride, num_heads=HEADS, backend=report.layer_backend
    ).to(memory_format=torch.channels_last)
    x = torch.randn(batch, channels, shape.side, shape.side).to(memory_format=torch.channels_last)
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    calls = {
        "layer": partial(layer, x),
        "whole": partial(op, q, k, v, *rel),
        "no products": partial(op, q, None, v, *rel),
        "thin values": partial(op, q, k, thin, *rel),
        "no positions": partial(op, q, k, v),
        "1 × 1 window": partial(op, q, k, v, kernel_size=1),
        "narrow": partial(op, narrow_q, narrow_k, thin),
        "narrow, 1 × 1 window": partial(op, narrow_q, narrow_k, thin, kernel_size=1),
        "matrix product": partial(torch.matmul, a, b),
    }
    title = f"{shape}, batch {batch}"
    contenders = [Contender(name, call, finite, 0.0) for name, call in calls.items()]
    timings = report.measure(title, contenders, "whole", rounds=15)
    ms = {name: 1e3 * timings.time(name).median for name in calls}
    flops_per_ms = 2 * SIDE**3 / ms["matrix product"]
    least = sasa.ops.local_attention_flops(
        tuple(q.shape), tuple(v.shape), sasa.ops.LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, 1)
    )
    parts_ms = {
        "products": ms["whole"] - ms["no products"],
        "values": ms["whole"] - ms["thin values"],
        "positions": ms["whole"] - ms["no positions"],
        "exponentials": ms["narrow"] - ms["narrow, 1 × 1 window"],
        "moving": ms["1 × 1 window"],
        "the equations at the matrix product's speed": least / flops_per_ms,
        "layer": ms["layer"],
        "its projections at the matrix product's speed": 6 * x.numel() * channels / flops_per_ms,
    }
    print("  " + ", ".join(f"{name} {value:.2f} ms" for name, value in parts_ms.items()))
    report.record["timings"][title]["parts_ms"] = parts_ms


def maps(shape: Spatial, batch: int, channels: int) -> tuple[Tensor, ...]:
    """Return three maps of as many channels, slices of one channels-last map."""
    whole = torch.randn(batch, 3 * channels, shape.side, shape.side)
    return whole.to(memory_format=torch.channels_last).split(channels, 1)


def finite(output: Tensor | list[Tensor]) -> float:
    """Return no error if all values are finite; the tests check the values themselves."""
    assert isinstance(output, Tensor)
    return 0.0 if bool(output.isfinite().all()) else float("inf")


if __name__ == "__main__":
    main()
