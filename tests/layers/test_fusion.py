"""`sasa.fuse` on modules of any kind: what it folds, exactly, and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sasa
from sasa import AttentionStem, LocalSelfAttention2d
from sasa.layers import FusedAttentionStem

from .test_attention_stem import VALUES, build


def norm(channels: int = 8, kind: type[nn.Module] = nn.BatchNorm2d, **options: Any) -> nn.BatchNorm2d:
    """Not the identity in anything, with a negative factor and one of zero."""
    layer = kind(channels, eps=0.1, **options)
    for x in (layer.weight, layer.bias, layer.running_mean):
        if x is not None:
            nn.init.normal_(x)
    if layer.weight is not None:
        layer.weight.data[0], layer.weight.data[1] = 0, -1.5
    if layer.running_var is not None:
        layer.running_var.uniform_(0.3, 2)
    return layer  # type: ignore[return-value]


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, **{"padding": 1, "bias": False, **options})


def attention(**options: Any) -> LocalSelfAttention2d:
    return LocalSelfAttention2d(8, 8, 3, **{"num_heads": 2, **options})


def maps() -> Tensor:
    return torch.randn(2, 8, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def prepared(model: nn.Module) -> nn.Module:
    """In float64 and evaluation, with nothing that is zero as in a new layer."""
    for module in model.modules():
        if isinstance(module, LocalSelfAttention2d) and module.dw is not None:
            nn.init.normal_(module.dw.weight)
        if isinstance(module, LocalSelfAttention2d) and module.content_gain is not None:
            nn.init.normal_(module.content_gain)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)
    return model.double().eval()


@torch.no_grad()
def fused(model: nn.Module, x: Tensor | None = None) -> nn.Module:
    """The fused model, after a look whether it computes the same and left the original as it was."""
    torch.manual_seed(0)
    x = maps() if x is None else x
    prepared(model)
    weights, want = copy.deepcopy(model.state_dict()), model(x)
    result = sasa.fuse(model)
    torch.testing.assert_close(result(x), want, rtol=0, atol=1e-12)
    assert torch.equal(model(x), want)
    after = model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in result.parameters()}
    return result


def kinds(model: nn.Module) -> list[str]:
    return [type(child).__name__ for child in model.children()]


CONVS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "strided": {"stride": 2, "padding": 0},
    "depthwise": {"groups": 8, "dilation": 2},
    "reflecting": {"padding_mode": "reflect"},
}
ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "pooled": {"stride": 2},
    "absolute": {"position": "absolute"},
    "no_position": {"position": "none"},
    "no_content": {"content": False},
    "no_content_bias": {"content": False, "bias": True, "stride": 2},
    "rectangular": {"kernel_size": (1, 5), "dilation": (1, 2), "scale": 0.4},
    "content_gain": {"content_gain": True},
    "content_gain_bias_pooled": {"content_gain": True, "bias": True, "stride": 2},
    "depthwise": {"dw_kernel_size": 3},
    "depthwise_bias_pooled": {"dw_kernel_size": (1, 5), "bias": True, "stride": 2, "content_gain": True},
}


@pytest.mark.parametrize("name", CONVS)
def test_convolution_and_norm(name: str) -> None:
    result = fused(nn.Sequential(conv(**CONVS[name]), norm(), nn.ReLU()))
    assert kinds(result) == ["Conv2d", "Identity", "ReLU"]


@pytest.mark.parametrize("n", [1, 3])
def test_convolutions_of_other_dimensions(n: int) -> None:
    layer = {1: nn.Conv1d, 3: nn.Conv3d}[n](8, 8, 3)
    kind = {1: nn.BatchNorm1d, 3: nn.BatchNorm3d}[n]
    x = torch.randn(2, 8, *(5, 4, 3)[:n], dtype=torch.float64)
    assert kinds(fused(nn.Sequential(layer, norm(kind=kind)), x)) == [type(layer).__name__, "Identity"]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_norm_and_relu(name: str, relu: bool) -> None:
    layer = LocalSelfAttention2d(8, 8, **{"kernel_size": 3, "num_heads": 2, **ATTENTIONS[name]})
    result = fused(nn.Sequential(layer, norm(), *[nn.ReLU()] * relu))
    assert kinds(result) == ["LocalSelfAttention2d", *["Identity"] * (1 + relu)]
    assert result[0].relu is relu
    assert layer.relu is False
    assert ("relu=True" in repr(result)) is relu


def test_wider_than_the_input() -> None:
    fused(nn.Sequential(LocalSelfAttention2d(8, 24, 3, num_heads=3), norm(24), nn.ReLU()))


def test_attention_and_relu_without_a_norm() -> None:
    assert kinds(fused(nn.Sequential(attention(), nn.ReLU()))) == ["LocalSelfAttention2d", "Identity"]


def test_a_norm_after_the_relu_stays() -> None:
    result = fused(nn.Sequential(attention(), nn.ReLU(), norm()))
    assert kinds(result) == ["LocalSelfAttention2d", "Identity", "BatchNorm2d"]


def test_norms_one_after_another() -> None:
    result = fused(nn.Sequential(attention(), norm(), norm(), nn.Identity(), nn.ReLU(), nn.ReLU()))
    assert kinds(result) == ["LocalSelfAttention2d", *["Identity"] * 5]


def test_two_layers_in_a_row() -> None:
    result = fused(nn.Sequential(norm(), conv(), norm(), attention(), norm(), conv(), nn.ReLU(), norm()))
    left = ["BatchNorm2d", "Conv2d", "Identity", "LocalSelfAttention2d", "Identity", "Conv2d", "ReLU"]
    assert kinds(result) == [*left, "BatchNorm2d"]


def test_inside_anything() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.absent = None
            self.parts = nn.ModuleDict({"a": nn.ModuleList([nn.Sequential(attention(), norm())])})

        def forward(self, x: Tensor) -> Tensor:
            return x + self.parts["a"][0](x)  # type: ignore[index]

    result = fused(nn.Sequential(Wrapper(), nn.ReLU()))
    assert kinds(result[0].parts["a"][0]) == ["LocalSelfAttention2d", "Identity"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: norm(track_running_stats=False),
        lambda: nn.InstanceNorm2d(8, affine=True),
        lambda: nn.GroupNorm(2, 8),
        lambda: nn.PReLU(),
        lambda: type("MyNorm", (nn.BatchNorm2d,), {})(8),
        lambda: type("MyReLU", (nn.ReLU,), {"forward": lambda self, x: x.relu() + 1})(),
    ],
)
@pytest.mark.parametrize("layer", [conv, attention])
def test_other_followers_stay(layer: Callable[[], nn.Module], make: Callable[[], nn.Module]) -> None:
    follower = make()
    result = fused(nn.Sequential(layer(), follower, nn.ReLU()))
    assert kinds(result)[1] == type(follower).__name__
    assert kinds(result)[2] == "ReLU"


@pytest.mark.parametrize("layer", [conv, attention])
def test_norms_that_are_no_plain_affine_ones(layer: Callable[[], nn.Module]) -> None:
    for other in (norm(affine=False), norm(kind=nn.SyncBatchNorm)):
        assert kinds(fused(nn.Sequential(layer(), other)))[1] == "Identity"


def test_other_layers_keep_their_norm() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Shifted(LocalSelfAttention2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - 1

    standardised = nn.utils.parametrizations.weight_norm(conv())
    projected = attention()
    projected.qkv = nn.utils.parametrizations.weight_norm(projected.qkv)
    for layer in (
        Doubled(8, 8, 1),
        Shifted(8, 8, 3, num_heads=2),
        nn.ConvTranspose2d(8, 8, 2),
        standardised,
        projected,
    ):
        assert kinds(fused(nn.Sequential(layer, norm())))[1] == "BatchNorm2d"


@pytest.mark.parametrize("layer", [conv, attention])
@pytest.mark.parametrize("index", [0, 1])
def test_what_hooks_see_stays(layer: Callable[[], nn.Module], index: int) -> None:
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        model = nn.Sequential(layer(), norm())
        getattr(model[index], register)(lambda *_: None)
        assert kinds(fused(model))[1] == "BatchNorm2d"
    model = nn.Sequential(layer(), norm())
    model[index].forward = lambda x: x.abs()  # type: ignore[method-assign]
    assert kinds(fused(model))[1] == "BatchNorm2d"


def test_a_hook_on_the_projection_or_between() -> None:
    model = nn.Sequential(attention(), norm())
    model[0].qkv.register_forward_hook(lambda module, args, out: 2 * out)
    assert kinds(fused(model))[1] == "BatchNorm2d"
    model = nn.Sequential(attention(), nn.Identity(), norm())
    model[1].register_forward_hook(lambda module, args, out: out.abs())
    assert kinds(fused(model))[2] == "BatchNorm2d"


def test_a_hook_on_the_depthwise_convolution() -> None:
    model = nn.Sequential(attention(dw_kernel_size=3), norm())
    model[0].dw.register_forward_hook(lambda module, args, out: out.abs())
    assert kinds(fused(model))[1] == "BatchNorm2d"


def test_content_gain_without_anything_after_it() -> None:
    layer = attention(content_gain=True)
    result = fused(layer)
    assert isinstance(result, LocalSelfAttention2d)
    assert result.content_gain is None
    assert layer.content_gain is not None


def test_content_gain_of_a_projection_with_a_hook_stays() -> None:
    layer = prepared(attention(content_gain=True))
    layer.get_submodule("qkv").register_forward_hook(lambda module, args, out: 2 * out)
    result = sasa.fuse(layer)
    assert result.content_gain is not None
    with torch.no_grad():
        torch.testing.assert_close(result(maps()), layer(maps()), rtol=0, atol=1e-12)


def test_a_sequence_with_a_forward_of_its_own() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for module in reversed(self):
                x = module(x)
            return x

    class Named(nn.Sequential):
        """As torchvision's Conv2dNormActivation."""

    assert kinds(fused(Backwards(conv(), norm())))[1] == "BatchNorm2d"
    assert kinds(fused(Named(conv(), norm())))[1] == "Identity"
    patched = nn.Sequential(conv(), norm())
    patched.forward = lambda x: patched[1](x)  # type: ignore[method-assign]
    assert kinds(fused(patched))[1] == "BatchNorm2d"


