"""The attention stem as `sasa.fuse` leaves it: everything that does not depend on the image is computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.batch_norm import fold_batch_norm
from sasa.layers.torchscript import called_in_python
from sasa.ops import block_attention
from sasa.ops.block_attn.backends.reference import attention_weights
from sasa.ops.block_attn.blocks import as_maps, from_blocks, to_blocks


class FusedAttentionStem(nn.Module):
    """What an `AttentionStem` computes in evaluation, from its image x of few channels C::

        logit[n, i, j] = x_i · qk_weight[n] x_j + x_i · rel_weight[n, :, i, j]
        out            = max over i of Σ softmax(logit)[n, i, j] · v_weight[j] x_j, plus bias

    with i and j over the P pixels of a block and head n's own rows of v_weight. qk_weight is W_qᵀ W_k
    and take C² products where queries and keys take 2·C·D and their product D. The batch norm is in the
    v_weight and the bias, exactly: the softmax sums to one, and a constant may be added after the maximum.

    Args:
        stem: In evaluation; its weights are copied.
    """

    def __init__(self, stem: AttentionStem) -> None:
        super().__init__()
        self.in_channels = stem.in_channels
        self.out_channels = stem.out_channels
        self.num_heads = stem.num_heads
        self.block_size = stem.block_size
        self.max_pool = stem.max_pool
        wide = torch.promote_types(stem.query_key.weight.dtype, torch.float32)
        dtype = stem.query_key.weight.dtype
        with torch.no_grad():
            query_key = stem.query_key.weight.to(wide).flatten(1)
            query, key = query_key.unflatten(0, (2, stem.num_heads, -1)).unbind()  # (N, D, C)
            self.qk_weight = nn.Parameter((query.mT @ key).to(dtype))
            rel_weight = torch.einsum("ndc,nijd->ncij", query, stem.relative_embeddings().to(wide))
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
                if stem.values == "pointwise":
                    v_weight = stem.value.weight.flatten(1).expand(self.block_size**2, -1, -1)
                else:
                    v_weight = stem.value_matrices()
                weight, bias = fold_batch_norm(v_weight.movedim(1, 0), None, stem.norm)
                self.v_weight = nn.Parameter(weight.movedim(0, 1).contiguous())
            self.bias = nn.Parameter(bias)
        self.requires_grad_(stem.query_key.weight.requires_grad).eval()

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
        return as_maps(self._weights(x), self.block_size, *x.shape[2:])

    def _with_convolution(self, x: Tensor) -> Tensor:
        """Of values that a convolution gives."""
        assert self.value is not None
        before, after = (self.block_size - 1) // 2, self.block_size // 2
        values = self.value(F.pad(x, (before, after, before, after)))
        heads = to_blocks(values, self.block_size).permute(0, 2, 3, 1).unflatten(-1, (self.num_heads, -1))
        weights = self._weights(x).to(values.dtype)
        out = torch.einsum("blnij,bljnd->blind", weights, heads).flatten(-2)
        out = from_blocks(out, self.block_size, *x.shape[2:])
        return F.max_pool2d(out, self.block_size, ceil_mode=True) if self.max_pool else out

    def _weights(self, x: Tensor) -> Tensor:
        return attention_weights(x, self.qk_weight, self._relative(), self.block_size)

    def _relative(self) -> Tensor:
        """(N, C, P, P)."""
        return self.rel_weight.unflatten(2, (self.block_size**2, self.block_size**2))

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x: expected (B, {self.in_channels}, H, W), got {tuple(x.shape)}")

    def flops(self, x: Tensor) -> int:
        """FLOPs of the forward pass beyond the modules inside, by the convention of
        `sasa.ops.local_attention_flops`."""
        batch, channels, height, width = x.shape
        position = self.num_heads * (4 * channels + 6) + 2 * self.out_channels
        pixel = 2 * self.num_heads * channels**2 + self.block_size**2 * position
        pixel += 2 * channels * self.out_channels if self.value is None else 0
        pixel += self.out_channels if self.max_pool else 0
        step = self.block_size if self.max_pool else 1
        outputs = -(-height // step) * -(-width // step)
        return batch * (height * width * pixel + outputs * self.out_channels)

    def __prepare_scriptable__(self) -> nn.Module:
        return called_in_python(self)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, "
            f"block_size={self.block_size}, max_pool={self.max_pool}"
        )
