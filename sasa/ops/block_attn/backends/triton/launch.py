"""From tensors to kernel launches: grids, strides and compile-time constants.

How blocks are divided among programs depends on the arguments alone and not on the device, so that sums over
programs do not either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sasa.ops.block_attn.backends.triton.backward import backward_kernel
from sasa.ops.block_attn.backends.triton.forward import forward_kernel
from sasa.ops.block_attn.backends.triton.moments import merge_kernel
from sasa.ops.local_attn.backends.triton.launch import Launch
from sasa.ops.local_attn.backends.triton.tiles import power_of_two

# Of a head: programs of the forward pass before one gets a second block, and blocks of a program at most,
# by which loading the head's arguments costs nothing. Neighbors share cache lines of the image.
FORWARD_PROGRAMS = 2048
SQUARES = 64
# Programs of a head in the backward pass at most, and bytes that they write at most: each writes a gradient.
BACKWARD_PROGRAMS = 512
BACKWARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Problem:
    """What forward and backward pass read; what is not x is contiguous and float32.

    Args:
        x: (B, C, H, W), B ≥ 1.
        qk_weight: (N, C, C).
        rel_weight: (N, C, P, P).
        v_weight: (P, N·D, C).
        block_size: The side of the blocks.
    """

    x: Tensor
    qk_weight: Tensor
    rel_weight: Tensor
    v_weight: Tensor
    block_size: int

    @property
    def heads(self) -> int:
        """N."""
        return len(self.qk_weight)

    @property
    def grid(self) -> tuple[int, int]:
        """Squares of an image along each axis."""
        return -(-self.x.shape[2] // self.block_size), -(-self.x.shape[3] // self.block_size)

    @property
    def blocks(self) -> int:
        """Of all images."""
        return len(self.x) * self.grid[0] * self.grid[1]

    @property
    def positions(self) -> int:
        """Rows of the tiles: P, padded."""
        return max(16, power_of_two(self.block_size**2))

    @property
    def width(self) -> int:
        """D."""
        return self.v_weight.shape[1] // self.heads

    @property
    def columns(self) -> int:
        """Of the tiles of values: D, padded."""
        return max(16, power_of_two(self.width))

    @property
    def stem(self) -> bool:
        """Whether tiles and channels are at most the stem's, for which registers were counted."""
        return self.positions * max(self.positions, self.columns) <= 256 and self.x.shape[1] <= 3

    def warps(self, numbers_of_thread: int) -> int:
        """Of a program, by numbers that a thread has of the largest tile."""
        largest = self.positions * max(self.positions, self.columns)
        return min(8, max(1, largest // (32 * numbers_of_thread)))

    def arguments(self) -> dict[str, Any]:
        """What both kernels take."""
        squares_y, squares_x = self.grid
        return {
            "x": self.x,
            "qk_weight": self.qk_weight,
            "rel_weight": self.rel_weight,
            "v_weight": self.v_weight,
            **_strides("x", self.x),
            "height": self.x.shape[2],
            "width": self.x.shape[3],
            "blocks": self.blocks,
            "squares_y": squares_y,
            "squares_x": squares_x,
            "C": self.x.shape[1],
            "D": self.width,
            "BLOCK": self.block_size,
            "POSITIONS": self.positions,
            "WIDTH": self.columns,
        }


def forward_programs(problem: Problem) -> int:
    """Of `forward` in the grid's first axis."""
    return -(-problem.blocks // _squares_of_forward(problem))


def _squares_of_forward(problem: Problem) -> int:
    return min(SQUARES, -(-problem.blocks // FORWARD_PROGRAMS))


def forward(problem: Problem, out: Tensor, *, max_pool: bool, parts: Tensor | None = None) -> Launch:
    """The launch that fills out and, if they are wanted (with max_pool), parts (`forward_programs`, 3, O)."""
    arguments = problem.arguments() | {
        "out": out,
        "parts": out if parts is None else parts,  # not written, but a pointer has to be passed
        **_strides("out", out),
        "squares_of_program": _squares_of_forward(problem),
        "POOL": max_pool,
        "STATISTICS": parts is not None,
    }
    grid = (forward_programs(problem), problem.heads)
    # With 128 registers, which the stem fits, a multiprocessor has twice as many warps as with 255.
    return Launch(forward_kernel, grid, arguments, problem.warps(8), registers=128 if problem.stem else 255)


def merge(parts: Tensor, mean: Tensor, var: Tensor) -> Launch:
    """The launch that fills mean and var, (O,), from the parts of `forward`."""
    programs, _, outputs = parts.shape
    channels = 4
    arguments = {
        "parts": parts,
        "mean": mean,
        "var": var,
        "programs": programs,
        "outputs": outputs,
        "PARTS": 128,
        "CHANNELS": channels,
    }
    return Launch(merge_kernel, (-(-outputs // channels), 1), arguments, warps=4, registers=255)


def backward_programs(problem: Problem) -> int:
    """Of `backward` in the grid's first axis."""
    return -(-problem.blocks // _squares_of_backward(problem))


def _squares_of_backward(problem: Problem) -> int:
    numbers = problem.qk_weight.numel() + problem.rel_weight.numel() + problem.v_weight.numel()
    most = min(BACKWARD_PROGRAMS, max(1, BACKWARD_BYTES // (4 * numbers)))
    return -(-problem.blocks // most)


def backward(
    problem: Problem,
    grad: Tensor,
    statistics: Tensor | None,
    grads: list[Tensor],
    *,
    max_pool: bool,
) -> Launch:
    """The launch that fills each program's part of the gradients of qk_weight, rel_weight and v_weight.

    Args:
        problem: As in the forward pass.
        grad: Of the outputs or maxima.
        statistics: See the kernel; with max_pool.
        grads: (`backward_programs`, *the argument's shape) each.
        max_pool: Whether grad is that of maxima.
    """
    # Three bfloat16 products have 16 bits, more than an image in half precision, and range enough for any
    # gradient. One warp needs fewer instructions for them than two for ordinary products; larger tiles spill.
    tensor_cores = problem.stem and problem.x.element_size() == 2
    arguments = problem.arguments() | {
        "grad": grad,
        "statistics": grads[0] if statistics is None else statistics,
        **dict(zip(("grad_forms", "grad_relative", "grad_matrices"), grads, strict=True)),
        **_strides("grad", grad),
        "squares_of_program": _squares_of_backward(problem),
        "POOL": max_pool,
        "STATISTICS": statistics is not None,
        "PRECISION": "bf16x3" if tensor_cores else "ieee",
        "ROWS": problem.positions // 2 if tensor_cores else problem.positions,
    }
    grid = (backward_programs(problem), problem.heads)
    return Launch(backward_kernel, grid, arguments, problem.warps(8 if tensor_cores else 4), registers=255)


def _strides(name: str, x: Tensor) -> dict[str, int]:
    axes = ("image", "channel", "row", "col")
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, x.stride(), strict=True)}
