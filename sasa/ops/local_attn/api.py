"""Local attention as users call it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sasa.ops.autocast import autocast_off
from sasa.ops.dispatch import choose, dispatched
from sasa.ops.local_attn.backends import BACKENDS, STANDARD, reference
from sasa.ops.local_attn.inputs import LocalAttentionInputs
from sasa.ops.memory_format import is_channels_last, memory_format


@dispatched(BACKENDS, LocalAttentionInputs.validated)
def local_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
    relu: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Multi-head attention of every pixel over the window around it (Ramachandran et al., 2019, Eq. 3).

    For each head, with window positions (a, b) around the pixel (i, j)::

        logit[a, b] = scale · (q·k[i+a, j+b] + q[:D/2]·rel_row[a] + q[D/2:]·rel_col[b])
        out         = Σ softmax(logit)[a, b] · v[i+a, j+b]

    The window is truncated at the border: positions outside the map take no part in the softmax, so the
    weights always sum to one. A window larger than the map is fine. Under autocast q, k and v are cast to
    the autocast dtype, as for a matrix product; sums are accumulated in at least float32.

    Args:
        q: Queries (B, N·D, H, W), float16, bfloat16, float32 or float64, any strides. Head n owns channels
            n·D … (n+1)·D − 1.
        k: Keys, shaped as q; None drops the term q·k (Table 6) and then needs an embedding.
        v: Values (B, N·Dv, H, W).
        rel_row: Embeddings of the kh row offsets −(kh//2) … kh//2, (N, kh, D/2), or None; D must be even.
        rel_col: Embeddings of the kw column offsets, (N, kw, D/2), or None.
        num_heads: N, at least 1.
        kernel_size: The window's extent in pixels, odd: k for k × k, or (kh, kw).
        dilation: Distance of neighboring window positions in pixels, at least 1: for both axes or (dh, dw).
        scale: Finite factor of the whole logit. 1.0 is the paper's equation.
        pool: 1, or 2 for the mean over 2 × 2 outputs at stride 2; a partial block at an odd edge is averaged
            over the pixels that it has, so 7 becomes 4 as with a strided convolution.
        relu: Whether max(0, ·) of the output is taken, after pooling.
        backend: "auto" takes the first of "cpu" (C++), "triton" (CUDA) and "reference" (plain PyTorch) that
            can run the arguments. A backend requested by name runs or raises; it never falls back.

    Returns:
        (B, N·Dv, ceil(H/pool), ceil(W/pool)) in v's dtype (the autocast dtype under autocast) and q's memory
        format.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    inputs = LocalAttentionInputs.validated(
        q, k, v, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool, relu
    )
    chosen = choose(BACKENDS, backend, inputs, standard=STANDARD)
    with autocast_off(q):
        out = chosen.local_attention(inputs)
    return out.contiguous(memory_format=memory_format(is_channels_last(q)))


def local_attention_maps(
    q: Tensor,
    k: Tensor | None,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
) -> Tensor:
    """The softmax weights that `local_attention` applies, for pictures; memory grows with K².

    Args and errors as in `local_attention`.

    Returns:
        (B, N, ceil(H/pool), ceil(W/pool), kh, kw), at least float32. Weights outside the map are zero. With
        pool=2 the maps of the 2 × 2 queries are averaged, each around its own pixel.
    """
    inputs = LocalAttentionInputs.validated(
        q, k, q, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool
    )
    with autocast_off(q):
        weights = reference.attention_weights(inputs)  # (B, N, K, H, W)
    if pool > 1:
        pooled = F.avg_pool2d(weights.flatten(1, 2), pool, ceil_mode=True, count_include_pad=False)
        weights = pooled.unflatten(1, weights.shape[1:3])
    return weights.movedim(2, -1).unflatten(-1, inputs.spec.kernel_size)
