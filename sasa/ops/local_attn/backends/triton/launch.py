"""From tensors to kernel launches: grids, strides and compile-time constants.

A `Launch` can be run, and the tests can compile it for a device that is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sasa.ops.local_attn.backends.triton import tiles
from sasa.ops.local_attn.backends.triton.backward import keys_kernel, queries_kernel
from sasa.ops.local_attn.backends.triton.backward_dot import keys_dot_kernel, queries_dot_kernel
from sasa.ops.local_attn.backends.triton.choices import CHOICES, Choice
from sasa.ops.local_attn.backends.triton.forward import forward_kernel
from sasa.ops.local_attn.backends.triton.forward_dot import forward_dot_kernel
from sasa.ops.local_attn.spec import LocalAttentionSpec

# Of `queries_kernel` in the grid's first axis: enough for any GPU, few enough partial sums. Not a device's
# number of multiprocessors, so that results do not depend on the device.
PROGRAMS = 2048


@dataclass(frozen=True)
class Launch:
    """One kernel with everything that it is called with."""

    kernel: Any
    grid: tuple[int, int]
    arguments: dict[str, Any]
    warps: int
    registers: int  # of a thread at most; left alone, ptxas trades a few spills for more threads
    stages: int = 3  # of loads that the compiler lets overlap, where a loop has products on tensor cores

    @property
    def options(self) -> dict[str, Any]:
        """For the compiler. Products and sums are fused, whatever the default of this version of Triton."""
        return {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "enable_fp_fusion": True,
            "maxnreg": self.registers,
        }

    def __call__(self) -> None:
        """On the current device and stream."""
        if self.grid[0] >= 2**31 or self.grid[1] >= 2**16:
            raise ValueError(
                f"q: expected at most 2³¹ − 1 programs for a batch, 2¹⁶ − 1 for heads, got {self.grid}; "
                "split the batch"
            )
        self.kernel[self.grid](**self.arguments, **self.options)


@dataclass(frozen=True)
class Maps:
    """The tensors that forward and backward pass read; rel is the packed table, see `op.pack`."""

    q: Tensor
    k: Tensor | None
    v: Tensor
    rel: Tensor | None
    spec: LocalAttentionSpec
    channels_last: bool
    tf32: bool = False  # whether products of float32 maps may be

    @property
    def head_dim(self) -> int:
        """The larger of queries' and values', a power of two."""
        widest = max(self.q.shape[1], self.v.shape[1])
        return tiles.power_of_two(widest // self.spec.num_heads)

    def arguments(self) -> dict[str, Any]:
        """What all kernels take."""
        spec, (num_rows, num_cols) = self.spec, self.spec.kernel_size
        # What is not given is not read, but a pointer has to be passed.
        k, rel = (self.q if x is None else x for x in (self.k, self.rel))
        return {
            "q": self.q,
            "k": k,
            "v": self.v,
            "rel": rel,
            **strides("q", self.q),
            **strides("k", k),
            **strides("v", self.v),
            "height": self.q.shape[2],
            "width": self.q.shape[3],
            "heads": spec.num_heads,
            "factor": spec.scale * math.log2(math.e),
            "D": self.q.shape[1] // spec.num_heads,
            "DV": self.v.shape[1] // spec.num_heads,
            "KERNEL_ROWS": num_rows,
            "KERNEL_COLS": num_cols,
            "EXTENT": num_rows + num_cols,
            "POOL": spec.pool,
            "HAS_K": self.k is not None,
            "HAS_REL": self.rel is not None,
        }

    def common(
        self, height: int, width: int, *, warps: int, wide: bool = False
    ) -> tuple[tiles.Tile, tuple[int, int], dict[str, Any]]:
        """Tile, number of tiles along each axis of a map, and the arguments of kernels without products.

        wide: of `tiles.choose`.
        """
        tile = tiles.choose(
            height=height,
            width=width,
            heads=self.spec.num_heads,
            head_dim=self.head_dim,
            itemsize=self.q.element_size(),
            channels_last=self.channels_last,
            warps=warps,
            wide=wide,
        )
        return tile, *self._tiled(
            tile,
            (height, width),
            1,
            DILATION_ROWS=self.spec.dilation[0],
            DILATION_COLS=self.spec.dilation[1],
            TILE_HEADS=tile.heads,
            COLS=tiles.columns_at_once(self.spec.kernel_size[1]),
        )

    def _tiled(
        self, tile: tiles.Tile | tiles.DotTile, size: tuple[int, int], least: int, **others: int
    ) -> tuple[tuple[int, int], dict[str, Any]]:
        """Number of tiles along each axis of a map, and the arguments, with head_dim of at least least."""
        arguments = self.arguments() | others
        count = (-(-size[0] // tile.rows), -(-size[1] // tile.cols))
        return count, arguments | {
            "tiles_y": count[0],
            "tiles_x": count[1],
            "TILE_ROWS": tile.rows,
            "TILE_COLS": tile.cols,
            "BLOCK_D": max(least, tiles.power_of_two(arguments["D"])),
            "BLOCK_DV": max(least, tiles.power_of_two(arguments["DV"])),
        }

    def dot(self, kernel: str) -> bool:
        """Whether products on tensor cores can be and pay."""
        query_dim = self.q.shape[1] // self.spec.num_heads
        return self.can_dot and tiles.dot_pays(
            self.spec,
            query_dim=query_dim,
            head_dim=self.head_dim,
            forward=kernel == "forward",
            itemsize=self.q.element_size(),
        )

    @property
    def can_dot(self) -> bool:
        """Whether they can be."""
        return tiles.can_dot(
            self.spec, itemsize=self.q.element_size(), head_dim=self.head_dim, tf32=self.tf32
        )

    def choose(self, kernel: str) -> Choice:
        """For "forward", "queries" or "keys": what was measured, if it was, else the table's."""
        measured = CHOICES.get(self.key(kernel)) if CHOICES else None
        return self.table(kernel) if measured is None else measured

    def table(self, kernel: str, *, dot: bool | None = None) -> Choice:
        """Without a measurement; dot: whether with products, by default where `tiles` says that it pays."""
        if self.dot(kernel) if dot is None else dot:
            # Wider heads do not fit the registers of one warp.
            wide = kernel == "queries" and self.head_dim > 32
            return Choice(True, 4 if wide else self.for_dot()[0].warps)
        # Without pooling the forward kernel needs few enough registers for 16 warps a multiprocessor in
        # either size of program; the larger tile has less halo.
        return Choice(False, 8 if kernel == "forward" and self.spec.pool == 1 else 4)

    def key(self, kernel: str) -> str:
        """All that a kernel's time, and which forms it has, depend on."""
        spec = self.spec
        layout = "channels last" if self.channels_last else "contiguous"
        dtype = str(self.q.dtype).removeprefix("torch.")
        return (
            f"{kernel}: q {tuple(self.q.shape)}, {self.v.shape[1]} of values, {dtype}, {layout}, "
            f"{spec.num_heads} heads, window {spec.kernel_size}, dilation {spec.dilation}, "
            f"scale {spec.scale}, pool {spec.pool}"
            + (", tf32" if self.tf32 and self.q.dtype == torch.float32 else "")
            + (", no k" if self.k is None else "")
            + (", no embeddings" if self.rel is None else "")
        )

    def for_dot(self) -> tuple[tiles.DotTile, tuple[int, int], dict[str, Any]]:
        """As `common`, of kernels with products on tensor cores, which tile the map of q."""
        assert self.can_dot
        height, width = self.q.shape[2:]
        tile = tiles.choose_dot(
            width=width,
            kernel_cols=self.spec.kernel_size[1],
            head_dim=self.head_dim,
            itemsize=self.q.element_size(),
        )
        taps = tiles.taps(self.spec.kernel_size)
        return tile, *self._tiled(tile, (height, width), 16, OTHER_COLS=tile.key_cols, TAPS=taps)


