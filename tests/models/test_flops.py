"""`sasa.cost`: counted again by hand, and against PyTorch's own counter."""

from __future__ import annotations

import itertools

import pytest
import torch
from timm.models import create_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sasa
from sasa.ops import cpu_extension

from . import networks

needs_kernels = pytest.mark.skipif(not cpu_extension.is_available(), reason="the CPU kernels are not built")


def window_positions(height: int, width: int, kernel: int) -> int:
    """Positions inside the map, over all windows."""
    reach = kernel // 2
    return sum(
        0 <= i + a < height and 0 <= j + b < width
        for i, j in itertools.product(range(height), range(width))
        for a, b in itertools.product(range(-reach, reach + 1), repeat=2)
    )


def attention(c_in: int, c: int, heads: int, kernel: int, size: int, stride: int = 1) -> int:
    """q, k, v; two products, their sum and the softmax of each head, the weighted value; the pool."""
    pixels = size * size
    window = window_positions(size, size, kernel) * (2 * c + 2 * c + heads + 5 * heads + 2 * c)
    return pixels * 2 * c_in * 3 * c + window + (pixels * c if stride == 2 else 0)


def test_layer() -> None:
    layer = sasa.LocalSelfAttention2d(6, 8, 5, num_heads=2)
    result = sasa.cost(layer, (6, 7, 7))
    assert result.flops == attention(6, 8, 2, 5, 7)
    assert result.parameters == 3 * 6 * 8 + 2 * (5 + 5) * 2


def test_layer_variants() -> None:
    def flops(**options: object) -> int:
        return sasa.cost(sasa.LocalSelfAttention2d(6, 8, 3, num_heads=2, **options), (6, 6, 6)).flops  # type: ignore[arg-type]

    full, positions = flops(), window_positions(6, 6, 3)
    assert flops(stride=2) == full + 8 * 36
    assert flops(position="none") == full - positions * (2 * 8 + 2)
    assert flops(position="absolute") == full - positions * (2 * 8 + 2) + 6 * 36
    assert flops(content=False) == full - positions * (2 * 8 + 2) - 36 * 2 * 6 * 8
    assert flops(bias=True) == full + 36 * 24
    assert flops(content_gain=True) == full, "it is a part of the weights"
    # The convolution has two per weight and pixel, and its sum with the attention one per pixel.
    layer = sasa.LocalSelfAttention2d(8, 8, 3, num_heads=2)
    beside = sasa.LocalSelfAttention2d(8, 8, 3, num_heads=2, dw_kernel_size=5)
    assert sasa.cost(beside, (8, 6, 6)).flops == sasa.cost(layer, (8, 6, 6)).flops + 36 * 8 * (2 * 25 + 1)


@pytest.mark.parametrize(
    ("values", "of_values"),
    [
        ("pointwise", 2 * 3 * 8),
        ("convolution", 2 * 3 * 8 * 16),
        ("spatially_aware", 4 * (2 * 3 * 8) + 2 * 4 * 8),  # four values and their mixture
    ],
)
def test_stem(values: str, of_values: int) -> None:
    stem = sasa.AttentionStem(3, 8, values=values, num_heads=2)
    queries_and_keys = 2 * 3 * 16
    window = 16 * (2 * 8 + 2 * 8 + 2 + 5 * 2 + 2 * 8)
    norm, pool = 2 * 8, 8
    each_pixel = queries_and_keys + of_values + window + norm + pool
    # The convolution runs over the padding of its own size too.
    assert sasa.cost(stem, (3, 8, 12)).flops == 8 * 12 * each_pixel
    unpooled = sasa.AttentionStem(3, 8, values=values, num_heads=2, max_pool=False)
    assert sasa.cost(unpooled, (3, 8, 12)).flops == 8 * 12 * (each_pixel - pool)


