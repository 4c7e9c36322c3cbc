"""What the Triton kernels should take on an H100, counted on paper; nothing here is measured.

For each of ResNet-50's sixteen layers, batch 128, bf16 or tf32, forward and backward: bytes, products and
exponentials that there have to be (the floor) and that our kernels have, those on tensor cores where `tiles`
selects them, and the time that follows from the device's rates, beside the 3 × 3 convolution's. docs/gpu.md
says what the columns mean.

    python -m benchmarks.gpu_model [--batch 128] [--tf32]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_counts import (
    Count,
    attention_maps,
    backward_floor,
    count,
    forward_floor,
    launches,
    partial_sums,
)
from benchmarks.shapes import RESNET50, Spatial
from sasa.ops.local_attn.backends.triton.launch import Launch

# Taken for an H100 SXM; `make gpu-check` measures the first two. Each multiprocessor has four schedulers, and
# computes 16 exponentials a cycle. Products of a warp (mma.sync) reach half of the peak, which is for groups
# of four.
BYTES_PER_S = 3.0e12
SLOTS_PER_S = 132 * 4 * 1.755e9  # instructions of a warp: each scheduler issues at most one a cycle
EXPONENTIALS_PER_S = 132 * 16 * 1.755e9

DIRECTIONS = {"forward": ("forward",), "backward": ("queries", "keys")}


@dataclass(frozen=True)
class Kind:
    """A dtype of maps and its products."""

    dtype: torch.dtype
    flops_per_s: float
    # Machine instructions of a thread for sm_90, by Triton 3.9: what `python -m tests.ops.triton.offline 90
    # bfloat16 --all`, or tf32, prints.
    instructions: dict[str, Any]


def instructions(file: str) -> dict[str, Any]:
    """Of a file beside this one."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return found


BF16 = Kind(torch.bfloat16, 790e12, instructions("gpu_instructions.json"))
TF32 = Kind(torch.float32, 395e12, instructions("gpu_instructions_tf32.json"))


@dataclass(frozen=True)
class Prediction:
    """Of one layer in one direction, by kernels of one form."""

    counts: list[Count]  # of each kernel
    seconds: float
    bound: str  # what takes the longest part of it


def floor(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> Count:
    """What a perfect kernel has to do."""
    least = forward_floor if direction == "forward" else backward_floor
    return least(shape, batch, kind.dtype.itemsize)


def floor_seconds(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> float:
    """Of a perfect kernel."""
    least = floor(shape, batch, direction, kind)
    return max(
        least.memory / BYTES_PER_S, least.flops / kind.flops_per_s, least.exponentials / EXPONENTIALS_PER_S
    )


def with_dot(shape: Spatial, direction: str, kind: Kind = BF16) -> bool:
    """Whether a direction's kernels with products on tensor cores are those that run."""
    return attention_maps(shape, 1, kind.dtype).dot(DIRECTIONS[direction][0])


def predict(shape: Spatial, batch: int, direction: str, kind: Kind = BF16, *, dot: bool) -> Prediction:
    """The kernels of a direction, one after the other, each as fast as its scarcest resource."""
    maps = attention_maps(shape, batch, kind.dtype)
    counts, parts = [], []
    for name, one in launches(maps, dot=dot):
        if name in DIRECTIONS[direction]:
            counts.append(count(name, one, maps))
            parts.append(resources(counts[-1], kind) | {"instructions": issue(one, counts[-1], shape, kind)})
        if name == "queries" and direction == "backward":
            counts.append(partial_sums(one))
            parts.append(resources(counts[-1], kind))
    slowest = max(parts, key=lambda part: max(part.values()))
    return Prediction(
        counts, sum(max(part.values()) for part in parts), max(slowest, key=slowest.__getitem__)
    )


def resources(one: Count, kind: Kind) -> dict[str, float]:
    """Seconds that a kernel needs of each."""
    return {
        "bytes": one.memory / BYTES_PER_S,
        "products": one.tensor_flops / (kind.flops_per_s / 2),
        "exponentials": one.exponentials / EXPONENTIALS_PER_S,
    }


def issue(one: Launch, counted: Count, shape: Spatial, kind: Kind) -> float:
    """Seconds to issue the instructions of a kernel, which nothing stalls."""
    found = kind.instructions[
        f"{shape.channels} @ {shape.side}, pool {shape.stride}, {one.kernel.fn.__name__}"
    ]
    return one.warps * (counted.once * found["ONCE"] + counted.turns * sum(found["LOOPS"])) / SLOTS_PER_S


def convolution_seconds(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> float:
    """Of the 3 × 3 convolution's output, or of its two gradients, from their own bytes and products.

    Each reads two of input, weight and output, or their gradients, and writes the third.
    """
    side = -(-shape.side // shape.stride)
    written = side**2
    elements = batch * shape.channels * (shape.side**2 + written) + 9 * shape.channels**2
    flops = 2 * 9 * batch * written * shape.channels**2
    one = max(kind.dtype.itemsize * elements / BYTES_PER_S, flops / kind.flops_per_s)
    return one if direction == "forward" else 2 * one


def table(direction: str, batch: int, kind: Kind) -> str:
    """In Markdown, of all sixteen layers."""
    columns = (
        f"{direction}, MB, through L2, GFLOP, ours, tensor, waste, Gexp, ours, floor ms, form, predicted ms, "
        "bound, other ms, conv ms"
    )
    lines = [f"| {columns.replace(', ', ' | ')} |", "| :--- |" + " ---: |" * 14]
    total = [0.0] * 4
    for shape in RESNET50:
        dot = with_dot(shape, direction, kind)
        ours, other = (predict(shape, batch, direction, kind, dot=form) for form in (dot, not dot))
        least = floor(shape, batch, direction, kind)
        times = [floor_seconds(shape, batch, direction, kind), ours.seconds, other.seconds]
        times.append(convolution_seconds(shape, batch, direction, kind))
        total = [sum_ + shape.count * time for sum_, time in zip(total, times, strict=True)]
        flops, tensor_flops, exponentials, cached = (
            sum(getattr(one, field) for one in ours.counts)
            for field in ("flops", "tensor_flops", "exponentials", "cached")
        )
        ms = [f"{1e3 * time:.3f}" for time in times]
        cells = [
            f"{shape.count} × {shape}",
            f"{least.memory / 1e6:.0f}",
            f"{cached / 1e6:.0f}",
            f"{least.flops / 1e9:.1f}",
            f"{flops / 1e9:.1f}",
            f"{tensor_flops / 1e9:.1f}",
            f"{flops / least.flops:.2f}",
            f"{least.exponentials / 1e9:.3f}",
            f"{exponentials / 1e9:.3f}",
            *(ms[0], "dot" if dot else "ordinary", ms[1], ours.bound, *ms[2:]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    ms = [f"{1e3 * time:.2f}" for time in total]
    lines.append(f"| all sixteen |{' |' * 8} {ms[0]} | | {ms[1]} | | {ms[2]} | {ms[3]} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of docs/gpu.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--tf32", action="store_true", help="float32 maps with products in tf32, not bf16")
    given = parser.parse_args()
    kind = TF32 if given.tf32 else BF16
    print("\n\n".join(table(direction, given.batch, kind) for direction in DIRECTIONS))


if __name__ == "__main__":
    main()
