"""What the op's time is made of: leave parts out one at a time, beside what the arithmetic needs at least.

Public API only, so a part is the difference of two calls. "Products" (q·k) are what k=None saves, packing k
with them; "values" what value heads of one channel save; "positions" what missing embeddings save;
"exponentials" are a window of 7 × 7 less one of 1 × 1 at heads of two channels, where products are few;
"moving" is a window of 1 × 1: reading q, k, v, packing, writing. Parts overlap in the processor, so they need
not add up. A matrix product of torch in the same run says how fast this machine multiplies and adds. "Layer"
is the whole LocalSelfAttention2d, projections inside the kernel; beside it what these need at that speed.

    python -m benchmarks.parts [--threads 1] [--batch 1] [--quick]
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import sasa
from benchmarks.measure import Contender, Report, arguments, measure
from benchmarks.op import HEADS, KERNEL
from benchmarks.shapes import RESNET50, Spatial

SIDE = 1024  # of the matrices whose product is the yardstick


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    report = Report("parts", args)
    for shape in RESNET50[:1] if args.quick else RESNET50:
        parts(
            report, shape, args.batch, args.rounds or (2 if args.quick else 15), 0.01 if args.quick else 0.1
        )
    report.finish()


@torch.no_grad()
def parts(report: Report, shape: Spatial, batch: int, rounds: int, turn: float) -> None:
    """Time the op at one shape, whole and without parts."""
    torch.manual_seed(0)
    narrow, one = 2 * HEADS, HEADS  # channels of heads that are two wide, and one
    q, k, v = maps(shape, batch, shape.channels)
    rel = [torch.randn(HEADS, KERNEL, shape.channels // HEADS // 2) for _ in range(2)]
    narrow_q, narrow_k, _ = maps(shape, batch, narrow)
    thin = maps(shape, batch, one)[2]
    op = partial(
        sasa.local_attention,
        num_heads=HEADS,
        kernel_size=KERNEL,
        pool=shape.stride,
        backend=report.backend,
    )
    layer = sasa.LocalSelfAttention2d(
        shape.channels, shape.channels, KERNEL, shape.stride, num_heads=HEADS, backend=report.layer_backend
    ).to(memory_format=torch.channels_last)
    x = torch.randn(batch, shape.channels, shape.side, shape.side).to(memory_format=torch.channels_last)
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    calls = {
        "layer": lambda: layer(x),
        "whole": lambda: op(q, k, v, *rel),
        "no products": lambda: op(q, None, v, *rel),
        "thin values": lambda: op(q, k, thin, *rel),
        "no positions": lambda: op(q, k, v),
        "1 × 1 window": lambda: op(q, k, v, kernel_size=1),
        "narrow": lambda: op(narrow_q, narrow_k, thin),
        "narrow, 1 × 1 window": lambda: op(narrow_q, narrow_k, thin, kernel_size=1),
        "matrix product": lambda: a @ b,
    }
    timings = measure(
        [Contender(name, call, finite, 0.0) for name, call in calls.items()], rounds=rounds, turn=turn
    )
    report.timings(f"{shape}, batch {batch}", timings, "whole")
    ms = {name: 1e3 * timings.time(name).median for name in calls}
    flops = 2e-6 * SIDE**3 / ms["matrix product"]  # GFLOP/s
    least = sasa.ops.local_attention_flops(
        tuple(q.shape), tuple(v.shape), sasa.ops.LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, 1)
    )
    found = {
        "products": ms["whole"] - ms["no products"],
        "values": ms["whole"] - ms["thin values"],
        "positions": ms["whole"] - ms["no positions"],
        "exponentials": ms["narrow"] - ms["narrow, 1 × 1 window"],
        "moving": ms["1 × 1 window"],
        "the equations at the matrix product's speed": 1e-6 * least / flops,
        "layer": ms["layer"],
        "its projections at the matrix product's speed": 6e-6 * x.numel() * shape.channels / flops,
    }
    print("  " + ", ".join(f"{name} {value:.2f} ms" for name, value in found.items()))
    report.record["timings"][f"{shape}, batch {batch}"]["parts_ms"] = found


def maps(shape: Spatial, batch: int, channels: int) -> tuple[Tensor, ...]:
    """q, k, v as slices of one channels-last map."""
    whole = torch.randn(batch, 3 * channels, shape.side, shape.side)
    return whole.to(memory_format=torch.channels_last).split(channels, 1)


def finite(output: Tensor | list[Tensor]) -> float:
    """No error, unless something is not finite: what is right is for the tests."""
    assert isinstance(output, Tensor)
    return 0.0 if bool(output.isfinite().all()) else float("inf")


if __name__ == "__main__":
    main()