def test_stem_counts_pairs_inside_the_image_alone() -> None:
    """Blocks 4 and 2 high, 4 and 1 wide."""
    stem = sasa.AttentionStem(3, 8, values="convolution", num_heads=2, max_pool=False)
    pairs = (4 * 4 + 2 * 2) * (4 * 4 + 1)
    beside_the_modules = stem.flops(torch.empty(3, 3, 6, 5, device="meta"))
    assert beside_the_modules == 3 * pairs * (2 * 8 + 2 * 8 + 2 + 5 * 2 + 2 * 8)


@needs_kernels
@pytest.mark.parametrize("size", [28, 30])
@pytest.mark.parametrize("values", ["pointwise", "spatially_aware", "no stem"])
@torch.no_grad()
def test_attention_agrees_with_pytorchs_counter(values: str, size: int) -> None:
    """Also if the blocks at the border are cut off; the counter leaves out the bias and the maximum."""
    if values == "no stem":
        model: nn.Module = sasa.LocalSelfAttention2d(3, 8, 5, 2, num_heads=2)
        left_out = 0
    else:
        model = sasa.fuse(sasa.AttentionStem(3, 8, values=values, num_heads=2).eval())
        left_out = 8 * 8 * (7 if size == 28 else 8) ** 2 // 8
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, size, size))
    assert sasa.cost(model, (3, size, size)).flops == counter.get_total_flops() + left_out


def test_network_by_hand() -> None:
    """A bottleneck network of one block per stage at 32 px: conv, attention, conv, attention."""
    model = networks.tiny(
        stem="conv", stage_types=("conv", "attention", "conv", "attention"), num_heads=4, num_classes=5
    )
    flops = 16 * 16 * 16 * (2 * 3 * 49 + 2 + 1) + 16 * 8 * 8 * 9  # conv, norm, ReLU; 3 × 3 max pool
    c_in, size = 16, 8
    for index, kind in enumerate(("conv", "attention", "conv", "attention")):
        c, stride = 16 * 2**index, 1 if index == 0 else 2
        small = size // stride
        flops += size**2 * c * (2 * c_in + 2 + 1)  # 1 × 1, norm, ReLU
        if kind == "conv":
            flops += small**2 * c * 2 * 9 * c
        else:
            flops += attention(c, c, 4, 3, size, stride)
        flops += small**2 * c * (2 + 1)
        flops += small**2 * 4 * c * (2 * c + 2)  # 1 × 1, norm
        flops += small**2 * 4 * c * (2 * c_in + 2)  # shortcut
        flops += small**2 * 4 * c * (1 + 1)  # addition, ReLU
        c_in, size = 4 * c, small
    flops += 512 + 2 * 512 * 5 + 5
    assert sasa.cost(model, (3, 32, 32)).flops == flops
    assert sasa.cost(model, (3, 32, 32)).parameters == sum(p.numel() for p in model.parameters())


def test_conv_resnet50_against_pytorchs_counter() -> None:
    model = networks.on_meta("sasa_resnet50_conv")
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    products = counter.get_total_flops()
    assert products == 2 * 4_089_184_256  # the multiply-adds that everybody prints as 4.09 G
    rest = 0
    for size, width, depth in ((56, 64, 3), (28, 128, 4), (14, 256, 6), (7, 512, 3)):
        first = size if width == 64 else 2 * size
        rest += first**2 * width * 3 + (depth - 1) * size**2 * width * 3  # norm and ReLU of the first 1 × 1
        rest += depth * size**2 * width * 3 + depth * size**2 * 4 * width * (2 + 1 + 1)  # the others
        rest += size**2 * 4 * width * 2  # norm of the shortcut
    rest += 112**2 * 64 * 3 + 56**2 * 64 * 9 + 7**2 * 2048 + 1000
    assert sasa.cost(model).flops == products + rest