def forward(maps: Maps, out: Tensor, lse: Tensor, *, save_lse: bool, choice: Choice | None = None) -> Launch:
    """The launch that fills out and, if it is saved, lse (B, N, H, W); by default as `Maps.choose` says."""
    choice = maps.choose("forward") if choice is None else choice
    given = {
        "out": out,
        "lse": lse,
        **strides("out", out),
        "RELU": maps.spec.relu,
        "SAVE_LSE": save_lse,
    }
    if choice.dot:
        tile, count, arguments = maps.for_dot()
        del arguments["OTHER_COLS"]
        arguments |= given | {"KEY_ROWS": tile.key_rows, "KEY_COLS": tile.key_cols}
        grid = (len(out) * math.prod(count) * maps.spec.num_heads, 1)
        row_bytes = max(16, maps.head_dim) * maps.q.element_size()
        registers = 168 if row_bytes <= 32 else 192 if row_bytes <= 64 else 255
        return Launch(forward_dot_kernel, grid, arguments, choice.warps, registers, tile.stages)
    columns, wide = -(-maps.q.shape[3] // tiles.QUERIES), maps.spec.pool < tiles.QUERIES
    plain, count, arguments = maps.common(out.shape[2], columns, warps=choice.warps, wide=wide)
    arguments |= given | {"QUERIES": tiles.QUERIES}
    grid = (len(out) * math.prod(count), -(-maps.spec.num_heads // plain.heads))
    return Launch(forward_kernel, grid, arguments, plain.warps, registers=168)


def queries(
    maps: Maps,
    grad: Tensor,
    lse: Tensor,
    grad_q: Tensor,
    delta: Tensor,
    partial: Tensor,
    *,
    choice: Choice | None = None,
) -> Launch:
    """The launch that fills grad_q and delta and adds to partial (`programs`, N, EXTENT, D)."""
    choice = maps.choose("queries") if choice is None else choice
    given: dict[str, Any] = {"grad": grad, "lse": lse, "grad_q": grad_q, "delta": delta, "partial": partial}
    given |= {**strides("grad", grad), **strides("grad_q", grad_q), "scale": maps.spec.scale}
    if choice.dot:
        _, count, arguments = maps.for_dot()
        arguments |= given | {"tiles": len(grad) * math.prod(count)}
        grid = (maps.spec.num_heads, programs(maps, choice))
        return Launch(queries_dot_kernel, grid, arguments, choice.warps, registers=255, stages=1)
    plain, count, arguments = maps.common(*maps.q.shape[2:], warps=choice.warps)
    arguments |= given | {"tiles": len(grad) * math.prod(count)}
    grid = (programs(maps, choice), -(-maps.spec.num_heads // plain.heads))
    return Launch(queries_kernel, grid, arguments, plain.warps, registers=255)


def programs(maps: Maps, choice: Choice | None = None) -> int:
    """Of `queries` for each head."""
    choice = maps.choose("queries") if choice is None else choice
    count = (maps.for_dot() if choice.dot else maps.common(*maps.q.shape[2:], warps=choice.warps))[1]
    return min(PROGRAMS, len(maps.q) * math.prod(count))


def keys(
    maps: Maps,
    grad: Tensor,
    lse: Tensor,
    delta: Tensor,
    grad_k: Tensor | None,
    grad_v: Tensor,
    *,
    choice: Choice | None = None,
) -> Launch:
    """The launch that fills grad_k, where there are keys, and grad_v."""
    choice = maps.choose("keys") if choice is None else choice
    to_k = grad_v if grad_k is None else grad_k
    given: dict[str, Any] = {"grad": grad, "lse": lse, "delta": delta, "grad_k": to_k, "grad_v": grad_v}
    given |= {**strides("grad", grad), **strides("grad_k", to_k), **strides("grad_v", grad_v)}
    given["scale"] = maps.spec.scale
    if choice.dot:
        _, count, arguments = maps.for_dot()
        grid = (len(grad) * math.prod(count) * maps.spec.num_heads, 1)
        return Launch(keys_dot_kernel, grid, arguments | given, choice.warps, registers=255, stages=1)
    plain, count, arguments = maps.common(*maps.q.shape[2:], warps=choice.warps)
    grid = (len(grad) * math.prod(count), -(-maps.spec.num_heads // plain.heads))
    return Launch(keys_kernel, grid, arguments | given, plain.warps, registers=255)


def strides(name: str, x: Tensor) -> dict[str, int]:
    """A map's strides as arguments of a kernel."""
    axes = ("image", "channel", "row", "col")
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, x.stride(), strict=True)}
