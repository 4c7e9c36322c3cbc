"""What attention inside blocks costs in arithmetic, as the equations are written."""

from __future__ import annotations

import math


def block_attention_flops(
    x_shape: tuple[int, ...],
    num_heads: int,
    out_channels: int,
    block_size: int,
    *,
    max_pool: bool = False,
    project_values: bool = True,
) -> int:
    """FLOPs of `block_attention`'s equations, by the convention of `local_attention_flops`.

    Args:
        x_shape: (B, C, H, W).
        num_heads: N.
        out_channels: O.
        block_size: The side of the blocks in pixels.
        max_pool: Whether the maximum over each block is taken.
        project_values: Whether the values' matrices are part of it; False if they are computed elsewhere.

    Returns:
        The number of FLOPs for the whole batch.
    """
    batch, channels, height, width = x_shape
    pixel = 2 * num_heads * channels**2 + (out_channels if max_pool else 0)
    pixel += 2 * out_channels * channels if project_values else 0
    pair = num_heads * (2 * 2 * channels + 1 + 5) + 2 * out_channels
    return batch * (height * width * pixel + pairs_inside(height, width, block_size) * pair)


def pairs_inside(height: int, width: int, block_size: int) -> int:
    """Pairs of pixels of the same block in an image, each pixel with itself too; padding excluded."""
    return math.prod(
        size // block_size * block_size**2 + (size % block_size) ** 2 for size in (height, width)
    )
