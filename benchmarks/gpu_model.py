"""What the Triton kernels should take on an H100, counted on paper; nothing here is measured.

For each of ResNet-50's sixteen layers, batch 128, bf16 or tf32, forward: bytes, products and exponentials
that there have to be (the floor) and that our kernel has, the one on tensor cores where `tiles` selects it,
and the time that follows from the device's rates, beside the 3 × 3 convolution's. docs/gpu.md says what the
columns mean.

    python -m benchmarks.gpu_model [--batch 128] [--tf32]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shapes import RESNET50, Spatial
from sasa.ops.local_attention.backends.triton import tiles
from sasa.ops.local_attention.spec import LocalAttentionSpec

HEADS, KERNEL = 8, 7
WIDE_WARPS = 4  # of `queries_dot_kernel` at heads of 64

# Taken for an H100 SXM; `make gpu-check` measures the first two. Each multiprocessor has four schedulers, and
# computes 16 exponentials a cycle. Products of a warp (mma.sync) reach half of the peak, which is for groups
# of four.
BYTES_PER_S = 3.0e12
SLOTS_PER_S = 132 * 4 * 1.755e9  # instructions of a warp: each scheduler issues at most one a cycle
EXPONENTIALS_PER_S = 132 * 16 * 1.755e9


@dataclass(frozen=True)
class Kind:
    """A dtype of maps and its products."""

    itemsize: int
    flops_per_s: float
    # Machine instructions of a thread for sm_90, by Triton 3.9: what `python -m tests.ops.triton.offline 90
    # bfloat16 --all`, or tf32, prints.
    instructions: dict[str, Any]

    @staticmethod
    def load(itemsize: int, flops_per_s: float, file: str) -> Kind:
        """With the instructions of a file beside this one."""
        text = Path(__file__).with_name(file).read_text(encoding="utf-8")
        return Kind(itemsize, flops_per_s, json.loads(text))


BF16 = Kind.load(2, 790e12, "gpu_instructions.json")
TF32 = Kind.load(4, 395e12, "gpu_instructions_tf32.json")


@dataclass(frozen=True)
class Count:
    """One layer's forward pass: of the op as it has to be, or as a kernel does it."""

    bytes: float  # of a kernel: through the second-level cache
    flops: float  # all products and sums of pairs
    exponentials: float
    tensor_flops: float = 0.0  # those of them on tensor cores
    instructions: float = 0.0  # of warps


def window(shape: Spatial) -> LocalAttentionSpec:
    """Of the attention that stands for the convolution."""
    return LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, shape.stride)


