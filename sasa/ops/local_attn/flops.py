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
    """FLOPs of Eq. 3 (Ramachandran et al., 2019): multiplies, adds, comparisons and exponentials.

    Each window position inside the map counts the products q·k and q·r over head_dim, five operations of
    softmax per head (maximum, difference, exponential, sum, quotient) and the weighted value. A backend may
    need fewer: q·r takes kh + kw products of half a head_dim instead of kh·kw whole ones.

    Args:
        q_shape: (B, N·D, H, W).
        v_shape: (B, N·Dv, H, W).
        spec: Window, heads, pooling and ReLU.
        content: Whether the logit has the term q·k.
        position: Whether the logit has the term q·r.

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
