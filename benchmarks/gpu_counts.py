"""What local attention has to compute and to move, and what its Triton kernels do: counted, nothing measured.

The floor counts each window position inside the map once. A kernel's counts follow from its launch, as
`sasa.ops.local_attn.backends.triton.launch` would make it, and from what one turn of its loops does.
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
    """Of the op as it has to be, or of one kernel."""

    memory: float  # bytes: each map once
    cached: float = 0.0  # bytes that programs ask the second-level cache for, with every tile's halo
    flops: float = 0.0  # all products and sums of pairs
    exponentials: float = 0.0
    tensor_flops: float = 0.0  # those of the FLOPs that are on tensor cores
    once: float = 0.0  # how often all programs together do what is around the loops, and what is in each
    turns: float = 0.0


class Maps(NamedTuple):
    """How many maps are read or written, by what they have for a pixel of one head."""

    full: int = 0  # a head's width of numbers
    pooled: int = 0  # the same for each block of pooled pixels
    numbers: int = 0  # one number in float32

    def bytes(self, maps: launch.Maps) -> float:
        """Of a pixel of one head, on average."""
        channels, *size = maps.q.shape[1:]
        row = channels // HEADS * maps.q.element_size()
        share = math.prod(maps.spec.output_size(*size)) / math.prod(size)
        return (self.full + self.pooled * share) * row + 4 * self.numbers


class Kernel(NamedTuple):
    """What a kernel does, with ordinary arithmetic or on tensor cores; see the file of its name."""

    own: Maps  # read at a program's own pixels
    others: Maps  # read wherever their windows reach
    written: Maps
    passes: int  # over the window, each with an exponential for every logit
    products: int  # of a head's width, for a logit, all passes together
    # With the table of embeddings: of a query on ordinary arithmetic; on tensor cores those in float32's
    # precision, and those rounded. `keys` adds the embeddings to its keys, or multiplies queries as it goes.
    table: int = 0
    precise: int = 0
    rounded: int = 0


KERNELS = {
    # q; k and v; out and lse. q·k, p·v.
    "forward": Kernel(Maps(1), Maps(2), Maps(0, 1, 1), 1, 2, table=1, precise=1),
    # q, grad, lse; k and v; dq and delta. Twice q·k and g·v, then slopes·k. With the table: q·r in each pass,
    # slopes·r, slopes·q.
    "queries": Kernel(Maps(1, 1, 1), Maps(2), Maps(1, 0, 1), 2, 5, table=4, precise=2, rounded=1),
    # k and v; q, grad, lse, delta; dk and dv. q·k, g·v, p·g, slopes·q.
    "keys": Kernel(Maps(2), Maps(1, 1, 2), Maps(2), 1, 4),
}


def window(shape: Spatial) -> LocalAttentionSpec:
    """Of the attention that stands for the convolution."""
    return LocalAttentionSpec(HEADS, (KERNEL, KERNEL), (1, 1), 1.0, shape.stride)


def positions(shape: Spatial) -> tuple[int, int]:
    """Window positions inside the map, and rows and columns of windows inside it, of all queries."""
    spec, side = window(shape), shape.side
    axes = [
        LocalAttentionSpec(HEADS, size, (1, 1), 1.0, 1).positions_inside(side, side)
        for size in ((KERNEL, 1), (1, KERNEL))
    ]
    return spec.positions_inside(side, side), sum(axes)


def forward_floor(shape: Spatial, batch: int, itemsize: int) -> Count:
    """Reads q, k and v, writes the output. q·k and p·v; q·r of half a head's width."""
    window_positions, offsets = positions(shape)
    pixels = 3 * shape.side**2 + math.prod(window(shape).output_size(shape.side, shape.side))
    return Count(
        itemsize * batch * shape.channels * pixels,
        flops=batch * shape.channels * (4 * window_positions + offsets),
        exponentials=batch * HEADS * window_positions,
    )