def outputs(shape: Spatial) -> int:
    """Rows, and columns, of the output."""
    return -(-shape.side // shape.stride)


def floor(shape: Spatial, batch: int, kind: Kind = BF16) -> Count:
    """Inputs read once and the output written once; every window position inside the map computed once."""
    pixels, written = shape.side**2, outputs(shape) ** 2
    positions = window(shape).positions_inside(shape.side, shape.side)
    # q·k and p·v; q·r_row and q·r_col of half a head's width each.
    flops = batch * (4 * positions + 2 * KERNEL * pixels) * shape.channels
    return Count(
        kind.itemsize * batch * shape.channels * (3 * pixels + written), flops, batch * HEADS * positions
    )


def with_dot(shape: Spatial, kind: Kind = BF16) -> bool:
    """Whether the kernel with products on tensor cores is the one that runs."""
    width = shape.channels // HEADS
    can = tiles.can_dot(window(shape), itemsize=kind.itemsize, head_width=width, tf32=True)
    return can and tiles.dot_pays(window(shape), query_width=width, head_width=width, itemsize=kind.itemsize)


def ordinary(shape: Spatial, batch: int, kind: Kind = BF16) -> Count:
    """The kernel with ordinary arithmetic."""
    width, side = shape.channels // HEADS, outputs(shape)
    warps = 8 if shape.stride == 1 else 4
    tile = tiles.choose(
        height=side,
        width=side,
        heads=HEADS,
        head_width=tiles.power_of_two(width),
        itemsize=kind.itemsize,
        channels_last=True,
        warps=warps,
    )
    programs = batch * -(-side // tile.rows) * -(-side // tile.cols) * -(-HEADS // tile.heads)
    rows = tile.rows * tile.cols * tile.heads * shape.stride**2  # queries of a program, of its heads
    halo = (tile.rows * shape.stride + KERNEL - 1) * (tile.cols * shape.stride + KERNEL - 1) * tile.heads
    read = programs * (rows + 2 * halo) * width
    written = batch * shape.channels * side**2
    logits = programs * rows * KERNEL**2
    once, (row_of_window,) = compiled(shape, "forward_kernel", kind)
    return Count(
        kind.itemsize * (read + written),
        (4 * logits + 4 * KERNEL * programs * rows) * width,
        logits + programs * rows * KERNEL,  # a row of the window shrinks what was before it
        instructions=programs * warps * shape.stride**2 * (once + KERNEL * row_of_window),
    )


def dot(shape: Spatial, batch: int, kind: Kind = BF16) -> Count:
    """The kernel with products on tensor cores."""
    width, side = shape.channels // HEADS, shape.side
    block = max(16, tiles.power_of_two(width))
    tile = dot_tile(shape, kind)
    queries = tile.rows * tile.cols
    programs_of_row = batch * HEADS * -(-side // tile.cols)
    # Rows of keys that the tiles of each row of tiles pass over, and how often around the loop.
    rows = [
        min(y + tile.rows + KERNEL // 2, side) - max(y - KERNEL // 2, 0) for y in range(0, side, tile.rows)
    ]
    turns = [-(-n // tile.key_rows) for n in rows]
    programs = programs_of_row * len(rows)
    key_cols = min(tile.key_cols, side)
    read = (programs * queries + 2 * programs_of_row * sum(rows) * key_cols) * width
    logits = programs_of_row * sum(turns) * tile.key_rows * queries * tile.key_cols
    # Three products for one in float32.
    embeddings = programs * queries * tiles.taps((KERNEL, KERNEL)) * 2 * block * (3 if kind is BF16 else 1)
    once, (turn,) = compiled(shape, "forward_dot_kernel", kind)
    products = 4 * logits * block + embeddings
    return Count(
        kind.itemsize * (read + batch * shape.channels * outputs(shape) ** 2),
        products,
        logits + programs_of_row * sum(turns) * queries,
        products,
        tile.warps * (programs * once + programs_of_row * sum(turns) * turn),
    )


def dot_tile(shape: Spatial, kind: Kind) -> tiles.DotTile:
    """Of the kernels with products on tensor cores."""
    width = tiles.power_of_two(shape.channels // HEADS)
    return tiles.choose_dot(width=shape.side, kernel_cols=KERNEL, head_width=width, itemsize=kind.itemsize)


def backward(shape: Spatial, batch: int, kind: Kind = BF16, *, with_dot: bool) -> float:
    """Seconds to issue the instructions of both backward kernels, which nothing stalls."""
    width, side = shape.channels // HEADS, shape.side
    suffix = "dot_kernel" if with_dot else "kernel"
    queries, keys = (compiled(shape, f"{name}_{suffix}", kind) for name in ("queries", "keys"))
    if with_dot:
        tile = dot_tile(shape, kind)
        starts = range(0, side, tile.rows)
        turns = [min(y + tile.rows + KERNEL // 2, side) - max(y - KERNEL // 2, 0) for y in starts]
        columns = batch * HEADS * -(-side // tile.cols)
        warps = (WIDE_WARPS if width > 32 else tile.warps, tile.warps)
        programs, around = columns * len(starts), columns * sum(turns)
    else:
        plain = tiles.choose(
            height=side,
            width=side,
            heads=HEADS,
            head_width=tiles.power_of_two(width),
            itemsize=kind.itemsize,
            channels_last=True,
            warps=4,
        )
        warps = (plain.warps, plain.warps)
        programs = batch * -(-side // plain.rows) * -(-side // plain.cols) * -(-HEADS // plain.heads)
        around = programs * KERNEL
    issued = sum(
        n * (programs * once + around * sum(loops))
        for n, (once, loops) in zip(warps, (queries, keys), strict=True)
    )
    return issued / SLOTS_PER_S


def compiled(shape: Spatial, kernel: str, kind: Kind) -> tuple[int, list[int]]:
    """Instructions around its loops, and of each loop."""
    found = kind.instructions[f"{shape.channels} @ {shape.side}, pool {shape.stride}, {kernel}"]
    return found["ONCE"], found["LOOPS"]


def convolution_seconds(shape: Spatial, batch: int, kind: Kind = BF16) -> float:
    """The 3 × 3 convolution's, from its own bytes and products."""
    written = outputs(shape) ** 2
    elements = batch * shape.channels * (shape.side**2 + written) + 9 * shape.channels**2
    flops = 2 * 9 * batch * written * shape.channels**2
    return max(kind.itemsize * elements / BYTES_PER_S, flops / kind.flops_per_s)


def floor_seconds(shape: Spatial, batch: int, kind: Kind = BF16) -> float:
    """The op's, of perfect kernels."""
    least = floor(shape, batch, kind)
    return max(
        least.bytes / BYTES_PER_S, least.flops / kind.flops_per_s, least.exponentials / EXPONENTIALS_PER_S
    )


def seconds(counted: Count, shape: Spatial, batch: int, kind: Kind = BF16) -> float:
    """The prediction for a kernel: its scarcest resource, which nothing stalls."""
    return max(
        floor(shape, batch, kind).bytes / BYTES_PER_S,
        counted.instructions / SLOTS_PER_S,
        counted.tensor_flops / (kind.flops_per_s / 2),
        counted.exponentials / EXPONENTIALS_PER_S,
    )


def main() -> None:
    """Print the table of docs/gpu.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--tf32", action="store_true", help="float32 maps with products in tf32, not bf16")
    given = parser.parse_args()
    batch, kind = given.batch, TF32 if given.tf32 else BF16
    columns = "layers, MB, through L2, GFLOP, ours, tensor, waste, Gexp, ours, floor ms, form, predicted ms"
    columns += ", other ms, conv ms"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("| :--- |" + " ---: |" * 13)
    total = [0.0, 0.0, 0.0, 0.0]
    for shape in RESNET50:
        forms = {"ordinary": ordinary(shape, batch, kind), "dot": dot(shape, batch, kind)}
        form = "dot" if with_dot(shape, kind) else "ordinary"
        least, ours = floor(shape, batch, kind), forms[form]
        times = [floor_seconds(shape, batch, kind), seconds(forms.pop(form), shape, batch, kind)]
        times += [seconds(other, shape, batch, kind) for other in forms.values()]
        times += [convolution_seconds(shape, batch, kind)]
        total = [sum_ + shape.count * time for sum_, time in zip(total, times, strict=True)]
        cells = [
            f"{least.bytes / 1e6:.0f}",
            f"{ours.bytes / 1e6:.0f}",
            f"{least.flops / 1e9:.1f}",
            f"{ours.flops / 1e9:.1f}",
            f"{ours.tensor_flops / 1e9:.1f}",
            f"{ours.flops / least.flops:.2f}",
            f"{least.exponentials / 1e9:.3f}",
            f"{ours.exponentials / 1e9:.3f}",
            *(f"{1e3 * time:.3f}" for time in times),
        ]
        cells.insert(9, form)
        print(f"| {shape.count} × {shape} | {' | '.join(cells)} |")
    floor_, ours_, other, conv = (f"{1e3 * time:.2f}" for time in total)
    print(f"| all sixteen |{' |' * 8} {floor_} | | {ours_} | {other} | {conv} |")
    print("\n| backward of layers | form | predicted ms | other ms |\n| :--- | ---: | ---: | ---: |")
    sums = [0.0, 0.0]
    for shape in RESNET50:
        chosen = with_dot(shape, kind)
        both = [backward(shape, batch, kind, with_dot=one) for one in (chosen, not chosen)]
        sums = [sum_ + shape.count * time for sum_, time in zip(sums, both, strict=True)]
        form = "dot" if chosen else "ordinary"
        print(f"| {shape.count} × {shape} | {form} | {1e3 * both[0]:.3f} | {1e3 * both[1]:.3f} |")
    print(f"| all sixteen | | {1e3 * sums[0]:.2f} | {1e3 * sums[1]:.2f} |")


if __name__ == "__main__":
    main()
