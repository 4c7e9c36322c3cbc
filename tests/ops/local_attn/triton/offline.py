"""Compile the Triton kernels for a GPU that is not there, at ResNet-50's shapes, batch 128.

    python -m tests.ops.local_attn.triton.offline CAPABILITY DTYPE [--all] [SHAPE ...]  # 90 bfloat16 0 1 6

SHAPE counts those of ResNet-50 from 0, all by default; 7 and 8 have heads of 4 and of 128. DTYPE tf32 is
float32 maps with products in tf32. It prints a JSON object: for each shape and kernel, with --all of both
forms wherever they can run, the registers (REG), stack (STACK) and shared memory (SHARED) of its cubin, in
bytes where they are not registers, and the machine instructions of a thread: of each innermost loop in their
order (LOOPS), and of all that is around them (ONCE), without what only tiles with a number that is not finite
come to. PRODUCTS are the kinds of instructions for tensor cores.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from sasa.ops.local_attn.backends.triton import launch
from sasa.ops.local_attn.backends.triton.choices import KERNELS
from sasa.ops.local_attn.spec import LocalAttentionSpec

# Channels, side of the map, pooling of ResNet-50's seven shapes; 8 heads, k = 7.
RESNET50 = ((64, 56, 1), (128, 56, 2), (128, 28, 1), (256, 28, 2), (256, 14, 1), (512, 14, 2), (512, 7, 1))
# Heads of 4 and of 128.
OTHERS = ((32, 28, 1), (1024, 7, 1))


class AbsentGPU:
    """As much of Triton's driver as the compiler asks for."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


def launches(
    channels: int, side: int, pool: int, dtype: torch.dtype, *, tf32: bool = False, every_form: bool = False
) -> Iterator[launch.Launch]:
    """The forward pass of training and the two kernels of the backward pass; as selected or in every form."""
    batch, heads, extent = 128, 8, 7

    def empty(*size: int) -> Tensor:
        x = torch.empty(size, dtype=dtype, device="meta")
        return x.to(memory_format=torch.channels_last)

    q, k, v = empty(batch, 3 * channels, side, side).split(channels, 1)
    rel = torch.empty(heads, 2 * extent, channels // heads, device="meta")
    out = empty(batch, channels, -(-side // pool), -(-side // pool))
    lse = torch.empty(batch, heads, side, side, device="meta")
    spec = LocalAttentionSpec(heads, (extent, extent), (1, 1), 1.0, pool)
    maps = launch.Maps(q, k, v, rel, spec, True, tf32)
    for dot in ((False, True) if maps.can_dot else (False,)) if every_form else (None,):
        forward, queries, keys = (maps.table(kernel, dot=dot) for kernel in KERNELS)
        partial = torch.empty(launch.programs(maps, queries), *rel.shape, device="meta")
        yield launch.forward(maps, out, lse, save_lse=True, choice=forward)
        yield launch.queries(maps, out, lse, empty(*q.shape), lse, partial, choice=queries)
        yield launch.keys(maps, out, lse, lse, empty(*q.shape), empty(*q.shape), choice=keys)


def compile_offline(one: launch.Launch) -> bytes:
    """The cubin, specialized to its arguments as a real launch would be."""
    compiled = one.kernel.run(**one.arguments, **one.options, grid=one.grid, warmup=True)
    cubin: bytes = compiled.asm["cubin"]
    return cubin


def usage(cubin: bytes) -> dict[str, Any]:
    """What cuobjdump reads from it."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", "--dump-sass", file.name]
        sass = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", sass)
        once, loops = instructions(sass)
        products = sorted(set(re.findall(r"\b[A-Z]*MMA\.[\w.]+", sass)))
        return {name: int(n) for name, n in found} | {"ONCE": once, "LOOPS": loops, "PRODUCTS": products}


def instructions(sass: str) -> tuple[int, list[int]]:
    """How many there are around the innermost loops, and in each of them.

    Left out is what a branch behind a loop jumps over, if that is two loops or more: what the kernels do
    again exactly, if a number is not finite. A branch over one is the test before it.
    """
    lines = [
        (int(address, 16), text) for address, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(\S.*?);", sass)
    ]
    branches = [(address, re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)) for address, text in lines]
    jumps = [(address, int(m[1], 16)) for address, m in branches if m]
    loops = sorted((to, address) for address, to in jumps if to < address)
    innermost = [
        (start, end)
        for start, end in loops
        if not any((start, end) != other and start <= other[0] and other[1] <= end for other in loops)
    ]
    first = min((end for _, end in loops), default=0)
    again = [
        (address + 1, to - 1)
        for address, to in jumps
        if address > first and sum(address < start and end < to for start, end in loops) > 1
    ]
    innermost = [loop for loop in innermost if not any(s <= loop[0] and loop[1] <= e for s, e in again)]
    last = max(address for address, text in lines if "EXIT" in text)
    once = [
        address
        for address, _ in lines
        if address <= last and not any(start <= address <= end for start, end in innermost + again)
    ]
    return len(once), [sum(start <= a <= end for a, _ in lines) for start, end in innermost]


if __name__ == "__main__":
    capability, dtype, *options = sys.argv[1:]
    every_form, tf32 = "--all" in options, dtype == "tf32"
    shapes = [int(i) for i in options if i != "--all"] or range(len(RESNET50))
    kind = torch.float32 if tf32 else getattr(torch, dtype)
    driver.set_active(AbsentGPU(int(capability)))
    found = {
        f"{channels} @ {side}, pool {pool}, {one.kernel.fn.__name__}": usage(compile_offline(one))
        for channels, side, pool in ((*RESNET50, *OTHERS)[i] for i in shapes)
        for one in launches(channels, side, pool, kind, tf32=tf32, every_form=every_form)
    }
    print(json.dumps(found, indent=1))