def test_timms_resnets_are_counted_too() -> None:
    with torch.device("meta"):
        ours, theirs = sasa.create_model("sasa_resnet50_conv"), create_model("resnet50")
    additions = sum(d * s**2 * c for s, c, d in ((56, 256, 3), (28, 512, 4), (14, 1024, 6), (7, 2048, 3)))
    assert sasa.cost(ours).parameters == sasa.cost(theirs).parameters == 25_557_032
    assert sasa.cost(ours).flops == sasa.cost(theirs).flops + additions  # timm's are no module


def test_the_model_is_not_touched() -> None:
    model = networks.tiny().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sasa.cost(model, (3, 32, 32))
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    after = model.state_dict()
    assert all(after[name].device == x.device and torch.equal(after[name], x) for name, x in before.items())


def test_grows_with_the_image() -> None:
    model = networks.tiny(stem="conv", stage_types=("conv",) * 4, num_classes=0)
    assert sasa.cost(model, (3, 64, 64)).flops == 4 * sasa.cost(model, (3, 32, 32)).flops
    assert sasa.cost(model, (3, 64, 64)).parameters == sasa.cost(model, (3, 32, 32)).parameters


def test_a_module_of_unknown_cost_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(8))
    with pytest.raises(ValueError, match=r"expected modules with a FLOP formula, got 1 \(LayerNorm\)"):
        sasa.cost(model, (3, 8, 8))


@pytest.mark.parametrize(
    ("pool", "elements"),
    [
        (nn.MaxPool2d(3, 2, padding=1), 9 * 3 * 4),
        (nn.AvgPool2d(3, 2, padding=1), 9 * 3 * 4),
        (nn.AvgPool2d((1, 2)), 2 * 5 * 4),
        (nn.AvgPool2d(2, ceil_mode=True), 4 * 3 * 4),
        (nn.AdaptiveAvgPool2d(1), 5 * 8),
        (nn.AdaptiveMaxPool2d(1), 5 * 8),
    ],
    ids=str,
)
def test_pools(pool: nn.Module, elements: int) -> None:
    assert sasa.cost(pool, (3, 5, 8)).flops == 3 * elements


@pytest.mark.parametrize(
    ("global_pool", "windows"),
    [
        *((name, 1) for name in ("avg", "max", "fast", "fastmax")),
        *((name, 2) for name in ("avgmax", "catavgmax", "fastavgmax", "fastcatavgmax")),
    ],
)
def test_global_pools(global_pool: str, windows: int) -> None:
    """An element that enters the mean and the maximum counts twice."""

    def flops(global_pool: str) -> int:
        return sasa.cost(networks.tiny(num_classes=0, global_pool=global_pool), (3, 64, 64)).flops

    assert flops(global_pool) - flops("") == windows * 512 * 2 * 2


def test_group_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.GroupNorm(2, 8))
    assert sasa.cost(model, (3, 5, 6)).flops == 30 * 8 * (2 * 3 + 7)


def test_a_module_may_say_what_it_costs() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

        def flops(self, x: torch.Tensor) -> int:
            return x.numel()

    result = sasa.cost(nn.Sequential(Scale(), nn.ReLU()), (3, 8, 8))
    assert (result.parameters, result.flops) == (1, 2 * 192)


def test_prints_in_the_papers_units() -> None:
    assert str(sasa.models.Cost(18_014_000, 7_046_000_000)) == "18.01 M parameters, 7.05 B FLOPs"
    assert str(sasa.models.Cost(382_000, 21_340_000)) == "0.38 M parameters, 21.3 M FLOPs"


def test_any_dtype() -> None:
    network = sasa.create_model("sasa_resnet26", width_mult=0.125, num_heads=2)
    expected = sasa.cost(network, (3, 32, 32))
    assert sasa.cost(network.bfloat16(), (3, 32, 32)) == expected


def test_a_compiled_layer_counts_once() -> None:
    layer = sasa.LocalSelfAttention2d(8, 8, 3, num_heads=2)
    expected = sasa.cost(layer, (8, 6, 6))
    assert sasa.cost(torch.compile(layer, backend="eager"), (8, 6, 6)) == expected  # type: ignore[arg-type]
