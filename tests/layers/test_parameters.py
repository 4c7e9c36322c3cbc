"""The parameters of the attention layer: how many, of what shape, how they start, how they travel."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from sasa import LocalSelfAttention2d


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


def test_full_projections_and_embeddings_of_each_head() -> None:
    layer = LocalSelfAttention2d(6, 32, (5, 3), num_heads=4)
    assert shapes(layer) == {
        "rel_row": (4, 5, 4),
        "rel_col": (4, 3, 4),
        "qkv.weight": (3 * 32, 6, 1, 1),
    }


@pytest.mark.parametrize("position", ["absolute", "none"])
def test_no_embeddings_without_relative_position(position: str) -> None:
    layer = LocalSelfAttention2d(6, 32, num_heads=4, position=position)
    assert shapes(layer) == {"qkv.weight": (3 * 32, 6, 1, 1)}
    assert not list(layer.buffers())


def test_no_key_projection_without_content() -> None:
    layer = LocalSelfAttention2d(6, 32, num_heads=4, content=False, position="relative")
    assert shapes(layer)["qkv.weight"] == (2 * 32, 6, 1, 1)


def test_content_gain_starts_at_zero() -> None:
    layer = LocalSelfAttention2d(6, 32, num_heads=2, content_gain=True)
    assert shapes(layer)["content_gain"] == (32,)
    assert layer.content_gain is not None
    assert not layer.content_gain.any()


def test_weights_of_the_papers_layer_are_for_the_papers_layer() -> None:
    weights = LocalSelfAttention2d(6, 32).state_dict()
    LocalSelfAttention2d(6, 32).load_state_dict(weights)
    with pytest.raises(RuntimeError, match=r'Missing key.*: "content_gain"'):
        LocalSelfAttention2d(6, 32, content_gain=True).load_state_dict(weights)


def test_bias_of_every_projection_starts_at_zero() -> None:
    layer = LocalSelfAttention2d(6, 32, num_heads=4, bias=True)
    assert shapes(layer)["qkv.bias"] == (96,)
    assert not layer.qkv.bias.any()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        # 3·out·in, and for each head k·D/2 for the rows and as much for the columns.
        ({}, 3 * 64 * 64 + 8 * 7 * 8),
        ({"position": "none"}, 3 * 64 * 64),
        ({"content": False}, 2 * 64 * 64 + 8 * 7 * 8),
        ({"kernel_size": 11}, 3 * 64 * 64 + 8 * 11 * 8),
        ({"bias": True, "num_heads": 4}, 3 * 64 * 65 + 4 * 7 * 16),
        ({"dw_kernel_size": (3, 5)}, 3 * 64 * 64 + 8 * 7 * 8 + 15 * 64),
        ({"content_gain": True}, 3 * 64 * 64 + 8 * 7 * 8 + 64),
    ],
)
def test_count(options: dict[str, object], count: int) -> None:
    layer = LocalSelfAttention2d(64, 64, **options)  # type: ignore[arg-type]
    assert sum(p.numel() for p in layer.parameters()) == count


def test_initial_spread() -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(64, 256, 31, num_heads=4)
    queries, keys, values = layer.qkv.weight.chunk(3)
    for weight in (keys, values):
        assert weight.std().item() == pytest.approx((2 / (3 * 256)) ** 0.5, rel=0.02)
    assert queries.std().item() == pytest.approx((2 / (3 * 256)) ** 0.5 / 64**0.5, rel=0.02)
    assert layer.rel_row is not None
    assert layer.rel_col is not None
    for embedding in (layer.rel_row, layer.rel_col):
        assert embedding.std().item() == pytest.approx(1, rel=0.05)


def test_reset_draws_again() -> None:
    layer = LocalSelfAttention2d(8, 16, bias=True)
    assert layer.qkv.bias is not None
    nn.init.ones_(layer.qkv.bias)
    before = {name: value.clone() for name, value in layer.named_parameters()}
    layer.reset_parameters()
    assert all(not torch.equal(value, before[name]) for name, value in layer.named_parameters())


@pytest.mark.parametrize("options", [{}, {"content": False}, {"position": "absolute"}], ids=str)
def test_state_dict_copies_and_pickles_carry_everything(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = LocalSelfAttention2d(6, 16, 3, 2, num_heads=4, bias=True, **options)  # type: ignore[arg-type]
    other = LocalSelfAttention2d(6, 16, 3, 2, num_heads=4, bias=True, **options)  # type: ignore[arg-type]
    x = torch.randn(2, 6, 5, 7)
    want = layer(x)
    assert not torch.equal(other(x), want)
    other.load_state_dict(layer.state_dict(), strict=True)
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), want)
        with torch.no_grad():
            twin.qkv.weight.zero_()
        assert torch.equal(layer(x), want)  # nothing is shared


def test_device_and_dtype() -> None:
    layer = LocalSelfAttention2d(6, 16, bias=True, device="meta", dtype=torch.float64)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    out = layer(torch.empty(2, 6, 5, 7, device="meta", dtype=torch.float64))
    assert (out.device.type, out.dtype, out.shape) == ("meta", torch.float64, (2, 16, 5, 7))


def test_to_moves_every_parameter() -> None:
    layer = LocalSelfAttention2d(6, 16, bias=True).to(torch.bfloat16)
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}
    assert layer(torch.randn(1, 6, 4, 4).bfloat16()).dtype == torch.bfloat16
