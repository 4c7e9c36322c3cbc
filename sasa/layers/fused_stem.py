"""The attention stem as `sasa.fuse` leaves it: everything that does not depend on the image is computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sasa.layers.attention_stem import AttentionStem, convolved_blocks
from sasa.layers.batch_norm import fold_batch_norm
from sasa.layers.torchscript import called_in_python
from sasa.ops import block_attention, block_attention_flops, block_attention_maps
from sasa.ops.block_attn.blocks import attend, attention_weights, maximum_of_blocks


class FusedAttentionStem(nn.Module):
    """What an `AttentionStem` computes in evaluation, from its image x of few channels C::

        logit[n, i, j] = x_i · qk_weight[n] x_j + x_i · rel_weight[n, :, i, j]
        out            = max over i of Σ softmax(logit)[n, i, j] · v_weight[j] x_j, plus bias

    with i and j over the P pixels of a block and head n's own rows of v_weight. qk_weight is W_qᵀ W_k, which
    takes C² products instead of the 2·C·D for queries and keys and the D for their product. The batch norm is
    in v_weight and the bias, exactly: the softmax sums to one, and a constant may be added after the maximum.
    All parameters are frozen.

    Args:
        stem: A stem in evaluation mode, whose weights are copied.
    """

    def __init__(self, stem: AttentionStem) -> None:
        super().__init__()
        self.in_channels = stem.in_channels
        self.out_channels = stem.out_channels
        self.num_heads = stem.num_heads
        self.block_size = stem.block_size
        self.max_pool = stem.max_pool
        dtype = stem.query_key.weight.dtype
        with torch.no_grad():
            qk_weight, rel_weight = stem.logit_weights()
            self.qk_weight = nn.Parameter(qk_weight.to(dtype))
            # Of three dimensions: a model that is made channels-last would rearrange a fourth.
            self.rel_weight = nn.Parameter(rel_weight.to(dtype).flatten(2))
            self.value: nn.Conv2d | None = None
            self.v_weight: nn.Parameter | None = None
            if stem.values == "convolution":
                self.value = nn.Conv2d(
                    self.in_channels, self.out_channels, self.block_size, bias=False, device="meta"
                )
                weight, bias = fold_batch_norm(stem.value.weight, None, stem.norm)
                self.value.weight = nn.Parameter(weight)
            else:
                weight, bias = fold_batch_norm(stem.value_matrices().movedim(1, 0), None, stem.norm)
                self.v_weight = nn.Parameter(weight.movedim(0, 1).to(dtype).contiguous())
            self.bias = nn.Parameter(bias.to(dtype))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if self.v_weight is not None:
            out = block_attention(
                x,
                self.qk_weight,
                self._relative(),
                self.v_weight,
                block_size=self.block_size,
                max_pool=self.max_pool,
            )
        else:
            out = self._with_convolution(x)
        return out + self.bias.to(out.dtype)[:, None, None]

    def attention_maps(self, x: Tensor) -> Tensor:
        """As those of `AttentionStem`."""
        self._check(x)
        return block_attention_maps(x, self.qk_weight, self._relative(), block_size=self.block_size)

    def _with_convolution(self, x: Tensor) -> Tensor:
        """Attention, then the maximum, of values that a convolution computes."""
        assert self.value is not None
        values = convolved_blocks(self.value, x, self.block_size)
        weights = attention_weights(x, self.qk_weight, self._relative(), self.block_size)
        out = attend(weights.to(values.dtype), values, self.block_size, *x.shape[2:])
        return maximum_of_blocks(out, self.block_size) if self.max_pool else out

    def _relative(self) -> Tensor:
        """(N, C, P, P)."""
        return self.rel_weight.unflatten(2, (self.block_size**2, self.block_size**2))

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x: expected (B, {self.in_channels}, H, W), got {tuple(x.shape)}")

    def flops(self, x: Tensor) -> int:
        """FLOPs of the forward pass beyond the modules inside."""
        flops = block_attention_flops(
            tuple(x.shape),
            self.num_heads,
            self.out_channels,
            self.block_size,
            max_pool=self.max_pool,
            project_values=self.value is None,
        )
        batch, _, height, width = x.shape
        step = self.block_size if self.max_pool else 1
        return flops + batch * -(-height // step) * -(-width // step) * self.out_channels  # and the bias

    def __prepare_scriptable__(self) -> nn.Module:
        return called_in_python(self)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, "
            f"block_size={self.block_size}, max_pool={self.max_pool}"
        )
