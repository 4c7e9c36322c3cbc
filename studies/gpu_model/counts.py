"""Bytes and products that local attention needs at least, and those of its Triton kernels, by counting.

The floor counts each window position inside the map once. The counts of a kernel follow from its launch, as
`sasa.ops.local_attn.backends.triton.launch` makes it, and from the work of one turn of its loops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.shapes import Spatial
from sasa.ops.local_attn.backends.triton import launch
from sasa.ops.local_attn.spec import LocalAttentionSpec

HEADS, KERNEL = 8, 7


@dataclass(frozen=True)
class Count:
    """The work of a perfect kernel, or of one of ours.

    Attributes:
        memory: Bytes, each map once.
        cached: Bytes requested from the second-level cache, with the halo of every tile.
        flops: Products and sums.
        exponentials: Exponentials.
        tensor_flops: The part of `flops` that runs on tensor cores.
        once: Executions of the code around the loops, by all programs together.
        turns: Turns of the loops, by all programs together.
    """

    memory: float
    cached: float = 0.0
    flops: float = 0.0
    exponentials: float = 0.0
    tensor_flops: float = 0.0
    once: float = 0.0
    turns: float = 0.0


class Maps(NamedTuple):
    """Numbers of maps that are read or written, by their kind.

    Attributes:
        full: Maps with head_dim numbers per pixel and head.
        pooled: The same per block of pooled pixels.
        numbers: Maps with one float32 number per pixel and head.
    """

    full: int = 0
    pooled: int = 0
    numbers: int = 0

    def bytes(self, maps: launch.Maps) -> float:
        """Return the mean number of bytes per pixel and head."""
        channels, *size = maps.q.shape[1:]
        row = channels // HEADS * maps.q.element_size()
        share = math.prod(maps.spec.output_size(*size)) / math.prod(size)
        return (self.full + self.pooled * share) * row + 4 * self.numbers


class Kernel(NamedTuple):
    """The work of a kernel, with ordinary arithmetic or on tensor cores; see the file of its name.

    Attributes:
        own: Maps read at the program's own pixels.
        others: Maps read within reach of their windows.
        written: Maps written.
        passes: Passes over the window, each with one exponential per logit.
        products: Products of length head_dim per logit, all passes together.
        table: Products with the table of embeddings per query, with ordinary arithmetic. The kernel "keys"
            has none: it adds the embeddings to its keys, or multiplies queries in its loop.
        precise: The same on tensor cores, in float32 precision.
        rounded: The same on tensor cores, rounded.
    """

    own: Maps
    others: Maps
    written: Maps
    passes: int
    products: int
    table: int = 0
    precise: int = 0
    rounded: int = 0


KERNELS = {
    # q; k and v; out and lse. q·k, p·v.
    "forward": Kernel(Maps(1), Maps(2), Maps(0, 1, 1), 1, 2, table=1, precise=1),
    # q, grad, lse; k and v; dq and delta. Twice q·k and g·v, then slopes·k, where slopes are the gradients of
    # the logits. With the table: q·r in each pass, slopes·r, slopes·q.
    "queries": Kernel(Maps(1, 1, 1), Maps(2), Maps(1, 0, 1), 2, 5, table=4, precise=2, rounded=1),
    # k and v; q, grad, lse, delta; dk and dv. q·k, g·v, p·g, slopes·q.
    "keys": Kernel(Maps(2), Maps(1, 1, 2), Maps(2), 1, 4),
}


def window(shape: Spatial) -> LocalAttentionSpec:
    """Return the window of the attention that replaces the convolution."""
    return LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, shape.stride)


def positions(shape: Spatial) -> tuple[int, int]:
    """Count positions, and rows and columns, of the windows of all queries that lie inside the map."""
    spec, side = window(shape), shape.side
    axes = [
        LocalAttentionSpec(HEADS, size, (1, 1), 1.0, 1).positions_inside(side, side)
        for size in ((KERNEL, 1), (1, KERNEL))
    ]
    return spec.positions_inside(side, side), sum(axes)


def forward_floor(shape: Spatial, batch: int, itemsize: int) -> Count:
    """Count the forward pass: reads q, k and v, writes the output; q·k, p·v and, of half the length, q·r."""
    window_positions, offsets = positions(shape)
    pixels = 3 * shape.side**2 + math.prod(window(shape).output_size(shape.side, shape.side))
    return Count(
        itemsize * batch * shape.channels * pixels,
        flops=batch * shape.channels * (4 * window_positions + offsets),
        exponentials=batch * HEADS * window_positions,
    )


def backward_floor(shape: Spatial, batch: int, itemsize: int) -> Count:
    """Count the backward pass.

    It reads q, k, v, the gradient of the output and the log-sum-exp, and writes the gradients of q, k and v.
    Its products are q·k, g·v and one for each of these gradients; with half the length, q·r and one each for
    the gradients of q and of the embeddings. It computes the exponentials again.
    """
    window_positions, offsets = positions(shape)
    pixels = 6 * shape.side**2 + math.prod(window(shape).output_size(shape.side, shape.side))
    return Count(
        batch * (itemsize * shape.channels * pixels + 4 * HEADS * shape.side**2),
        flops=batch * shape.channels * (10 * window_positions + 3 * offsets),
        exponentials=batch * HEADS * window_positions,
    )


def attention_maps(shape: Spatial, batch: int, dtype: torch.dtype) -> launch.Maps:
    """Return q, k and v as the projection of a layer returns them: channels-last, on the meta device."""
    qkv = _empty(batch, 3 * shape.channels, shape.side, shape.side, dtype=dtype)
    q, k, v = qkv.split(shape.channels, 1)
    rel = torch.empty(HEADS, 2 * KERNEL, shape.channels // HEADS, device="meta")
    return launch.Maps(q, k, v, rel, window(shape), True, tf32=dtype == torch.float32)


def launches(maps: launch.Maps, *, dot: bool) -> Iterator[tuple[str, launch.Launch]]:
    """Yield name and launch of each kernel in one of its forms; the forward pass is that of training."""
    (batch, channels, height, width), dtype = maps.q.shape, maps.q.dtype
    forward, queries, keys = (maps.table(kernel, dot=dot) for kernel in KERNELS)
    out = _empty(batch, channels, *maps.spec.output_size(height, width), dtype=dtype)
    like_q = _empty(batch, channels, height, width, dtype=dtype)
    lse = torch.empty(batch, HEADS, height, width, device="meta")
    assert maps.rel is not None
    partial = torch.empty(launch.programs(maps, queries), *maps.rel.shape, device="meta")
    yield "forward", launch.forward(maps, out, lse, save_lse=True, choice=forward)
    yield "queries", launch.queries(maps, out, lse, like_q, lse, partial, choice=queries)
    yield "keys", launch.keys(maps, out, lse, lse, like_q, like_q, choice=keys)


def _empty(*size: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta").to(memory_format=torch.channels_last)


def count(name: str, one: launch.Launch, maps: launch.Maps) -> Count:
    """Count the work of all programs of a kernel in `KERNELS`."""
    kernel, given, dot = KERNELS[name], one.arguments, "TAPS" in one.arguments
    done = (_on_tensor_cores if dot else _ordinary)(name, one, maps)
    own, others, written = (which.bytes(maps) for which in (kernel.own, kernel.others, kernel.written))
    batch, _, height, width = maps.q.shape
    pixels = batch * HEADS * height * width
    memory = pixels * (own + others + written)
    cached = pixels * (own + written) + kernel.passes * batch * HEADS * done.reached * others
    if name == "queries":
        # With ordinary arithmetic only the half of a row that belongs to its embedding is read and written.
        tiles, place = batch * given["tiles_y"] * given["tiles_x"], given["partial"][0].numel()
        memory += 2 * 4 * given["partial"].numel()
        cached += 2 * 4 * tiles * place / (1 if dot else 2)
    return Count(
        memory,
        cached,
        done.flops,
        kernel.passes * done.logits + (done.rescaled if name == "forward" else 0),
        done.flops if dot else 0.0,
        done.once,
        done.turns,
    )


class Done(NamedTuple):
    """The work of all programs, including what they mask.

    Attributes:
        once: As in `Count`.
        turns: As in `Count`.
        logits: Logits per pass.
        rescaled: Sums of the forward pass that are rescaled to a new maximum.
        flops: Products and sums.
        reached: Pixels of one image within reach of the windows of a tile, all tiles together.
    """

    once: int
    turns: int
    logits: int
    rescaled: int
    flops: int
    reached: int


def _on_tensor_cores(name: str, one: launch.Launch, maps: launch.Maps) -> Done:
    """Count programs that have a tile of one head and pass over rows of keys or queries of a fixed width."""
    kernel, given = KERNELS[name], one.arguments
    (batch, _, height, width), reach = maps.q.shape, KERNEL // 2
    rows, cols = given["TILE_ROWS"], given["TILE_COLS"]
    at_once, key_cols = given.get("KEY_ROWS", 1), given.get("KEY_COLS", given.get("OTHER_COLS"))
    seen_rows = [min(y + rows + reach, height) - max(y - reach, 0) for y in range(0, height, rows)]
    seen_cols = [min(key_cols, width - max(x - reach, 0)) for x in range(0, width, cols)]
    once = batch * HEADS * given["tiles_y"] * given["tiles_x"]
    turns = batch * HEADS * given["tiles_x"] * sum(-(-n // at_once) for n in seen_rows)
    logits = turns * at_once * key_cols * rows * cols
    with_table = 2 * given["TAPS"] * given["BLOCK_D"]
    precise = 3 if maps.q.element_size() == 2 else 1  # products per product in float32 precision
    flops = 2 * kernel.products * logits * given["BLOCK_D"]
    flops += once * rows * cols * (kernel.precise * precise + kernel.rounded) * with_table
    if name == "keys":
        flops += turns * at_once * key_cols * precise * with_table
    return Done(once, turns, logits, turns * rows * cols, flops, sum(seen_rows) * sum(seen_cols))


def _ordinary(name: str, one: launch.Launch, maps: launch.Maps) -> Done:
    """Count programs that have a tile of some heads and pass over the rows of the window."""
    kernel, given = KERNELS[name], one.arguments
    (batch, _, height, width), reach = maps.q.shape, KERNEL // 2
    rows, cols, heads = (given[f"TILE_{x}"] for x in ("ROWS", "COLS", "HEADS"))
    # Queries per row of the tile; the forward kernel makes one pass per row of queries.
    down, across = (maps.spec.pool, given["QUERIES"]) if name == "forward" else (1, 1)
    seen_rows, seen_cols = (
        sum(min(start + step + reach, n) - max(start - reach, 0) for start in range(0, n, step))
        for n, step in ((height, down * rows), (width, across * cols))
    )
    once = batch * given["tiles_y"] * given["tiles_x"] * -(-HEADS // heads) * down
    turns = once * KERNEL * -(-KERNEL // given["COLS"])
    queries = once * rows * cols * heads * across
    logits = queries * KERNEL**2
    flops = 2 * (kernel.products * logits + kernel.table * queries * given["EXTENT"]) * given["BLOCK_D"]
    if name == "keys":
        flops += (logits + queries * KERNEL) * given["BLOCK_D"]
    return Done(once, turns, logits, queries * KERNEL, flops, seen_rows * seen_cols)


def partial_sums(queries: launch.Launch) -> Count:
    """Count torch's work for the gradients of the embeddings, whose parts are set to zero and summed."""
    partial: Tensor = queries.arguments["partial"]
    return Count(2 * 4 * partial.numel(), 2 * 4 * partial.numel(), partial.numel())
