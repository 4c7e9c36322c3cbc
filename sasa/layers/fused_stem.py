"""The attention stem as `sasa.fuse` leaves it: everything that does not depend on the image is computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.batch_norm import fold_batch_norm
from sasa.layers.squares import as_maps, from_squares, softmax_inside, to_squares
from sasa.layers.torchscript import called_in_python


class FusedAttentionStem(nn.Module):
    """What an `AttentionStem` computes in evaluation, from its image x of few channels C::

        logit[n, i, j] = x_i · forms[n] x_j + x_i · relative[n, :, i, j]
        out            = max over i of Σ softmax(logit)[n, i, j] · matrices[j] x_j, plus bias

    with i and j over the P pixels of a square and head n's own rows of the matrices. The forms are W_qᵀ W_k
    and take C² products where queries and keys take 2·C·D and their product D. The batch norm is in the
    matrices and the bias, exactly: the softmax sums to one, and a constant may be added after the maximum.

    Args:
        stem: In evaluation; its weights are copied.
    """

    def __init__(self, stem: AttentionStem) -> None:
        super().__init__()
        self.in_channels = stem.in_channels
        self.out_channels = stem.out_channels
        self.num_heads = stem.num_heads
        self.block = stem.block
        self.pool = stem.pool
        wide = torch.promote_types(stem.query_key.weight.dtype, torch.float32)
        dtype = stem.query_key.weight.dtype
        with torch.no_grad():
            query_key = stem.query_key.weight.to(wide).flatten(1)
            query, key = query_key.unflatten(0, (2, stem.num_heads, -1)).unbind()  # (N, D, C)
            self.forms = nn.Parameter((query.mT @ key).to(dtype))
            relative = torch.einsum("ndc,nijd->ncij", query, stem.relative_embeddings().to(wide))
            self.relative = nn.Parameter(relative.to(dtype))
            self.value: nn.Conv2d | None = None
            self.matrices: nn.Parameter | None = None
            if stem.values == "convolution":
                self.value = nn.Conv2d(
                    self.in_channels, self.out_channels, self.block, bias=False, device="meta"
                )
                weight, bias = fold_batch_norm(stem.value.weight, None, stem.norm)
                self.value.weight = nn.Parameter(weight)
            else:
                if stem.values == "pointwise":
                    matrices = stem.value.weight.flatten(1).expand(self.block**2, -1, -1)
                else:
                    matrices = stem.value_matrices()
                weight, bias = fold_batch_norm(matrices.movedim(1, 0), None, stem.norm)
                self.matrices = nn.Parameter(weight.movedim(0, 1).contiguous())
            self.bias = nn.Parameter(bias)
        self.requires_grad_(stem.query_key.weight.requires_grad).eval()

    def forward(self, x: Tensor) -> Tensor:
        weights = self._weights(x)  # (B, L, N, P, P)
        values = self._values(x).unflatten(-1, (self.num_heads, -1))  # (B, L, P, N, D)
        out = torch.einsum("blnij,bljnd->blind", weights.to(values.dtype), values).flatten(-2)
        out = from_squares(out, self.block, *x.shape[2:])
        if self.pool:
            out = F.max_pool2d(out, self.block, ceil_mode=True)
        return out + self.bias.to(out.dtype)[:, None, None]

    def attention_maps(self, x: Tensor) -> Tensor:
        """As those of `AttentionStem`."""
        return as_maps(self._weights(x), self.block, *x.shape[2:])

    def _weights(self, x: Tensor) -> Tensor:
        """The softmax inside each of the L squares, (B, L, N, P, P)."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x: expected (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        pixels = to_squares(x, self.block)  # (B, C, L, P)
        queries = torch.einsum("bcli,ncd->blnid", pixels, self.forms)
        content = torch.einsum("blnid,bdlj->blnij", queries, pixels)
        logits = content + torch.einsum("bcli,ncij->blnij", pixels, self.relative)
        return softmax_inside(logits, self.block, *x.shape[2:])

    def _values(self, x: Tensor) -> Tensor:
        """(B, L, P, out_channels)."""
        if self.value is not None:
            before, after = (self.block - 1) // 2, self.block // 2
            padded = F.pad(x, (before, after, before, after))
            return to_squares(self.value(padded), self.block).permute(0, 2, 3, 1)
        return torch.einsum("bclp,poc->blpo", to_squares(x, self.block), self.matrices)

    def flops(self, x: Tensor) -> int:
        """FLOPs of the forward pass beyond the modules inside, by the convention of
        `sasa.ops.local_attention_flops`."""
        batch, channels, height, width = x.shape
        position = self.num_heads * (4 * channels + 6) + 2 * self.out_channels
        pixel = 2 * self.num_heads * channels**2 + self.block**2 * position
        pixel += 2 * channels * self.out_channels if self.value is None else 0
        pixel += self.out_channels if self.pool else 0
        step = self.block if self.pool else 1
        outputs = -(-height // step) * -(-width // step)
        return batch * (height * width * pixel + outputs * self.out_channels)

    def __prepare_scriptable__(self) -> nn.Module:
        return called_in_python(self)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, block={self.block}, "
            f"pool={self.pool}"
        )
