"""Predicted time of the Triton kernels of the op on an H100; nothing is measured.

For the sixteen layers of ResNet-50 at batch 128, in bf16 or TF32, forward and backward: the bytes, products
and exponentials that are necessary (the floor) and those of our kernels, in the form that `tiles` selects;
the time that follows from the rates of the device; and that of the 3 × 3 convolution. README.md explains
the columns.

    python -m studies.gpu_model.model [--batch 128] [--tf32]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.shapes import RESNET50, Spatial
from sasa.ops.local_attn.backends.triton.launch import Launch
from studies.gpu_model.counts import (
    Count,
    attention_maps,
    backward_floor,
    count,
    forward_floor,
    launches,
    partial_sums,
)

# Assumed for an H100 SXM; `make gpu-check` measures the rates of bytes and products. A multiprocessor has
# four schedulers and computes 16 exponentials per cycle. Products of one warp (mma.sync) reach half of the
# peak, which needs groups of four warps.
BYTES_PER_S = 3.0e12
SLOTS_PER_S = 132 * 4 * 1.755e9  # instructions of warps: each scheduler issues at most one per cycle
EXPONENTIALS_PER_S = 132 * 16 * 1.755e9

DIRECTIONS = {"forward": ("forward",), "backward": ("queries", "keys")}


@dataclass(frozen=True)
class Kind:
    """A dtype of the maps.

    Attributes:
        dtype: The dtype.
        flops_per_s: Rate of its products on tensor cores.
        instructions: Machine instructions of a thread per kernel for sm_90, compiled by Triton 3.9: what
            `python -m tests.ops.local_attn.triton.offline 90 bfloat16 --all`, or tf32, prints.
    """

    dtype: torch.dtype
    flops_per_s: float
    instructions: dict[str, Any]


def instructions(file: str) -> dict[str, Any]:
    """Return the contents of a JSON file in this folder."""
    contents: dict[str, Any] = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return contents


BF16 = Kind(torch.bfloat16, 790e12, instructions("instructions.json"))
TF32 = Kind(torch.float32, 395e12, instructions("instructions_tf32.json"))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one layer in one direction, by kernels of one form.

    Attributes:
        counts: Work of each kernel.
        seconds: Time of all kernels.
        bound: Scarcest resource of the slowest kernel.
    """

    counts: list[Count]
    seconds: float
    bound: str


def floor(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> Count:
    """Count the work of a perfect kernel."""
    least = forward_floor if direction == "forward" else backward_floor
    return least(shape, batch, kind.dtype.itemsize)


def floor_seconds(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> float:
    """Return the time of a perfect kernel."""
    least = floor(shape, batch, direction, kind)
    return max(
        least.memory / BYTES_PER_S, least.flops / kind.flops_per_s, least.exponentials / EXPONENTIALS_PER_S
    )


def with_dot(shape: Spatial, direction: str, kind: Kind = BF16) -> bool:
    """Return whether the kernels on tensor cores are selected for a direction."""
    return attention_maps(shape, 1, kind.dtype).dot(DIRECTIONS[direction][0])


def predict(shape: Spatial, batch: int, direction: str, kind: Kind = BF16, *, dot: bool) -> Prediction:
    """Add up the kernels of a direction, each as fast as its scarcest resource."""
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
    """Return the seconds that a kernel needs of each resource."""
    return {
        "bytes": one.memory / BYTES_PER_S,
        "products": one.tensor_flops / (kind.flops_per_s / 2),
        "exponentials": one.exponentials / EXPONENTIALS_PER_S,
    }


def issue(one: Launch, counted: Count, shape: Spatial, kind: Kind) -> float:
    """Return the seconds to issue the instructions of a kernel without stalls."""
    compiled = kind.instructions[
        f"{shape.channels} @ {shape.side}, pool {shape.stride}, {one.kernel.fn.__name__}"
    ]
    return (
        one.warps * (counted.once * compiled["ONCE"] + counted.turns * sum(compiled["LOOPS"])) / SLOTS_PER_S
    )


def convolution_seconds(shape: Spatial, batch: int, direction: str, kind: Kind = BF16) -> float:
    """Return the time of the 3 × 3 convolution, or of its two gradients, from bytes and products.

    Each reads two of input, weight and output, or of their gradients, and writes the third.
    """
    written = shape.out_side**2
    elements = batch * shape.channels * (shape.side**2 + written) + 9 * shape.channels**2
    flops = 2 * 9 * batch * written * shape.channels**2
    one = max(kind.dtype.itemsize * elements / BYTES_PER_S, flops / kind.flops_per_s)
    return one if direction == "forward" else 2 * one


def table(direction: str, batch: int, kind: Kind) -> str:
    """Return the table of all sixteen layers in Markdown."""
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
    """Print the tables of README.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128, help="images (default: 128)")
    parser.add_argument(
        "--tf32", action="store_true", help="float32 maps with products in TF32 instead of bf16"
    )
    given = parser.parse_args()
    kind = TF32 if given.tf32 else BF16
    print("\n\n".join(table(direction, given.batch, kind) for direction in DIRECTIONS))


if __name__ == "__main__":
    main()
