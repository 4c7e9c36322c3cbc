"""What one local attention costs in arithmetic, as the equations are written."""

from __future__ import annotations

from sasa.ops.local_attn.spec import LocalAttentionSpec


def local_attention_flops(
    q_shape: tuple[int, ...],
    v_shape: tuple[int, ...],
    spec: LocalAttentionSpec,
    *,
    content: bool = True,
    position: bool = True,
) -> int:
    """FLOPs of Eq. 3 (Ramachandran et al., 2019): a multiply, an add, a comparison or an exponential is one.

    Every window position that lies inside the map is counted on its own, with the products q·k and q·r over
    the head's width, five operations of softmax (maximum, difference, exponential, sum, quotient) a head, and
    the weighted value. A backend may do fewer: q·r needs kh + kw products of half a head's width, not kh·kw.

    Args:
        q_shape: (B, N·D, H, W).
        v_shape: (B, N·Dv, H, W).
        spec: Window, heads, pooling and ReLU.
        content: Whether the logit has the term q·k.
        position: Whether it has the term q·r.

    Returns:
        The number of FLOPs for the whole batch, pooling and ReLU included.
    """
    batch, channels, height, width = q_shape
    value_channels = v_shape[1]
    logit = 2 * channels * (content + position) + spec.num_heads * (content and position)
    window_position = logit + 5 * spec.num_heads + 2 * value_channels
    flops = batch * spec.positions_inside(height, width) * window_position
    if spec.pool > 1:
        flops += batch * value_channels * height * width
    if spec.relu:
        rows, cols = spec.output_size(height, width)
        flops += batch * value_channels * rows * cols
    return flops
