"""What the Triton kernels should take on an H100, counted on paper; nothing here is measured.

For each of ResNet-50's sixteen layers, batch 128, bf16, forward: bytes, products and exponentials that there
have to be (the floor) and that our tiling has, and the time that follows from the device's rates, beside the
3 × 3 convolution's. docs/gpu.md says what the columns mean.

    python -m benchmarks.gpu_model [--batch 128]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from benchmarks.shapes import RESNET50, Spatial
from sasa.ops.local_attention.backends.triton.tiles import choose, power_of_two
from sasa.ops.local_attention.spec import LocalAttentionSpec

HEADS, KERNEL, ITEMSIZE = 8, 7, 2

# Taken for an H100 SXM; `make gpu-check` measures the first two. Each multiprocessor has four schedulers, and
# computes 16 exponentials a cycle.
BYTES_PER_S = 3.0e12
FLOPS_PER_S = 790e12
SLOTS_PER_S = 132 * 4 * 1.755e9  # instructions of a warp: each scheduler issues at most one a cycle
EXPONENTIALS_PER_S = 132 * 16 * 1.755e9

# Machine instructions of a thread in one row of the window (seven columns), by the width of a head and
# pooling: LOOP of `python -m tests.ops.triton.offline 90 bfloat16` (Triton 3.9).
LOOP = {
    (8, 1): 461,
    (16, 1): 486,
    (16, 2): 485,
    (32, 1): 502,
    (32, 2): 501,
    (64, 1): 518,
    (64, 2): 517,
}


@dataclass(frozen=True)
class Count:
    """One layer's forward pass: of the op as it has to be, or as a tiling makes it."""

    bytes: float
    flops: float
    exponentials: float


def floor(shape: Spatial, batch: int) -> Count:
    """Inputs read once and the output written once; every window position inside the map computed once."""
    window = LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, shape.stride)
    pixels, outputs = shape.side**2, (-(-shape.side // shape.stride)) ** 2
    positions = window.positions_inside(shape.side, shape.side)
    # q·k and p·v; q·r_row and q·r_col of half a head's width each.
    flops = batch * (4 * positions + 2 * KERNEL * pixels) * shape.channels
    return Count(ITEMSIZE * batch * shape.channels * (3 * pixels + outputs), flops, batch * HEADS * positions)


def tiled(shape: Spatial, batch: int) -> tuple[Count, float]:
    """As the kernel does it, bytes read through the second-level cache; and its instructions (of warps)."""
    width = shape.channels // HEADS
    side = -(-shape.side // shape.stride)
    warps = 8 if shape.stride == 1 else 4
    tile = choose(
        height=side,
        width=side,
        heads=HEADS,
        head_width=power_of_two(width),
        itemsize=ITEMSIZE,
        channels_last=True,
        warps=warps,
    )
    programs = batch * -(-side // tile.rows) * -(-side // tile.cols) * -(-HEADS // tile.heads)
    rows = tile.rows * tile.cols * tile.heads * shape.stride**2  # queries of a program, of its heads
    halo = (tile.rows * shape.stride + KERNEL - 1) * (tile.cols * shape.stride + KERNEL - 1) * tile.heads
    read = programs * (rows + 2 * halo) * width
    written = batch * shape.channels * side**2
    logits = programs * rows * KERNEL**2
    counted = Count(
        ITEMSIZE * (read + written),
        (4 * logits + 4 * KERNEL * programs * rows) * width,
        logits + programs * rows * KERNEL,  # a row of the window shrinks what was before it
    )
    instructions = programs * warps * shape.stride**2 * KERNEL * LOOP[width, shape.stride]
    return counted, instructions


def convolution_seconds(shape: Spatial, batch: int) -> float:
    """The 3 × 3 convolution's, from its own bytes and products."""
    outputs = (-(-shape.side // shape.stride)) ** 2
    elements = batch * shape.channels * (shape.side**2 + outputs) + 9 * shape.channels**2
    flops = 2 * 9 * batch * outputs * shape.channels**2
    return max(ITEMSIZE * elements / BYTES_PER_S, flops / FLOPS_PER_S)


def seconds(shape: Spatial, batch: int) -> tuple[float, float]:
    """The op's floor and the prediction for the kernel, which nothing hides and nothing stalls."""
    least, (counted, instructions) = floor(shape, batch), tiled(shape, batch)
    bound = max(least.bytes / BYTES_PER_S, least.flops / FLOPS_PER_S, least.exponentials / EXPONENTIALS_PER_S)
    issue, special = instructions / SLOTS_PER_S, counted.exponentials / EXPONENTIALS_PER_S
    return bound, max(least.bytes / BYTES_PER_S, issue, special)


def main() -> None:
    """Print the table of docs/gpu.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images")
    batch = parser.parse_args().batch
    columns = "layers, MB, through L2, GFLOP, ours, waste, Gexp, ours, floor ms, predicted ms, conv ms"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("| :--- |" + " ---: |" * 10)
    total = [0.0, 0.0, 0.0]
    for shape in RESNET50:
        least, (counted, _) = floor(shape, batch), tiled(shape, batch)
        times = (*seconds(shape, batch), convolution_seconds(shape, batch))
        total = [sum_ + shape.count * time for sum_, time in zip(total, times, strict=True)]
        cells = [
            f"{least.bytes / 1e6:.0f}",
            f"{counted.bytes / 1e6:.0f}",
            f"{least.flops / 1e9:.1f}",
            f"{counted.flops / 1e9:.1f}",
            f"{counted.flops / least.flops:.2f}",
            f"{least.exponentials / 1e9:.3f}",
            f"{counted.exponentials / 1e9:.3f}",
            *(f"{1e3 * time:.3f}" for time in times),
        ]
        print(f"| {shape.count} × {shape} | {' | '.join(cells)} |")
    print("| all sixteen |" + " |" * 7 + "".join(f" {1e3 * time:.2f} |" for time in total))


if __name__ == "__main__":
    main()