@pytest.mark.parametrize("layer", [conv, attention])
def test_one_layer_in_several_places(layer: Callable[[], nn.Module]) -> None:
    """Each place gets what follows there."""
    shared, act = layer(), nn.ReLU()
    result = fused(nn.Sequential(shared, norm(), act, shared, act, conv(), act, norm(), shared, norm()))
    assert isinstance(result[1], nn.Identity)
    assert isinstance(result[7], nn.BatchNorm2d), "a ReLU lies between it and the convolution"
    assert isinstance(result[9], nn.Identity)
    block = nn.Sequential(shared, norm())
    fused(nn.Sequential(block, act, block, nn.Sequential(shared, norm()), shared))


def test_tied_weights() -> None:
    first, second = conv(), conv()
    second.weight = first.weight
    fused(nn.Sequential(first, norm(), second, norm(), nn.Sequential(first)))


class Block(nn.Module):
    """A user's own, with a residual connection."""

    fusable_chains = (("conv", "norm1"), ("attention", "norm2", "act"))

    def __init__(self) -> None:
        super().__init__()
        self.act, self.norm2, self.norm1 = nn.ReLU(), norm(), norm()
        self.conv, self.attention = conv(), attention()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.conv(x))
        return x + self.act(self.norm2(self.attention(x)))


