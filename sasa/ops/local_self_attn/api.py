"""Local self-attention as layers call it."""

from __future__ import annotations

from torch import Tensor

from sasa.ops.autocast import autocast_off
from sasa.ops.dispatch import choose, dispatched
from sasa.ops.local_self_attn.backends import BACKENDS, STANDARD
from sasa.ops.local_self_attn.inputs import LocalSelfAttentionInputs


@dispatched(BACKENDS, LocalSelfAttentionInputs.validated)
def local_self_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
    content: bool = True,
    relu: bool = False,
    backend: str = "auto",
) -> Tensor:
    """`sasa.local_attention` of queries, keys and values that are pointwise projections of x.

    The backend "fused_cpu" projects each row just before it is used, so that q, k and v are never written to
    memory. It runs on a CPU without gradients, with bfloat16 if the processor multiplies it (AVX512_BF16).
    The other backends run a 1 × 1 convolution and then `local_attention`; the results are the same to
    rounding.

    Args:
        x: The map (B, C, H, W), float16, bfloat16, float32 or float64, any strides.
        weight: Of a 1 × 1 convolution, (3·N·D, C, 1, 1): the rows of q, then those of k, then those of v.
            With content=False there are none of k, (2·N·D, C, 1, 1). Of x's dtype, unless autocast is on.
        bias: (3·N·D,) or (2·N·D,), or None. Of x's dtype, unless autocast is on.
        rel_row: As in `sasa.local_attention`.
        rel_col: As in `sasa.local_attention`.
        num_heads: N.
        kernel_size: As in `sasa.local_attention`.
        dilation: As in `sasa.local_attention`.
        scale: As in `sasa.local_attention`.
        pool: As in `sasa.local_attention`.
        content: Whether there are keys; without them the logit is q·r alone (Table 6).
        relu: As in `sasa.local_attention`.
        backend: "auto" takes the first of "fused_cpu", "cpu", "triton" and "reference" that can run the
            arguments. A backend requested by name runs or raises; it never falls back.

    Returns:
        (B, N·D, ceil(H/pool), ceil(W/pool)) in the dtype and memory format that a convolution would give.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    inputs = LocalSelfAttentionInputs.validated(
        x, weight, bias, rel_row, rel_col, content, num_heads, kernel_size, dilation, scale, pool, relu
    )
    chosen = choose(BACKENDS, backend, inputs, standard=STANDARD)
    with autocast_off(x):
        return chosen.local_self_attention(inputs)
