"""The arguments of one attention inside blocks as one object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sasa.ops.autocast import cast
from sasa.ops.checks import check_bool, check_map, check_tensors, positive_int


@dataclass(frozen=True)
class BlockAttentionInputs:
    """Valid arguments of `sasa.ops.block_attention`, as backends take them.

    Attributes:
        x: The image (B, C, H, W).
        qk_weight: (N, C, C).
        rel_weight: (N, C, P, P) with P = block_size² positions.
        v_weight: (P, O, C).
        block_size: The side of the blocks in pixels.
        max_pool: Whether the maximum over each block is taken.
    """

    x: Tensor
    qk_weight: Tensor
    rel_weight: Tensor
    v_weight: Tensor
    block_size: int
    max_pool: bool = False

    @classmethod
    def validated(
        cls,
        x: Tensor,
        qk_weight: Tensor,
        rel_weight: Tensor,
        v_weight: Tensor,
        *,
        block_size: int,
        max_pool: bool = False,
    ) -> BlockAttentionInputs:
        """The inputs of a user's arguments, with x cast as autocast requires.

        Args and errors as in `sasa.ops.block_attention`.
        """
        check_tensors({"x": x, "qk_weight": qk_weight, "rel_weight": rel_weight, "v_weight": v_weight})
        check_bool("max_pool", max_pool)
        check_logits(x, qk_weight, rel_weight, block_size)
        num_heads, channels, positions = rel_weight.shape[:3]
        if v_weight.ndim != 3 or (v_weight.shape[0], v_weight.shape[2]) != (positions, channels):
            raise ValueError(
                f"v_weight: expected (block_size², O, C) = ({positions}, O, {channels}), "
                f"got {tuple(v_weight.shape)}"
            )
        if v_weight.shape[1] == 0 or v_weight.shape[1] % num_heads:
            raise ValueError(
                f"v_weight: expected a multiple of qk_weight's {num_heads} heads as outputs, "
                f"got {v_weight.shape[1]}"
            )
        return cls(cast(x), qk_weight, rel_weight, v_weight, block_size, max_pool)

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.x.device

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, qk_weight, rel_weight and v_weight."""
        return self.x, self.qk_weight, self.rel_weight, self.v_weight

    @property
    def weights(self) -> dict[str, Tensor]:
        """All tensors but x, by name."""
        return {"qk_weight": self.qk_weight, "rel_weight": self.rel_weight, "v_weight": self.v_weight}

    @property
    def num_heads(self) -> int:
        """N."""
        return len(self.qk_weight)

    @property
    def head_dim(self) -> int:
        """Outputs of a head, O/N."""
        return self.v_weight.shape[1] // self.num_heads

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(B, O, H, W), or (B, O, ceil(H/block_size), ceil(W/block_size)) of maxima."""
        (batch, _, height, width), outputs = self.x.shape, self.v_weight.shape[1]
        step = self.block_size if self.max_pool else 1
        return batch, outputs, (height + step - 1) // step, (width + step - 1) // step


def check_logits(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, block_size: int) -> None:
    """Check what the logits depend on, which are tensors.

    Raises:
        TypeError: block_size is no int.
        ValueError: An argument has a wrong value or shape.
    """
    positions = positive_int("block_size", block_size) ** 2
    check_map("x", x)
    channels = x.shape[1]
    if qk_weight.ndim != 3 or len(qk_weight) == 0 or qk_weight.shape[1:] != (channels, channels):
        raise ValueError(
            f"qk_weight: expected (N, C, C) with x's C = {channels}, got {tuple(qk_weight.shape)}"
        )
    shape = (len(qk_weight), channels, positions, positions)
    if rel_weight.shape != shape:
        raise ValueError(
            f"rel_weight: expected (N, C, block_size², block_size²) = {shape}, got {tuple(rel_weight.shape)}"
        )