def test_a_module_that_says_what_follows_what() -> None:
    result = fused(Block())
    left = {name: type(child).__name__ for name, child in result.named_children()}
    gone = dict.fromkeys(("act", "norm1", "norm2"), "Identity")
    assert left == {"conv": "Conv2d", "attention": "LocalSelfAttention2d", **gone}


def test_what_is_said_holds_for_its_own_forward_only() -> None:
    class Renamed(Block):
        pass

    class Other(Block):
        def forward(self, x: Tensor) -> Tensor:
            return self.norm1(self.conv(x).square())

    class OtherAndSaysSo(Other):
        fusable_chains = ()

    assert isinstance(fused(Renamed()).norm1, nn.Identity)
    for kind in (Other, OtherAndSaysSo):
        assert isinstance(fused(kind()).norm1, nn.BatchNorm2d)


def test_training_mode_is_refused() -> None:
    model = nn.Sequential(conv(), norm())
    with pytest.raises(ValueError, match=r"^model: .*it \(Sequential\) is in training mode.*eval\(\)"):
        sasa.fuse(model)
    model.eval()[1].train()
    with pytest.raises(ValueError, match=r"^model: .*1 \(BatchNorm2d\) is in training mode"):
        sasa.fuse(model)
    model.eval()
    model[0].train()  # of no consequence
    sasa.fuse(model)


