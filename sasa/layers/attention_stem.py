"""The stem of the fully attentional network: attention inside the blocks of the image."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasa.layers.torchscript import called_in_python
from sasa.layers.unmodified import is_unmodified
from sasa.ops import block_attention, block_attention_statistics
from sasa.ops.autocast import autocast_off
from sasa.ops.block_attn.blocks import as_maps, attend, block_softmax, maximum_of_blocks, to_blocks
from sasa.ops.block_attn.flops import pairs_inside
from sasa.ops.checks import positive_int

STEM_VALUES = ("spatially_aware", "convolution", "pointwise")


def convolved_blocks(conv: nn.Conv2d, x: Tensor, block_size: int) -> Tensor:
    """The values (B, L, P, O) of a block_size × block_size convolution that keeps the size of the map."""
    before, after = (block_size - 1) // 2, block_size // 2
    padded = F.pad(x, (before, after, before, after))
    return to_blocks(conv(padded), block_size).permute(0, 2, 3, 1)


class AttentionStem(nn.Module):
    """Attention inside each block_size × block_size block of the image, batch norm, max pool over the block.

    (Ramachandran et al., 2019, §3.2 and App. A.1.) Each pixel attends to its own block, with relative
    positions as in Eq. 3; the blocks are those of the max pool. A size that is no multiple of block_size is
    padded and the padding takes no part: not in the softmax, the batch statistics or the maximum. Input
    (B, in_channels, H, W), output (B, out_channels, ceil(H/block_size), ceil(W/block_size)), or H × W without
    max_pool.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output, a multiple of 2·num_heads.
        values: How a pixel becomes a value (Table 7). "spatially_aware": by a matrix of its own position
            in the block, a learned mixture of num_mixtures matrices, v = (Σₘ p(a, b, m) Wₘ) x with
            p(a, b, ·) = softmax((emb_row(a) + emb_col(b))·ν). "convolution": by a block_size × block_size
            convolution. "pointwise": by one matrix, the stand-alone form.
        num_heads: Attention heads.
        num_mixtures: Matrices that "spatially_aware" mixes; the paper does not print its number.
        block_size: Side of the blocks, and the stride of the stem.
        max_pool: False leaves the max pool out and keeps the resolution, for small images.

    Raises:
        TypeError: A number is not an int.
        ValueError: A value is out of its range; widths and heads that do not fit are both named.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 64,
        *,
        values: str = "spatially_aware",
        num_heads: int = 4,
        num_mixtures: int = 4,
        block_size: int = 4,
        max_pool: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if values not in STEM_VALUES:
            raise ValueError(f"values: expected one of {STEM_VALUES}, got {values!r}")
        for name, number in (
            ("num_mixtures", num_mixtures),
            ("block_size", block_size),
            ("num_heads", num_heads),
        ):
            positive_int(name, number)
        if out_channels < 1 or out_channels % (2 * num_heads):
            raise ValueError(
                f"out_channels={out_channels} and num_heads={num_heads}: expected a multiple of "
                f"{2 * num_heads} channels (equal heads of even width); change one of them"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.values = values
        self.num_heads = num_heads
        self.num_mixtures = num_mixtures
        self.block_size = block_size
        self.max_pool = max_pool
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query_key = nn.Conv2d(in_channels, 2 * out_channels, 1, bias=False, **factory)
        # For spatially aware values this holds the M matrices; they are mixed before they meet the image.
        self.value = nn.Conv2d(
            in_channels,
            out_channels * (num_mixtures if values == "spatially_aware" else 1),
            block_size if values == "convolution" else 1,
            bias=False,
            **factory,
        )
        width = out_channels // num_heads
        offsets = 2 * block_size - 1
        self.rel_row = nn.Parameter(torch.empty(num_heads, offsets, width // 2, **factory))
        self.rel_col = nn.Parameter(torch.empty(num_heads, offsets, width // 2, **factory))
        if values == "spatially_aware":
            self.emb_row = nn.Parameter(torch.empty(block_size, width, **factory))
            self.emb_col = nn.Parameter(torch.empty(block_size, width, **factory))
            self.mixture = nn.Parameter(torch.empty(num_mixtures, width, **factory))
        self.norm = nn.BatchNorm2d(out_channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections from N(0, 1/fan_in) and all embeddings from N(0, 1)."""
        nn.init.normal_(self.query_key.weight, std=self.in_channels**-0.5)
        fan_in = self.in_channels * self.value.kernel_size[0] * self.value.kernel_size[1]
        nn.init.normal_(self.value.weight, std=fan_in**-0.5)
        for embedding in (self.rel_row, self.rel_col):
            nn.init.normal_(embedding)
        if self.values == "spatially_aware":
            for embedding in (self.emb_row, self.emb_col, self.mixture):
                nn.init.normal_(embedding)
        self.norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        by_weights = self.values != "convolution" and self.has_unmodified_projections
        if by_weights and self.max_pool and is_unmodified(self.norm, nn.BatchNorm2d) and x[:, 0].numel() > 1:
            return self._pooled(x)
        if by_weights:
            out = block_attention(x, *self.logit_weights(), self.value_matrices(), block_size=self.block_size)
        else:
            out = self._attention_by_steps(x)
        out = self.norm(out)
        return maximum_of_blocks(out, self.block_size) if self.max_pool else out

    @property
    def has_unmodified_projections(self) -> bool:
        """Whether the weights of query_key and value determine all that they do."""
        projections = (self.query_key, self.value)
        return all(is_unmodified(conv, nn.Conv2d) and conv.bias is None for conv in projections)

    def _attention_by_steps(self, x: Tensor) -> Tensor:
        """The attention with queries, keys and values of the projections, (B, out_channels, H, W)."""
        weights, values = self._weights(x), self._values(x)
        return attend(weights.to(values.dtype), values, self.block_size, *x.shape[2:])

    def _pooled(self, x: Tensor) -> Tensor:
        """Attention, norm and maximum without a map of the full resolution.

        The norm follows the maximum: it is increasing in each channel once the values have its weight's sign.
        """
        norm = self.norm
        qk_weight, rel_weight = self.logit_weights()
        v_weight = self.value_matrices()
        sign = torch.ones_like(v_weight[0, :, 0])
        if norm.affine:
            sign = torch.where(norm.weight < 0, -sign, sign).detach()
        v_weight = v_weight * sign[:, None]
        if norm.training or norm.running_mean is None or norm.running_var is None:
            out, mean, var = block_attention_statistics(
                x, qk_weight, rel_weight, v_weight, block_size=self.block_size
            )
            self._track(mean.detach() * sign, var.detach(), x[:, 0].numel())
        else:
            out = block_attention(
                x, qk_weight, rel_weight, v_weight, block_size=self.block_size, max_pool=True
            )
            mean, var = norm.running_mean.to(sign.dtype) * sign, norm.running_var.to(sign.dtype)
        factor = (var + norm.eps).rsqrt()
        if norm.affine:
            factor = factor * (norm.weight * sign)
        shift = -mean * factor if not norm.affine else norm.bias - mean * factor
        return torch.addcmul(shift[:, None, None], out, factor[:, None, None]).to(out.dtype)

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the norm's running statistics as it does itself."""
        norm = self.norm
        if not (norm.training and norm.track_running_stats) or norm.running_mean is None:
            return
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), share)

    def logit_weights(self) -> tuple[Tensor, Tensor]:
        """qk_weight and rel_weight of `sasa.ops.block_attention`, in at least float32."""
        with autocast_off(self.rel_row):
            wide = torch.promote_types(self.rel_row.dtype, torch.float32)
            query_key = self.query_key.weight.to(wide).flatten(1)
            query, key = query_key.unflatten(0, (2, self.num_heads, -1)).unbind()  # (N, D, C)
            rel_weight = torch.einsum("ndc,nijd->ncij", query, self.relative_embeddings().to(wide))
            return query.mT @ key, rel_weight

    def value_matrices(self) -> Tensor:
        """v_weight of `sasa.ops.block_attention`, (block_size², out_channels, in_channels).

        In at least float32. For spatially aware values it is the mixture Σₘ p(a, b, m) Wₘ of App. A.1 for
        each position, for pointwise ones the same matrix for all. A convolution has none.
        """
        with autocast_off(self.rel_row):
            wide = torch.promote_types(self.rel_row.dtype, torch.float32)
            if self.values == "pointwise":
                return self.value.weight.flatten(1).to(wide).expand(self.block_size**2, -1, -1)
            position = self.emb_row[:, None] + self.emb_col[None, :]
            p = (position.flatten(0, 1) @ self.mixture.T).softmax(-1)  # (P, M)
            matrices = self.value.weight.view(self.num_mixtures, self.out_channels, self.in_channels)
            return torch.einsum("pm,moc->poc", p, matrices).to(wide)

    def attention_maps(self, x: Tensor) -> Tensor:
        """The weights of every pixel over its own block, (B, num_heads, H, W, block_size, block_size).

        Entry (a, b) belongs to the block's pixel (a, b); weights on padding are zero.
        """
        return as_maps(self._weights(x), self.block_size, *x.shape[2:])

    def _weights(self, x: Tensor) -> Tensor:
        """softmax(q·k + q·r) inside each of the L blocks, (B, L, N, P, P) with P = block_size² positions."""
        self._check(x)
        query_key = self.query_key(to_blocks(x, self.block_size)).permute(0, 2, 3, 1)
        q, k = query_key.unflatten(-1, (2, self.num_heads, -1)).unbind(3)  # (B, L, P, N, D)
        rel = self.relative_embeddings()
        logits = torch.einsum("blpnd,blqnd->blnpq", q, k) + torch.einsum("blpnd,npqd->blnpq", q, rel)
        return block_softmax(logits, self.block_size, *x.shape[2:])

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x: expected (B, {self.in_channels}, H, W), got {tuple(x.shape)}")

    def relative_embeddings(self) -> Tensor:
        """r of each query and key position in the block, (num_heads, block_size², block_size², D)."""
        side = self.block_size
        # Offsets of a key position from a query position, from −(side−1) to side−1, as indices.
        position = torch.arange(side * side, device=self.rel_row.device)
        row, col = position // side, position % side
        rel_row = self.rel_row[:, row[None, :] - row[:, None] + side - 1]
        rel_col = self.rel_col[:, col[None, :] - col[:, None] + side - 1]
        return torch.cat((rel_row, rel_col), -1)

    def _values(self, x: Tensor) -> Tensor:
        """(B, L, P, out_channels)."""
        if self.values == "convolution":
            return convolved_blocks(self.value, x, self.block_size)
        blocks = to_blocks(x, self.block_size)
        if self.values == "pointwise":
            return self.value(blocks).permute(0, 2, 3, 1)
        return torch.einsum("bclp,poc->blpo", blocks, self.value_matrices().to(x.dtype))

    def flops(self, x: Tensor) -> int:
        """FLOPs of the forward pass beyond the modules inside, by the convention of `local_attention_flops`.

        They are those of the equations as the paper writes them: attention over the pairs of pixels of a
        block, and, for each pixel, spatially aware values and their mixture.
        """
        batch, _, height, width = x.shape
        pairs = pairs_inside(height, width, self.block_size) * 6 * (self.out_channels + self.num_heads)
        pixel = self.out_channels if self.max_pool else 0
        if self.values == "spatially_aware":
            pixel += 2 * self.num_mixtures * self.out_channels * (self.in_channels + 1)
        return batch * (pairs + height * width * pixel)

    def __prepare_scriptable__(self) -> nn.Module:
        return called_in_python(self)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, values={self.values!r}, "
            f"num_heads={self.num_heads}, num_mixtures={self.num_mixtures}, "
            f"block_size={self.block_size}, max_pool={self.max_pool}"
        )
