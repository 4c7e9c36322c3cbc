"""The model of the op: counts against loops, floors, and the selected forms of the kernels."""

from __future__ import annotations

from itertools import product

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed; torch brings it on Linux")

from benchmarks.shapes import RESNET50, Spatial
from sasa.ops.local_attn import schema  # noqa: F401  (registers the op)
from studies.gpu_model import counts, model

HEADS, KERNEL = counts.HEADS, counts.KERNEL
DIRECTIONS = ("forward", "backward")
# Narrower than a window, of odd sides, pooled; several tiles along both axes.
SMALL = (Spatial(16, 5, 1, 1), Spatial(64, 9, 2, 1), Spatial(128, 19, 1, 1))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dot", [False, True], ids=["ordinary", "dot"])
@pytest.mark.parametrize("shape", RESNET50, ids=str)
def test_nothing_is_below_its_floor(shape: Spatial, dot: bool, direction: str) -> None:
    least = model.floor(shape, 128, direction)
    predicted = model.predict(shape, 128, direction, dot=dot)
    for field in ("memory", "cached", "flops", "exponentials"):
        done = sum(getattr(one, field) for one in predicted.counts)
        assert done >= getattr(least, "memory" if field == "cached" else field)
    assert predicted.seconds >= model.floor_seconds(shape, 128, direction) > 0
    on_tensor_cores = sum(one.tensor_flops for one in predicted.counts)
    assert (on_tensor_cores > 0) == dot


@pytest.mark.parametrize("kind", [model.BF16, model.TF32], ids=["bf16", "tf32"])
@pytest.mark.parametrize("shape", RESNET50, ids=str)
def test_the_form_that_runs_is_the_one_predicted_to_be_faster(shape: Spatial, kind: model.Kind) -> None:
    """Forward and backward; but in tf32 heads of 8 keep their precision at a sixth more."""
    narrow = kind is model.TF32 and shape.channels == 8 * HEADS
    for direction in DIRECTIONS:
        dot, ordinary = (
            model.predict(shape, 128, direction, kind, dot=form).seconds for form in (True, False)
        )
        selected = model.with_dot(shape, direction, kind)
        gain = 0.8 if narrow and direction == "backward" else 1
        assert selected == (dot < gain * ordinary)


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_the_floor_is_every_product_counted_one_by_one(shape: Spatial) -> None:
    """A product of length head_dim D has 2·D FLOPs, one with an embedding, of half the length, D."""
    width, reach, batch = shape.channels // HEADS, KERNEL // 2, 3
    forward = backward = exponentials = 0
    for y, x in product(range(shape.side), repeat=2):
        rows, cols = ({i for i in range(a - reach, a + reach + 1) if 0 <= i < shape.side} for a in (y, x))
        for _ in product(rows, cols):
            exponentials += 1
            forward += 2 * width * 2  # q·k, p·v
            backward += 2 * width * 5  # q·k, g·v, and to dq, dk and dv
        for _ in (*rows, *cols):
            forward += 2 * width // 2  # q·r
            backward += 2 * width // 2 * 3  # q·r, and to dq and dr
    for direction, flops in (("forward", forward), ("backward", backward)):
        least = model.floor(shape, batch, direction)
        assert least.flops == batch * HEADS * flops
        assert least.exponentials == batch * HEADS * exponentials


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_the_floor_is_the_maps_that_the_op_takes_and_gives(shape: Spatial) -> None:
    """In bytes, by the op's own schema; the embeddings are not counted."""
    maps = counts.attention_maps(shape, 3, torch.bfloat16)
    inputs = (maps.q, maps.k, maps.v, None, None)
    window = (HEADS, KERNEL, KERNEL, 1, 1, 1.0, shape.stride)
    out, lse = torch.ops.sasa.local_attention(*inputs, *window, False, True, True)
    gradients = torch.ops.sasa.local_attention_backward(out, *inputs, lse, *window, True)
    forward = sum(x.nbytes for x in (maps.q, maps.k, maps.v, out))
    backward = forward + lse.nbytes + sum(x.nbytes for x in gradients)
    assert model.floor(shape, 3, "forward").memory == forward
    assert model.floor(shape, 3, "backward").memory == backward


@pytest.mark.parametrize("dot", [False, True], ids=["ordinary", "dot"])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_a_kernel_reads_each_tile_with_its_halo(shape: Spatial, dot: bool) -> None:
    """Bytes and turns of the loop, program by program."""
    maps = counts.attention_maps(shape, 1, torch.bfloat16)
    side, reach, width = shape.side, KERNEL // 2, 2 * shape.channels // HEADS
    of_output = width * (-(-side // shape.stride) / side) ** 2
    for name, one in counts.launches(maps, dot=dot):
        given = one.arguments
        # Queries in a row of a tile.
        down, across = (shape.stride, given["QUERIES"]) if name == "forward" and not dot else (1, 1)
        tile = (down * given["TILE_ROWS"], across * given["TILE_COLS"])
        pixels = turns = tiles = 0  # in all halos
        for corner in product(*(range(0, side, step) for step in tile)):
            rows, cols = (
                {b for a in range(first, first + step) for b in range(a - reach, a + reach + 1)}
                & set(range(side))
                for first, step in zip(corner, tile, strict=True)
            )
            if dot:  # a fixed number of columns from the first
                at_once = given.get("KEY_COLS") or given["OTHER_COLS"]
                cols = set(range(min(cols), min(min(cols) + at_once, side)))
            pixels += len(rows) * len(cols)
            turns += -(-len(rows) // given.get("KEY_ROWS", 1)) if dot else down * KERNEL
            tiles += 1
        # Of one head, at each of its pixels and at each in a halo.
        own, others = {
            "forward": (width + of_output + 4, 2 * width),  # q, out, lse; k and v
            "queries": (
                2 * width + of_output + 2 * 4,
                2 * 2 * width,
            ),  # q, dq, grad, lse, delta; twice k and v
            "keys": (4 * width, width + of_output + 2 * 4),  # k, v, dk, dv; q, grad, lse, delta
        }[name]
        want = HEADS * (side**2 * own + pixels * others)
        if name == "queries":  # the embeddings' gradients, read and written: all of a row, or the half in use
            want += tiles * HEADS * 2 * KERNEL * shape.channels // HEADS * 4 * (2 if dot else 1)
        counted = counts.count(name, one, maps)
        assert counted.cached == pytest.approx(want)
        groups = HEADS if dot else -(-HEADS // given["TILE_HEADS"])
        assert counted.turns == turns * groups


def test_the_interior_of_a_large_map_wastes_nothing() -> None:
    """49 positions each of 4·C FLOPs, and two products of half the head_dim for 7 offsets each."""
    least = model.floor(Spatial(64, 4000, 1, 1), 1, "forward")
    assert least.flops / 4000**2 == pytest.approx(64 * (4 * 49 + 2 * 7), rel=0.01)
    assert least.exponentials / 4000**2 == pytest.approx(8 * 49, rel=0.01)
