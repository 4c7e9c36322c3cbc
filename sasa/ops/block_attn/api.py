"""Attention inside blocks as users call it."""

from __future__ import annotations

from torch import Tensor

from sasa.ops.autocast import autocast_off, cast
from sasa.ops.block_attn.backends import BACKENDS, STANDARD
from sasa.ops.block_attn.blocks import as_maps, attention_weights
from sasa.ops.block_attn.inputs import BlockAttentionInputs, check_logits
from sasa.ops.checks import check_tensors
from sasa.ops.dispatch import choose, dispatched
from sasa.ops.memory_format import is_channels_last, memory_format


@dispatched(BACKENDS, BlockAttentionInputs.validated)
def block_attention(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    *,
    block_size: int,
    max_pool: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Multi-head attention of every pixel over its own block_size × block_size block, for few channels.

    For each head n, with i and j over the P = block_size² positions of a block, row by row::

        logit[i, j] = x_i · qk_weight[n] x_j + x_i · rel_weight[n, :, i, j]
        out_i       = Σ softmax(logit)[i, j] · v_weight[j, its channels] x_j

    With queries W_q x and keys W_k x, qk_weight is W_qᵀ W_k, and C² products stand for 2·C·D of them. Blocks
    at the right and lower edge are cut off: what is outside the image takes no part in the softmax and the
    maximum. Under autocast x is cast to the autocast dtype; sums are accumulated in at least float32.

    Args:
        x: The image (B, C, H, W), float16, bfloat16, float32 or float64, any strides.
        qk_weight: W_qᵀ W_k of each head, (N, C, C).
        rel_weight: What a query adds for each key position, (N, C, P, P): query position before key position.
        v_weight: The values' matrix of each position, (P, O, C). Head n owns the O/N outputs from n·O/N on.
        block_size: The side of the blocks, at least 1.
        max_pool: Whether the maximum over each block is taken.
        backend: "auto" takes the first of "cpu" (C++), "triton" (CUDA) and "reference" (plain PyTorch) that
            can run the arguments; the first two have no gradient of x. A backend requested by name runs or
            raises; it never falls back.

    Returns:
        (B, O, H, W), or with max_pool (B, O, ceil(H/block_size), ceil(W/block_size)), in x's dtype (the
        autocast dtype under autocast) and memory format.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    inputs = BlockAttentionInputs.validated(
        x, qk_weight, rel_weight, v_weight, block_size=block_size, max_pool=max_pool
    )
    chosen = choose(BACKENDS, backend, inputs, standard=STANDARD)
    with autocast_off(x):
        out = chosen.block_attention(inputs)
    return out.contiguous(memory_format=memory_format(is_channels_last(x)))


@dispatched(BACKENDS, BlockAttentionInputs.validated)
def block_attention_statistics(
    x: Tensor,
    qk_weight: Tensor,
    rel_weight: Tensor,
    v_weight: Tensor,
    *,
    block_size: int,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """`block_attention` with max_pool=True, and the statistics that a batch norm before the maximum needs.

    Args and errors as in `block_attention`.

    Returns:
        The maxima, and the mean and (biased) variance of each channel over all outputs, both (O,) and in at
        least float32.
    """
    inputs = BlockAttentionInputs.validated(
        x, qk_weight, rel_weight, v_weight, block_size=block_size, max_pool=True
    )
    chosen = choose(BACKENDS, backend, inputs, standard=STANDARD)
    with autocast_off(x):
        out, mean, var = chosen.block_attention_statistics(inputs)
    return out.contiguous(memory_format=memory_format(is_channels_last(x))), mean, var


def block_attention_maps(x: Tensor, qk_weight: Tensor, rel_weight: Tensor, *, block_size: int) -> Tensor:
    """The softmax weights that `block_attention` applies, for pictures; memory grows with block_size⁴.

    Args and errors as in `block_attention`.

    Returns:
        The weights of every pixel over its own block, (B, N, H, W, block_size, block_size), in at least
        float32. Weights outside the image are zero.
    """
    check_tensors({"x": x, "qk_weight": qk_weight, "rel_weight": rel_weight})
    check_logits(x, qk_weight, rel_weight, block_size)
    with autocast_off(x):
        weights = attention_weights(cast(x), qk_weight, rel_weight, block_size)
    return as_maps(weights, block_size, *x.shape[2:])