def backward_floor(shape: Spatial, batch: int, itemsize: int) -> Count:
    """Reads q, k, v, the output's gradient and the log-sum-exp, writes the gradients of q, k and v.

    q·k, g·v, and a product each for the gradients of q, k and v; q·r, and one each for what the embeddings
    give to q and get from it. The weights need their exponentials again.
    """
    window_positions, offsets = positions(shape)
    pixels = 6 * shape.side**2 + math.prod(window(shape).output_size(shape.side, shape.side))
    return Count(
        batch * (itemsize * shape.channels * pixels + 4 * HEADS * shape.side**2),
        flops=batch * shape.channels * (10 * window_positions + 3 * offsets),
        exponentials=batch * HEADS * window_positions,
    )


def attention_maps(shape: Spatial, batch: int, dtype: torch.dtype) -> launch.Maps:
    """q, k and v as a layer's projection gives them, channels-last and without storage."""
    qkv = _empty(batch, 3 * shape.channels, shape.side, shape.side, dtype=dtype)
    q, k, v = qkv.split(shape.channels, 1)
    rel = torch.empty(HEADS, 2 * KERNEL, shape.channels // HEADS, device="meta")
    return launch.Maps(q, k, v, rel, window(shape), True, tf32=dtype == torch.float32)


def launches(maps: launch.Maps, *, dot: bool) -> Iterator[tuple[str, launch.Launch]]:
    """Each kernel by its name, in one of both forms; the forward pass is that of training."""
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
    """Of the kernel of this name in `KERNELS`, all programs together."""
    kernel, given, dot = KERNELS[name], one.arguments, "TAPS" in one.arguments
    done = (_on_tensor_cores if dot else _ordinary)(name, one, maps)
    own, others, written = (which.bytes(maps) for which in (kernel.own, kernel.others, kernel.written))
    batch, _, height, width = maps.q.shape
    pixels = batch * HEADS * height * width
    memory = pixels * (own + others + written)
    cached = pixels * (own + written) + kernel.passes * batch * HEADS * done.seen * others
    if name == "queries":
        # Ordinary arithmetic reads and writes the half of a row that its embedding has.
        tiles, place = batch * given["tiles_y"] * given["tiles_x"], given["partial"][0].numel()
        memory += 2 * 4 * given["partial"].numel()
        cached += 2 * 4 * tiles * place / (1 if dot else 2)
    return Count(
        memory,
        cached,
        done.flops,
        kernel.passes * done.logits + (done.shrunk if name == "forward" else 0),
        done.flops if dot else 0.0,
        done.once,
        done.turns,
    )


class Done(NamedTuple):
    """By all programs together, with what they mask."""

    once: int  # as in `Count`
    turns: int
    logits: int  # of one pass
    shrunk: int  # sums that a new maximum shrinks, forward
    flops: int
    seen: int  # pixels of one image that the windows of a tile reach, all tiles together


def _on_tensor_cores(name: str, one: launch.Launch, maps: launch.Maps) -> Done:
    """A program has a tile for one head and passes over rows of keys, or queries, of a fixed width."""
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
    precise = 3 if maps.q.element_size() == 2 else 1  # products for one in float32's precision
    flops = 2 * kernel.products * logits * given["BLOCK_D"]
    flops += once * rows * cols * (kernel.precise * precise + kernel.rounded) * with_table
    if name == "keys":
        flops += turns * at_once * key_cols * precise * with_table
    return Done(once, turns, logits, turns * rows * cols, flops, sum(seen_rows) * sum(seen_cols))


def _ordinary(name: str, one: launch.Launch, maps: launch.Maps) -> Done:
    """A program has a tile for some heads and passes over the rows of the window."""
    kernel, given = KERNELS[name], one.arguments
    (batch, _, height, width), reach = maps.q.shape, KERNEL // 2
    rows, cols, heads = (given[f"TILE_{x}"] for x in ("ROWS", "COLS", "HEADS"))
    # Queries in a row of its tile; `forward` passes for each row of them.
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
    """What torch does around `queries`: places for the embeddings' gradients are made 0, and added."""
    partial: Tensor = queries.arguments["partial"]
    return Count(2 * 4 * partial.numel(), 2 * 4 * partial.numel(), partial.numel())