def test_the_copy_is_frozen_and_the_model_is_not() -> None:
    model = nn.Sequential(
        conv(), norm(), attention(), norm(), AttentionStem(8, 8, num_heads=2), conv()
    ).eval()
    assert not any(p.requires_grad for p in sasa.fuse(model).parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_fused_again() -> None:
    once = fused(nn.Sequential(attention(), norm(), nn.ReLU(), AttentionStem(8, 8, num_heads=2)))
    twice = sasa.fuse(once)
    with torch.no_grad():
        assert torch.equal(once(maps()), twice(maps()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", [conv, attention])
def test_folded_values_are_rounded_once(layer: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(layer(), norm()).eval().to(dtype)
    half, exact = sasa.fuse(model).state_dict(), sasa.fuse(copy.deepcopy(model).double()).state_dict()
    assert {x.dtype for x in half.values()} == {dtype}
    for name, x in exact.items():
        # To the nearest, or to its neighbor where float32 had rounded across the middle.
        steps = (half[name].double() - x).abs() / x.abs().clamp(min=torch.finfo(dtype).tiny)
        assert (steps <= 0.501 * torch.finfo(dtype).eps).all()


@torch.no_grad()
def assert_stem(stem: AttentionStem, *size: int) -> FusedAttentionStem:
    x = torch.randn(2, stem.in_channels, *size, dtype=torch.float64)
    result = sasa.fuse(stem)
    assert isinstance(result, FusedAttentionStem)
    torch.testing.assert_close(result(x), stem(x), rtol=0, atol=1e-12)
    # Both soften their logits in float64 and hold the maps so.
    torch.testing.assert_close(result.attention_maps(x), stem.attention_maps(x), rtol=0, atol=1e-13)
    return result


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("size", [(8, 8), (6, 7), (1, 3)], ids=str)
@pytest.mark.parametrize("block", [4, 3, 1])
@pytest.mark.parametrize("pool", [True, False])
def test_stem(values: str, size: tuple[int, int], block: int, pool: bool) -> None:
    """Norms with negative factors, which turn a maximum into a minimum, and one of zero."""
    stem = build(values=values, block_size=block, max_pool=pool)
    stem.norm.weight.data[0] = 0
    assert (stem.norm.weight < 0).any()
    assert_stem(stem, *size)


def test_stem_without_affine_norm_or_of_one_channel() -> None:
    stem = build()
    stem.norm = norm(8, affine=False).double().eval()
    assert_stem(stem, 5, 6)
    torch.manual_seed(0)
    stem = AttentionStem(1, 12, num_heads=3, dtype=torch.float64)
    stem.norm = norm(12).double()
    assert_stem(stem.eval(), 9, 6)


def test_stem_holds_no_more_than_it_uses() -> None:
    """Of C = 3 channels, N = 2 heads, P = 16 pixels: what a compiled op will take, in three dimensions."""
    shapes = {name: tuple(x.shape) for name, x in sasa.fuse(build()).state_dict().items()}
    assert shapes == {
        "qk_weight": (2, 3, 3),
        "rel_weight": (2, 3, 256),
        "v_weight": (16, 8, 3),
        "bias": (8,),
    }
    shapes = {name: tuple(x.shape) for name, x in sasa.fuse(build(values="convolution")).state_dict().items()}
    assert shapes["value.weight"] == (8, 3, 4, 4)
    assert "v_weight" not in shapes


def test_stems_that_are_not_as_built_stay() -> None:
    def with_norm(stem: AttentionStem) -> None:
        stem.norm = nn.GroupNorm(2, 8)  # type: ignore[assignment]

    def with_bias(stem: AttentionStem) -> None:
        stem.query_key.bias = nn.Parameter(torch.randn(16).double())

    def with_hook(stem: AttentionStem) -> None:
        stem.norm.register_forward_hook(lambda module, args, out: -out)

    def with_weight_norm(stem: AttentionStem) -> None:
        nn.utils.parametrizations.weight_norm(stem.value)

    for change in (with_norm, with_bias, with_hook, with_weight_norm):
        stem = build()
        change(stem)
        result = fused(nn.Sequential(stem), torch.randn(1, 3, 6, 5, dtype=torch.float64))
        assert type(result[0]) is AttentionStem

    class Negated(AttentionStem):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    result = fused(nn.Sequential(Negated(3, 8, num_heads=2)), torch.randn(1, 3, 6, 5, dtype=torch.float64))
    assert type(result[0]) is Negated


def test_fused_stem_names_a_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"^x: expected \(B, 3, H, W\), got \(2, 4, 8, 8\)"):
        sasa.fuse(build())(torch.randn(2, 4, 8, 8))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("pool", [True, False])
def test_flops_of_the_fused_stem(values: str, pool: bool) -> None:
    """One by one, for each pixel of a square, head and position."""
    stem = sasa.fuse(build(values=values, max_pool=pool))
    flops = 0
    for _ in range(8 * 12):
        for _ in range(2):
            flops += 2 * 3 * 3  # the form applied to the pixel
            flops += 16 * (2 * 3 + 2 * 3 + 1 + 5 + 2 * 4)  # content, position, sum, softmax, weighted value
        flops += 2 * 3 * 8 if values != "convolution" else 0  # its value
        flops += 8 if pool else 0  # its share of the maximum
        flops += 8 if not pool else 0  # the bias
    flops += 2 * 3 * 8 if pool else 0  # the bias of each square
    batch = torch.empty(5, 3, 8, 12)
    assert stem.flops(batch) == 5 * flops  # type: ignore[operator]
