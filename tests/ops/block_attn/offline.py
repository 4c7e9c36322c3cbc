"""Compile the Triton kernels for a GPU that is not there, at the stem of sasa_resnet50, 224 × 224, batch 128.

    python -m tests.ops.block_attn.offline CAPABILITY DTYPE      # 90 bfloat16

prints a JSON object: what `tests.ops.local_attn.triton.offline` prints, for each kernel. LOOP is one block of
one head.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from triton.runtime import driver

from sasa.ops.block_attn.backends.triton import launch
from sasa.ops.local_attn.backends.triton.launch import Launch

from ..local_attn.triton.offline import AbsentGPU, compile_offline, usage

BATCH, SIDE, CHANNELS, HEADS, WIDTH, BLOCK = 128, 224, 3, 4, 16, 4


def launches(dtype: torch.dtype) -> Iterator[tuple[str, Launch]]:
    """Every form of the two kernels, and the merger of the statistics."""

    def image(channels: int, side: int) -> Tensor:
        x = torch.empty(BATCH, channels, side, side, dtype=dtype, device="meta")
        return x.to(memory_format=torch.channels_last)

    def numbers(*size: int) -> Tensor:
        return torch.empty(size, device="meta")

    positions = BLOCK**2
    learned = (
        numbers(HEADS, CHANNELS, CHANNELS),
        numbers(HEADS, CHANNELS, positions, positions),
        numbers(positions, HEADS * WIDTH, CHANNELS),
    )
    problem, pooling = (
        launch.Problem(image(CHANNELS, SIDE), *learned, BLOCK, pool) for pool in (False, True)
    )
    out, pooled = image(HEADS * WIDTH, SIDE), image(HEADS * WIDTH, SIDE // BLOCK)
    parts = numbers(launch.forward_programs(problem), 3, HEADS * WIDTH)
    programs = launch.backward_programs(problem)
    grads, of_outputs = [numbers(programs, *x.shape) for x in learned], numbers(3, HEADS * WIDTH)
    yield "forward", launch.forward(problem, out)
    yield "forward, pooled", launch.forward(pooling, pooled)
    yield "forward, statistics", launch.forward(pooling, pooled, parts)
    yield "merge", launch.merge(parts, *of_outputs[:2])
    yield "backward", launch.backward(problem, out, None, grads)
    yield "backward, pooled", launch.backward(pooling, pooled, None, grads)
    yield "backward, statistics", launch.backward(pooling, pooled, of_outputs, grads)


if __name__ == "__main__":
    driver.set_active(AbsentGPU(int(sys.argv[1])))
    dtype = getattr(torch, sys.argv[2])
    print(json.dumps({name: usage(compile_offline(one)) for name, one in launches(dtype)}))
