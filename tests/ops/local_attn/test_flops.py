"""The FLOP formula against counting in loops."""

from __future__ import annotations

import pytest

from sasa.ops import LocalAttentionSpec, local_attention_flops

from . import oracle

CASES = {
    "plain": ((2, 8, 5, 6), 6, LocalAttentionSpec(2, (3, 3), (1, 1), 1.0, 1)),
    "larger_than_map": ((1, 4, 2, 3), 2, LocalAttentionSpec(1, (9, 7), (1, 1), 1.0, 1)),
    "rectangular_dilated": ((1, 6, 7, 4), 9, LocalAttentionSpec(3, (3, 5), (3, 2), 0.5, 1)),
    "pooled": ((3, 4, 5, 3), 4, LocalAttentionSpec(2, (3, 1), (1, 1), 1.0, 2)),
    "relu": ((2, 4, 5, 3), 4, LocalAttentionSpec(2, (3, 1), (1, 1), 1.0, 1, relu=True)),
    "pooled_relu": ((2, 4, 5, 3), 6, LocalAttentionSpec(2, (3, 1), (1, 1), 1.0, 2, relu=True)),
    "one_pixel": ((1, 2, 1, 1), 2, LocalAttentionSpec(1, (7, 7), (1, 1), 1.0, 2)),
    "empty_batch": ((0, 2, 3, 3), 2, LocalAttentionSpec(1, (3, 3), (1, 1), 1.0, 2)),
}


def count(
    q_shape: tuple[int, ...], values: int, spec: LocalAttentionSpec, content: bool, position: bool
) -> int:
    """One by one, for every image, head, pixel and place of its window that lies inside."""
    batch, channels, height, width = q_shape
    window = oracle.Window(spec.num_heads, spec.kernel_size, spec.dilation)
    flops = 0
    for _ in range(batch * spec.num_heads):
        for i in range(height):
            for j in range(width):
                for _ in oracle.places_inside(height, width, window, i, j):
                    for _ in range(channels // spec.num_heads):
                        flops += 2 if content else 0  # q·k: a product and a sum
                        flops += 2 if position else 0  # q·r
                    flops += 1 if content and position else 0  # their sum
                    flops += 5  # maximum, difference, exponential, sum, quotient
                    flops += 2 * values // spec.num_heads  # weight · v: a product and a sum
                flops += values // spec.num_heads if spec.pool == 2 else 0  # its share of the mean
                first = i % spec.pool == 0 and j % spec.pool == 0  # of a block, which is one output
                flops += values // spec.num_heads if spec.relu and first else 0
    return flops


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("content", "position"), [(True, True), (True, False), (False, True)])
def test_formula(name: str, content: bool, position: bool) -> None:
    q_shape, values, spec = CASES[name]
    v_shape = (q_shape[0], values, *q_shape[2:])
    flops = local_attention_flops(q_shape, v_shape, spec, content=content, position=position)
    assert flops == count(q_shape, values, spec, content, position)
    assert isinstance(flops, int)


def test_both_terms_are_counted_unless_told() -> None:
    q_shape, values, spec = CASES["plain"]
    v_shape = (q_shape[0], values, *q_shape[2:])
    both = local_attention_flops(q_shape, v_shape, spec, content=True, position=True)
    assert local_attention_flops(q_shape, v_shape, spec) == both


@pytest.mark.parametrize("name", CASES)
def test_spec_counts_positions_and_sizes(name: str) -> None:
    (_, _, height, width), _, spec = CASES[name]
    window = oracle.Window(spec.num_heads, spec.kernel_size, spec.dilation)
    places = [oracle.places_inside(height, width, window, i, j) for i in range(height) for j in range(width)]
    assert spec.positions_inside(height, width) == sum(map(len, places))
    blocks = [len(range(0, side, spec.pool)) for side in (height, width)]
    assert spec.output_size(height, width) == tuple(blocks)
