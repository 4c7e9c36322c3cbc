"""From tensors to kernel launches: grids, strides and compile-time constants.

How blocks are divided among programs depends on the arguments alone and not on the device, so that sums over
programs do not either.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sasa.ops.block_attn.backends.triton.backward import backward_kernel
from sasa.ops.block_attn.backends.triton.forward import forward_kernel
from sasa.ops.block_attn.backends.triton.moments import merge_kernel
from sasa.ops.block_attn.inputs import BlockAttentionInputs
from sasa.ops.local_attn.backends.triton.launch import Launch, strides
from sasa.ops.local_attn.backends.triton.tiles import power_of_two

# Of a head: programs of the forward pass before one gets a second block, and blocks of a program at most,
# by which loading the head's arguments costs nothing. Neighbors share cache lines of the image.
FORWARD_PROGRAMS = 2048
BLOCKS = 64
# Programs of a head in the backward pass at most, and bytes that they write at most: each writes a gradient.
BACKWARD_PROGRAMS = 512
BACKWARD_BYTES = 64 * 2**20


class Problem(BlockAttentionInputs):
    """Inputs of at least one image whose weights are contiguous and float32, and their shares of the work."""

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks of an image along each axis."""
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
    def columns(self) -> int:
        """Of the tiles of values: D, padded."""
        return max(16, power_of_two(self.head_dim))

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
        blocks_y, blocks_x = self.grid
        return {
            "x": self.x,
            **self.weights,
            **strides("x", self.x),
            "height": self.x.shape[2],
            "width": self.x.shape[3],
            "blocks": self.blocks,
            "blocks_y": blocks_y,
            "blocks_x": blocks_x,
            "C": self.x.shape[1],
            "D": self.head_dim,
            "BLOCK": self.block_size,
            "POSITIONS": self.positions,
            "WIDTH": self.columns,
            "POOL": self.max_pool,
        }


def forward_programs(problem: Problem) -> int:
    """Of `forward` in the grid's first axis."""
    return -(-problem.blocks // _blocks_of_forward(problem))


def _blocks_of_forward(problem: Problem) -> int:
    return min(BLOCKS, -(-problem.blocks // FORWARD_PROGRAMS))


def forward(problem: Problem, out: Tensor, parts: Tensor | None = None) -> Launch:
    """The launch that fills out and, if they are given (with max_pool), parts (`forward_programs`, 3, O)."""
    arguments = problem.arguments() | {
        "out": out,
        "parts": out if parts is None else parts,  # not written, but a pointer has to be passed
        **strides("out", out),
        "blocks_of_program": _blocks_of_forward(problem),
        "STATISTICS": parts is not None,
    }
    grid = (forward_programs(problem), problem.num_heads)
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
    return -(-problem.blocks // _blocks_of_backward(problem))


def _blocks_of_backward(problem: Problem) -> int:
    numbers = sum(weight.numel() for weight in problem.weights.values())
    most = min(BACKWARD_PROGRAMS, max(1, BACKWARD_BYTES // (4 * numbers)))
    return -(-problem.blocks // most)


def backward(problem: Problem, grad: Tensor, statistics: Tensor | None, grads: list[Tensor]) -> Launch:
    """The launch that fills each program's part of the gradients of qk_weight, rel_weight and v_weight.

    Args:
        problem: As in the forward pass.
        grad: Of the outputs, with max_pool of the maxima.
        statistics: See the kernel; with max_pool.
        grads: (`backward_programs`, *the argument's shape) each.
    """
    # Three bfloat16 products have 16 bits, more than an image in half precision, and range enough for any
    # gradient. One warp needs fewer instructions for them than two for ordinary products; larger tiles spill.
    tensor_cores = problem.stem and problem.x.element_size() == 2
    arguments = problem.arguments() | {
        "grad": grad,
        "statistics": grads[0] if statistics is None else statistics,
        **dict(zip((f"grad_{name}" for name in problem.weights), grads, strict=True)),
        **strides("grad", grad),
        "blocks_of_program": _blocks_of_backward(problem),
        "STATISTICS": statistics is not None,
        "PRECISION": "bf16x3" if tensor_cores else "ieee",
        "ROWS": problem.positions // 2 if tensor_cores else problem.positions,
    }
    grid = (backward_programs(problem), problem.num_heads)
    return Launch(backward_kernel, grid, arguments, problem.warps(8 if tensor_cores else 4), registers=255)
