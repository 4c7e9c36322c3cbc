"""Attention maps of the layers of a network."""

import pytest
import torch
from torch import nn

import sasa
from sasa.models import attention_layers, position_attention_maps, query_attention_maps


def tiny() -> nn.Module:
    torch.manual_seed(0)
    model = sasa.create_model("sasa_resnet26", num_classes=3, width_mult=0.125, num_heads=2, kernel_size=3)
    return model.eval()


def test_finds_the_stem_and_every_layer() -> None:
    names = list(attention_layers(tiny()))
    assert names[0] == "stem"
    assert names[1:] == [
        f"layer{stage}.{block}.spatial"
        for stage, depth in zip((1, 2, 3, 4), (1, 2, 4, 1), strict=True)
        for block in range(depth)
    ]


def test_each_map_is_a_distribution_over_the_map_of_its_layer() -> None:
    maps = query_attention_maps(tiny(), torch.randn(2, 3, 40, 56))
    assert maps["stem"].shape == (2, 4, 40, 56)
    assert maps["layer1.0.spatial"].shape == (2, 2, 10, 14)
    assert maps["layer2.0.spatial"].shape == (2, 2, 10, 14)  # pools after it
    assert maps["layer2.1.spatial"].shape == (2, 2, 5, 7)
    for attention_map in maps.values():
        torch.testing.assert_close(attention_map.sum((2, 3)), torch.ones(attention_map.shape[:2]))


def test_the_map_is_the_window_of_the_query() -> None:
    """The layer's map at the query, laid out around it; zero elsewhere."""
    layer = sasa.LocalSelfAttention2d(3, 8, 3, num_heads=2, dilation=2)
    x = torch.randn(1, 3, 9, 9)
    attention_map = query_attention_maps(nn.Sequential(layer), x, query=(0.5, 0.99))["0"]
    window = layer.attention_maps(x)[:, :, 4, 8]
    expected = torch.zeros_like(attention_map)
    for a in range(3):
        for b in range(2):
            expected[:, :, 2 + 2 * a, 6 + 2 * b] = window[:, :, a, b]
    torch.testing.assert_close(attention_map, expected, rtol=0, atol=0)


def test_a_pooling_layer_shows_the_mean_of_its_four_queries() -> None:
    layer = sasa.LocalSelfAttention2d(3, 8, 3, stride=2, num_heads=2)
    x = torch.randn(1, 3, 6, 6)
    attention_map = query_attention_maps(nn.Sequential(layer), x, query=(0.5, 0.5))["0"]
    layer.stride = 1
    four = [
        query_attention_maps(nn.Sequential(layer), x, query=((r + 0.5) / 6, (c + 0.5) / 6))["0"]
        for r in (2, 3)
        for c in (2, 3)
    ]
    torch.testing.assert_close(attention_map, torch.stack(four).mean(0))


def test_the_stems_query_sees_its_own_square() -> None:
    stem = sasa.AttentionStem(3, 8, num_heads=2).eval()
    x = torch.randn(1, 3, 10, 12)
    attention_map = query_attention_maps(nn.Sequential(stem), x, query=(0.95, 0.5))[
        "0"
    ]  # pixel (9, 6), a cut-off square
    assert attention_map[:, :, 8:10, 4:8].sum().item() == pytest.approx(2)
    assert attention_map.sum().item() == pytest.approx(2)


def test_leaves_no_hook_behind() -> None:
    model = tiny()
    query_attention_maps(model, torch.randn(1, 3, 16, 16))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_errors() -> None:
    model, x = tiny(), torch.randn(1, 3, 16, 16)
    with pytest.raises(
        ValueError,
        match=r"layers: expected names .*, got 'layer1\.0'; did you mean 'layer1\.0\.spatial'",
    ):
        query_attention_maps(model, x, layers=["layer1.0"])
    with pytest.raises(ValueError, match=r"query: expected row and column in \[0, 1\], got \(0\.5, 1\.5\)"):
        query_attention_maps(model, x, query=(0.5, 1.5))
    with pytest.raises(ValueError, match="model: expected a network with attention layers, got Conv2d"):
        query_attention_maps(nn.Conv2d(3, 3, 1), x)


@pytest.mark.parametrize("content", [True, False])
def test_position_attention_is_what_equal_pixels_attend_to(content: bool) -> None:
    """Where all pixels are equal q·k says nothing: a pixel whose window is whole attends by q·r alone."""
    torch.manual_seed(0)
    layer = sasa.LocalSelfAttention2d(3, 16, (3, 5), num_heads=2, content=content, scale=0.7)
    x = 10 * torch.randn(1, 3, 1, 1).expand(1, 3, 9, 9)
    found = position_attention_maps(nn.Sequential(layer), x)["0"]
    expected = layer.attention_maps(x)[0, :, 4, 4]
    assert found.shape == (2, 3, 5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert expected.std() > 0.01


def test_position_attention_is_a_mean_over_pixels_and_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(sasa.LocalSelfAttention2d(3, 8, 3, num_heads=2))
    x = torch.randn(2, 3, 1, 2)
    parts = [
        position_attention_maps(network, x[i : i + 1, :, :, j : j + 1])["0"] for i in (0, 1) for j in (0, 1)
    ]
    mean = torch.stack(parts).mean(0)
    torch.testing.assert_close(position_attention_maps(network, x)["0"], mean, rtol=0, atol=1e-6)


def test_position_attention_of_layers_with_embeddings_alone() -> None:
    assert (
        list(position_attention_maps(tiny(), torch.randn(1, 3, 32, 32))) == list(attention_layers(tiny()))[1:]
    )
    without = sasa.create_model(
        "sasa_resnet26_convstem", num_classes=3, width_mult=0.125, position="none"
    ).eval()
    assert position_attention_maps(without, torch.randn(1, 3, 32, 32)) == {}
