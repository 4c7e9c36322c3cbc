"""What the equations imply, whatever computes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .runners import Runner


def swap_halves(x: Tensor, heads: int) -> Tensor:
    """Exchange the halves of each head's channels: those for rows with those for columns."""
    return x.unflatten(1, (heads, 2, -1)).flip(2).flatten(1, 3)


def per_head(x: Tensor, heads: int) -> Tensor:
    """(B, N·D, H, W) to (B, N, H·W, D)."""
    return x.unflatten(1, (heads, -1)).flatten(3).mT


@pytest.mark.parametrize("dilation", [1, 3])
def test_window_of_one_pixel_gives_v(runner: Runner, dilation: int) -> None:
    q, k, v, row, col = runner.inputs(4, 5, kernel=(1, 1))
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=1, dilation=dilation)
    assert torch.equal(out, v)


@pytest.mark.parametrize("size", [(3, 4), (5, 1), (1, 1)])
def test_window_over_the_whole_map_is_full_attention(runner: Runner, size: tuple[int, int]) -> None:
    q, k, v, *_ = runner.inputs(*size)
    kernel = tuple(2 * side - 1 for side in size)
    out = runner(q, k, v, num_heads=2, kernel_size=kernel, scale=0.6)
    full = F.scaled_dot_product_attention(*(per_head(x, 2) for x in (q, k, v)), scale=0.6)
    runner.assert_close(out, full.mT.reshape(v.shape))


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
def test_masked_dense_attention(runner: Runner, dilation: tuple[int, int]) -> None:
    """A window is a mask over all pairs of pixels, the embeddings are a bias."""
    size, kernel, scale = (5, 6), (3, 5), 0.8
    q, k, v, row, col = runner.inputs(*size, kernel=kernel)
    pixels = torch.cartesian_prod(*(torch.arange(side, device=runner.device) for side in size))
    steps = pixels[None] - pixels[:, None]  # (query, key, axis)
    taps, inside = [], torch.ones(steps.shape[:2], dtype=torch.bool, device=runner.device)
    for axis in range(2):
        tap = steps[..., axis].div(dilation[axis], rounding_mode="floor") + kernel[axis] // 2
        inside &= (steps[..., axis] % dilation[axis] == 0) & (tap >= 0) & (tap < kernel[axis])
        taps.append(tap.clamp(0, kernel[axis] - 1))
    r = torch.cat([row[:, taps[0]], col[:, taps[1]]], -1)  # (N, query, key, D)
    bias = scale * torch.einsum("bnqd,nqkd->bnqk", per_head(q, 2), r)
    bias = bias.masked_fill(~inside, -torch.inf)
    heads = (per_head(x, 2) for x in (q, k, v))
    dense = F.scaled_dot_product_attention(*heads, attn_mask=bias, scale=scale)
    options = {"kernel_size": kernel, "dilation": dilation, "scale": scale}
    out = runner(q, k, v, row, col, num_heads=2, **options)
    runner.assert_close(out, dense.mT.reshape(v.shape))


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
@pytest.mark.parametrize("shifts", [((0, 0), (1, -1)), ((-1, 2), (0, 1)), ((1, -2), (-1, 0))])
def test_one_hot_embeddings_shift_the_image(
    runner: Runner, shifts: tuple[tuple[int, int], ...], dilation: tuple[int, int]
) -> None:
    """Each head by its own number of rows and columns."""
    size, kernel = (9, 14), (3, 5)
    v = runner.randn(1, 2 * 3, *size)
    q = runner.randn(1, 2 * 4, *size) * 0
    row, col = (torch.zeros(2, taps, 2).to(v) for taps in kernel)
    q[:, [0, 2, 4, 6]] = 1  # the first channel of each half of each head
    for head, (down, right) in enumerate(shifts):
        row[head, down + 1, 0] = 200
        col[head, right + 2, 0] = 200
    out = runner(q, None, v, row, col, num_heads=2, kernel_size=kernel, dilation=dilation)
    for head, (down, right) in enumerate(shifts):
        channels = slice(3 * head, 3 * head + 3)
        y, x = down * dilation[0], right * dilation[1]
        rows = slice(max(0, -y), size[0] - max(0, y))  # whose neighbor is inside
        cols = slice(max(0, -x), size[1] - max(0, x))
        shifted = v[:, channels].roll((-y, -x), (2, 3))[..., rows, cols]
        runner.assert_close(out[:, channels, rows, cols], shifted)


@pytest.mark.parametrize("pool", [1, 2])
def test_transposed_image(runner: Runner, pool: int) -> None:
    """H and W change places, and with them rows and columns."""
    q, k, v, row, col = runner.inputs(5, 8, kernel=(3, 7))
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=(3, 7), dilation=(2, 1), pool=pool)
    q, k = swap_halves(q, 2), swap_halves(k, 2)
    options = {"kernel_size": (7, 3), "dilation": (1, 2), "pool": pool}
    transposed = runner(q.mT, k.mT, v.mT, col, row, num_heads=2, **options)
    runner.assert_close(transposed.mT, out)


def test_mirrored_image(runner: Runner) -> None:
    """Left becomes right, and with it the order of the column embeddings."""
    q, k, v, row, col = runner.inputs(5, 6, kernel=(3, 5))
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=(3, 5))
    q, k, v = (x.flip(3) for x in (q, k, v))
    mirrored = runner(q, k, v, row, col.flip(1), num_heads=2, kernel_size=(3, 5))
    runner.assert_close(mirrored.flip(3), out)


