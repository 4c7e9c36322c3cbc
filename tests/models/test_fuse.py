"""`sasa.fuse` on our networks: nothing but the names of the weights and the time changes."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import sasa
from sasa.models import SASAResNet, attention_layers, query_attention_maps

from . import networks

EACH_VARIANT = pytest.mark.parametrize("name", networks.VARIANTS)
# And whether it may count the weights as constants. Inductor's CPU code goes through a C++ compiler.
COMPILERS = [("aot_eager", False)]
if any(map(shutil.which, ("c++", "g++", "clang++"))):
    COMPILERS += [("inductor", False), ("inductor", True)]

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "absolute": {"position": "absolute"},
    "no_position": {"position": "none"},
    "no_content": {"content": False},
    "pointwise_stem": {"stem": "pointwise"},
    "convolution_stem": {"stem": "convolution"},
    "conv_stem": {"stem": "conv"},
    "attention_stem_of_stride_1": {"stem_stride": 1},
    "conv_stem_of_stride_1": {"stem": "conv", "stem_stride": 1},
    "dilated": {"output_stride": 8},
    "drop_path": {"drop_path_rate": 0.5, "drop_rate": 0.3},
    "mixed": {"stage_types": ("conv", "attention", "attention", "conv")},
    "scaled": {"scale": 0.3},
    "second_form": {"content_gain": True, "dw_kernel_size": 3, "qkv_bias": True},
    "depthwise_dilated": {"dw_kernel_size": (3, 5), "output_stride": 8},
    "one_channel": {"in_chans": 1},
    "features": {"num_classes": 0, "global_pool": ""},
    "max_pool": {"global_pool": "max"},
}


def unsettled(model: SASAResNet) -> SASAResNet:
    """As after a training of its own: every norm different, some factors negative, some zero."""
    networks.randomize(model)
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.fill_(17)  # type: ignore[union-attr]
            signs = torch.randint(-1, 2, module.weight.shape, generator=generator)
            module.weight.data *= signs
    return model.eval()


def count(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in model.modules())


def assert_same(got: Tensor, want: Tensor) -> None:
    """To rounding in float64. Measured over these tests: at most 1.2e-15 of the largest."""
    assert want.abs().max() > 0.01
    torch.testing.assert_close(got, want, rtol=0, atol=2e-14 * want.abs().max().item())


@pytest.mark.parametrize("name", networks.NAMES)
@torch.no_grad()
def test_each_network(name: str) -> None:
    model = unsettled(networks.narrow(name, kernel_size=3)).double()
    x = networks.images(2, 3, 40, 33).double()
    before, want = copy.deepcopy(model.state_dict()), model(x)
    fused = sasa.fuse(model)
    assert_same(fused(x), want)
    assert type(fused) is SASAResNet
    assert count(fused, nn.BatchNorm2d, sasa.AttentionStem) == 0
    # One after conv1 and one at the end of each block; another after a convolution, but none after attention.
    blocks = [block for n in (1, 2, 3, 4) for block in model.get_submodule(f"layer{n}")]  # type: ignore[union-attr]
    convolutions = sum(isinstance(block.spatial, nn.Conv2d) for block in blocks)
    has_conv_stem = not isinstance(model.stem, sasa.AttentionStem)
    assert count(fused, nn.ReLU) == 2 * len(blocks) + convolutions + has_conv_stem
    # The original is as it was.
    assert torch.equal(model(x), want)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert count(model, nn.BatchNorm2d) > 3 * len(blocks)


@pytest.mark.parametrize("name", OPTIONS)
@torch.no_grad()
def test_options(name: str) -> None:
    model = unsettled(networks.tiny(**OPTIONS[name])).double()
    fused = sasa.fuse(model)
    assert count(fused, nn.BatchNorm2d, sasa.AttentionStem) == 0
    for size in ((24, 24), (17, 39)):
        x = networks.images(2, model.in_chans, *size).double()
        assert_same(fused(x), model(x))
        assert_same(fused.forward_features(x), model.forward_features(x))  # type: ignore[operator]


@EACH_VARIANT
@torch.no_grad()
def test_float32_rounds_little_more_than_before(name: str) -> None:
    """Measured over three batches: 0.78 to 1.28 times the error before, 1.5e-7 to 2.2e-7 of the largest."""
    model = unsettled(networks.narrow(name))
    x = networks.images(4, 3, 64, 64)
    exact = copy.deepcopy(model).double()(x.double())
    errors = [(net(x) - exact).abs().max().item() for net in (model, sasa.fuse(model))]
    assert errors[1] <= 2 * errors[0]
    assert errors[1] <= 1e-6 * exact.abs().max().item()


@EACH_VARIANT
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_rounds_little_more_than_before(name: str, dtype: torch.dtype) -> None:
    """Measured over three batches: 1.04 to 1.20 times the error before."""
    model = unsettled(networks.narrow(name)).to(dtype)
    x = networks.images(4, 3, 64, 64).to(dtype)
    exact = copy.deepcopy(model).double()(x.double())
    fused = sasa.fuse(model)
    assert {p.dtype for p in fused.parameters()} == {dtype}
    got = [net(x) for net in (model, fused)]
    assert got[1].dtype == dtype
    errors = [(out - exact).norm().item() for out in got]
    assert errors[1] <= 1.5 * errors[0]


@EACH_VARIANT
@torch.no_grad()
def test_under_autocast(name: str) -> None:
    """Measured over three batches: 0.93 to 1.05 times the error before."""
    model = unsettled(networks.narrow(name))
    x = networks.images(4, 3, 64, 64)
    exact, fused = model(x), sasa.fuse(model)
    with torch.autocast("cpu", torch.bfloat16):
        got = [net(x) for net in (model, fused)]
    assert got[1].dtype == got[0].dtype
    errors = [(out - exact).norm().item() for out in got]
    assert errors[1] <= 1.5 * errors[0]


@EACH_VARIANT
@torch.no_grad()
def test_channels_last(name: str) -> None:
    model = unsettled(networks.narrow(name)).double().to(memory_format=torch.channels_last)
    x = networks.images(2, 3, 40, 40).double().contiguous(memory_format=torch.channels_last)
    assert_same(sasa.fuse(model)(x), model(x))


@contextmanager
def freezing(on: bool) -> Iterator[None]:
    torch.compiler.reset()
    with torch._inductor.config.patch(freezing=on):
        yield
    torch.compiler.reset()


def quick(**options: Any) -> SASAResNet:
    """With one attention in the stages, as each takes long to compile."""
    return unsettled(networks.tiny(stage_types=("conv", "conv", "conv", "attention"), **options))


@pytest.mark.parametrize(("compiler", "frozen"), COMPILERS)
@torch.no_grad()
def test_compiled(compiler: str, frozen: bool) -> None:
    """A stem and a block; a compiler takes its time for each."""
    model = unsettled(networks.tiny(num_classes=0, global_pool=""))
    model.prune_intermediate_layers([0])
    fused, x = sasa.fuse(model), networks.images(2, 3, 16, 20)
    assert sum(layer.relu for layer in fused.modules() if isinstance(layer, sasa.LocalSelfAttention2d)) == 1
    want = fused(x)
    with freezing(frozen):
        compiled = torch.compile(fused, fullgraph=True, backend=compiler)
        torch.testing.assert_close(compiled(x), want, rtol=0, atol=1e-5 * want.abs().max().item())


@torch.no_grad()
def test_a_compiled_network_can_be_fused() -> None:
    """Its wrapper compiles the fused one anew."""
    compiled = torch.compile(quick(stem="conv"), backend="eager")
    x = networks.images(1, 3, 16, 16)
    want = compiled(x)
    fused = sasa.fuse(compiled)  # type: ignore[arg-type]
    assert count(fused, nn.BatchNorm2d) == 0
    torch.testing.assert_close(fused(x), want, rtol=0, atol=1e-5 * want.abs().max().item())
    assert torch.equal(compiled(x), want)
    torch.compiler.reset()


@pytest.mark.parametrize(("stem", "strict"), [("spatially_aware", True), ("convolution", False)])
@torch.no_grad()
def test_exported(stem: str, strict: bool) -> None:
    """For any batch."""
    fused, x = sasa.fuse(quick(stem=stem)), networks.images(2, 3, 16, 20)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(fused, (x,), dynamic_shapes=dynamic, strict=strict)
    for batch in (x, networks.images(3, 3, 16, 20)):
        torch.testing.assert_close(program.module()(batch), fused(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stem", ["spatially_aware", "conv"])
@torch.no_grad()
def test_scripted(stem: str) -> None:
    fused, x = sasa.fuse(quick(stem=stem)), networks.images(1, 3, 16, 16)
    with pytest.warns(FutureWarning, match="`torch.jit.script` is deprecated"):
        scripted = torch.jit.script(fused)
    torch.testing.assert_close(scripted(x), fused(x), rtol=0, atol=1e-5)


@EACH_VARIANT
@torch.no_grad()
def test_weights_pass_between_fused_networks(name: str) -> None:
    x = networks.images(1, 3, 40, 40)
    first = sasa.fuse(unsettled(networks.narrow(name)))
    second = sasa.fuse(sasa.create_model(name, width_mult=0.25).eval())
    assert not torch.equal(first(x), second(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(first(x), second(x))


@torch.no_grad()
def test_copied_and_pickled() -> None:
    fused, x = sasa.fuse(unsettled(networks.tiny())), networks.images(1, 3, 16, 16)
    file = io.BytesIO()
    torch.save(fused, file)
    file.seek(0)
    for other in (copy.deepcopy(fused), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), fused(x))
        assert repr(other) == repr(fused)


@EACH_VARIANT
@torch.no_grad()
def test_maps_between_the_stages(name: str) -> None:
    model = unsettled(networks.narrow(name)).double()
    fused, x = sasa.fuse(model), networks.images(1, 3, 40, 40).double()
    pairs = zip(
        model.forward_intermediates(x, intermediates_only=True),
        fused.forward_intermediates(x, intermediates_only=True),  # type: ignore[operator]
        strict=True,
    )
    for want, got in pairs:
        assert_same(got, want)


@pytest.mark.parametrize("features", [{}, {"feature_cls": "hook"}, {"feature_cls": "fx"}], ids=str)
@EACH_VARIANT
@torch.no_grad()
def test_features_only(name: str, features: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, width_mult=0.25, zero_init_last=False, features_only=True, **features)
    unsettled(model).double()
    x = networks.images(1, 3, 40, 40).double()
    for got, want in zip(sasa.fuse(model)(x), model(x), strict=True):
        assert_same(got, want)


def test_backbone_inside_another_network() -> None:
    """Fused with what surrounds it."""
    trunk = unsettled(networks.tiny(num_classes=0, global_pool=""))
    model = nn.Sequential(trunk, nn.Conv2d(512, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval().double()
    fused, x = sasa.fuse(model), networks.images(1, 3, 33, 33).double()
    assert count(fused, nn.BatchNorm2d) == 0
    torch.testing.assert_close(fused(x), model(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_attention_maps_are_the_same() -> None:
    model = unsettled(networks.tiny()).double()
    fused, x = sasa.fuse(model), networks.images(1, 3, 33, 40).double()
    assert list(attention_layers(fused)) == list(attention_layers(model))
    maps = query_attention_maps(model, x)
    for name, attention_map in query_attention_maps(fused, x).items():
        torch.testing.assert_close(attention_map, maps[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", networks.NAMES)
def test_cost(name: str) -> None:
    model = networks.on_meta(name)
    before, after = sasa.cost(model), sasa.cost(sasa.fuse(model))
    assert 0.9 * before.flops < after.flops < before.flops
    assert 0.99 * before.parameters < after.parameters < before.parameters


def test_the_relu_is_still_counted() -> None:
    """It is in the attention then: of one layer, the norm's two FLOPs become the bias' of q, k and v."""
    layer = sasa.LocalSelfAttention2d(8, 8, 3, num_heads=2, stride=2)
    model = nn.Sequential(layer, nn.BatchNorm2d(8), nn.ReLU()).eval()
    before, after = (sasa.cost(net, (8, 5, 7)).flops for net in (model, sasa.fuse(model)))
    outputs = 8 * 3 * 4
    assert after == before - 2 * outputs + 24 * 5 * 7


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model: .*call model\.eval\(\) first"):
        sasa.fuse(networks.tiny().train())
    model = networks.tiny()
    model.layer2[0].bn2.train()
    with pytest.raises(ValueError, match=r"^model: .*layer2\.0\.bn2 \(BatchNorm2d\)"):
        sasa.fuse(model)