@pytest.mark.parametrize("pool", [1, 2])
def test_heads_are_separate_calls(runner: Runner, pool: int) -> None:
    q, k, v, row, col = runner.inputs(5, 4, heads=3)
    out = runner(q, k, v, row, col, num_heads=3, kernel_size=3, pool=pool)
    singles = [
        runner(*maps, row[n : n + 1], col[n : n + 1], num_heads=1, kernel_size=3, pool=pool)
        for n, maps in enumerate(zip(*(x.chunk(3, 1) for x in (q, k, v)), strict=True))
    ]
    runner.assert_close(out, torch.cat(singles, 1))


@pytest.mark.parametrize("changed", range(5), ids=["q", "k", "v", "rel_row", "rel_col"])
def test_a_head_does_not_see_the_other(runner: Runner, changed: int) -> None:
    """New numbers in head 1's share of one argument leave head 0's output as it was, bit for bit."""
    args = list(runner.inputs(4, 5))
    before = runner(*args, num_heads=2, kernel_size=3)
    other = args[changed].clone()
    half = other.shape[1] // 2
    share = (slice(None), slice(half, None)) if changed < 3 else (1,)
    other[share] += 1 + other[share].abs().flip(-1)
    args[changed] = other
    after = runner(*args, num_heads=2, kernel_size=3)
    assert torch.equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).any(dim=0).all()


def test_images_are_separate_calls(runner: Runner) -> None:
    q, k, v, row, col = runner.inputs(4, 5, batch=3)
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=3)
    for n in range(3):
        maps = (x[n : n + 1] for x in (q, k, v))
        runner.assert_close(runner(*maps, row, col, num_heads=2, kernel_size=3), out[n : n + 1])


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 4), (3, 1), (1, 1)])
def test_pool_is_the_mean_of_blocks(runner: Runner, size: tuple[int, int]) -> None:
    """A block at an odd edge has fewer pixels: NaN stand for those it lacks."""
    args = runner.inputs(*size)
    fine = runner(*args, num_heads=2, kernel_size=3)
    pooled = runner(*args, num_heads=2, kernel_size=3, pool=2)
    padded = F.pad(fine, (0, size[1] % 2, 0, size[0] % 2), value=torch.nan)
    blocks = padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, C, H/2, 2, W/2, 2)
    runner.assert_close(pooled, blocks.nanmean((3, 5)))


@pytest.mark.parametrize("pool", [1, 2])
def test_relu_is_of_the_output(runner: Runner, pool: int) -> None:
    """Bit for bit what is not negative, and zero else."""
    args = runner.inputs(5, 7)
    out = runner(*args, num_heads=2, kernel_size=3, pool=pool)
    assert (out < 0).any()
    rectified = runner(*args, num_heads=2, kernel_size=3, pool=pool, relu=True)
    assert torch.equal(rectified, out.relu())
    assert torch.equal(runner(*args, num_heads=2, kernel_size=3, pool=pool, relu=False), out)


def test_translation_equivariance(runner: Runner) -> None:
    """A crop's outputs are those of the whole wherever the windows lie inside the crop."""
    q, k, v, row, col = runner.inputs(10, 11, kernel=(3, 5))
    options = {"num_heads": 2, "kernel_size": (3, 5), "dilation": (2, 1)}
    whole = runner(q, k, v, row, col, **options)
    cropped = runner(*(x[..., 1:9, 2:10] for x in (q, k, v)), row, col, **options)
    runner.assert_close(cropped[..., 2:-2, 2:-2], whole[..., 3:7, 4:8])


def test_a_constant_added_to_all_logits_changes_nothing(runner: Runner) -> None:
    q, k, v, row, col = runner.inputs(4, 5)
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=3)
    everywhere = runner.randn(1, 8, 1, 1)
    runner.assert_close(runner(q, k + everywhere, v, row, col, num_heads=2, kernel_size=3), out)
    rows, cols = row + runner.randn(2, 1, 2), col + runner.randn(2, 1, 2)
    runner.assert_close(runner(q, k, v, rows, cols, num_heads=2, kernel_size=3), out)


def test_weights_sum_to_one(runner: Runner) -> None:
    """So a scale and a shift of v pass through, borders included: a batch norm can be folded into v."""
    q, k, v, row, col = runner.inputs(4, 5, kernel=(5, 5))
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=5, scale=0.2)
    scale, shift = runner.randn(6, 1, 1), runner.randn(6, 1, 1)
    moved = runner(q, k, v * scale + shift, row, col, num_heads=2, kernel_size=5, scale=0.2)
    runner.assert_close(moved, out * scale + shift)


def test_scale_multiplies_queries(runner: Runner) -> None:
    q, k, v, row, col = runner.inputs(4, 5)
    scaled = runner(q, k, v, row, col, num_heads=2, kernel_size=3, scale=-0.4)
    runner.assert_close(scaled, runner(q * -0.4, k, v, row, col, num_heads=2, kernel_size=3))


def test_scale_zero_is_the_mean_of_the_window(runner: Runner) -> None:
    q, k, v, row, col = runner.inputs(4, 5)
    out = runner(q, k, v, row, col, num_heads=2, kernel_size=3, scale=0.0)
    mean = F.avg_pool2d(v, 3, stride=1, padding=1, count_include_pad=False)
    runner.assert_close(out, mean)


def test_missing_terms_are_zero_terms(runner: Runner) -> None:
    q, k, v, row, col = runner.inputs(4, 5)
    options = {"num_heads": 2, "kernel_size": 3}
    zero = torch.zeros_like
    for left_out, zeroed in (
        ((None, row, col), (zero(k), row, col)),
        ((k, None, col), (k, zero(row), col)),
        ((k, row, None), (k, row, zero(col))),
        ((k, None, None), (k, zero(row), zero(col))),
        ((None, None, col), (zero(k), zero(row), col)),
    ):
        without = runner(q, left_out[0], v, *left_out[1:], **options)
        runner.assert_close(without, runner(q, zeroed[0], v, *zeroed[1:], **options))
