"""What timm asks of every model, in our words: structure on the meta device, behavior on narrow networks."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import nn

import sasa
from sasa.models import list_models

from . import networks

ALL = pytest.mark.parametrize("name", networks.NAMES)
EACH_VARIANT = pytest.mark.parametrize("name", networks.VARIANTS)


def test_the_names_are_timms_too() -> None:
    assert sorted(networks.NAMES) == list_models() == timm.list_models("sasa*")
    assert all(timm.is_model(name) for name in networks.NAMES)


@ALL
def test_forward_at_96_pixels_repeats_bit_for_bit(name: str) -> None:
    model = networks.narrow(name)
    x = networks.images(2, 3, 96, 96)
    with torch.no_grad():
        assert model.forward_features(x).shape == (2, 512, 3, 3)  # smaller than the 7 × 7 window
        out = model(x)
        assert out.shape == (2, 1000)
        assert out.isfinite().all()
        assert torch.equal(model(x), out)


@ALL
def test_gradient_for_every_parameter(name: str) -> None:
    model = networks.narrow(name, num_classes=42).train()
    out = model(networks.images(2, 3, 96, 96))
    assert out.shape == (2, 42)
    nn.functional.cross_entropy(out, torch.tensor([3, 41])).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@EACH_VARIANT
def test_gradient_where_blocks_start_at_the_identity(name: str) -> None:
    model = networks.narrow(name, zero_init_last=True).train()
    model(networks.images(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    lasts = [module.bn3 for module in model.modules() if hasattr(module, "bn3")]
    assert len(lasts) == 1 + 2 + 4 + 1
    assert not any(norm.weight.any() for norm in lasts)
    assert all(norm.weight.grad.any() for norm in lasts)


def test_blocks_start_at_the_identity_by_default() -> None:
    block = sasa.create_model("sasa_resnet26", width_mult=0.25).layer2[1]  # type: ignore[index]
    x = networks.images(1, 128, 5, 5).relu()
    assert torch.equal(block.eval()(x), x)


@ALL
def test_default_config(name: str) -> None:
    model = networks.on_meta(name)
    cfg = model.default_cfg
    assert model.pretrained_cfg is cfg
    assert cfg["architecture"] == name
    assert (cfg["num_classes"], cfg["input_size"], cfg["pool_size"]) == (1000, (3, 224, 224), (7, 7))
    assert (cfg["mean"], cfg["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    weights = model.state_dict()
    assert weights[f"{cfg['classifier']}.weight"].shape == (1000, 2048)
    assert model.get_classifier() is model.get_submodule(cfg["classifier"])
    assert model.get_classifier(name_only=True) == cfg["classifier"]
    first = (cfg["first_conv"],) if isinstance(cfg["first_conv"], str) else cfg["first_conv"]
    assert {weights[f"{conv}.weight"].shape[1] for conv in first} == {3}
    reads_the_image = {n for n, p in model.stem.named_parameters() if p.ndim == 4}
    assert {f"{conv.removeprefix('stem.')}.weight" for conv in first} == reads_the_image


@ALL
def test_features_at_the_default_size(name: str) -> None:
    model = networks.on_meta(name, kernel_size=3)  # quicker
    features = model.forward_features(torch.empty(1, 3, 224, 224, device="meta"))
    assert features.shape == (1, model.num_features, *model.default_cfg["pool_size"])
    assert model.num_features == model.head_hidden_size == 2048
    assert model.forward_head(features, pre_logits=True).shape == (1, 2048)
    assert model.forward_head(features).shape == (1, 1000)


@EACH_VARIANT
def test_forward_is_features_then_head(name: str) -> None:
    model = networks.narrow(name)
    x = networks.images(2, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        torch.testing.assert_close(pooled, features.mean((2, 3)))
        torch.testing.assert_close(model(x), model.fc(pooled))


@EACH_VARIANT
def test_reset_classifier(name: str) -> None:
    model = networks.narrow(name)
    x = networks.images(1, 3, 64, 64)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(0)
        assert model.num_classes == 0
        assert torch.equal(model(x), pooled)
        model.reset_classifier(0, "")
        assert torch.equal(model(x), model.forward_features(x))
        model.reset_classifier(7, "avg")
        assert model.num_classes == 7
        assert model.get_classifier().weight.shape == (7, 512)
        assert model(x).shape == (1, 7)
        model.reset_classifier(4)
        assert model(x).shape == (1, 4)
        model.reset_classifier(4, "catavgmax")
        assert model.head_hidden_size == 1024
        assert model(x).shape == (1, 4)


def test_a_new_classifier_has_the_dtype_and_device_of_the_network() -> None:
    model = networks.narrow("sasa_resnet26").double()
    model.reset_classifier(7)
    assert model.fc.weight.dtype == torch.float64
    meta = networks.on_meta("sasa_resnet26")
    meta.reset_classifier(7)
    assert meta.fc.weight.device.type == "meta"


@EACH_VARIANT
def test_created_without_a_classifier(name: str) -> None:
    x = networks.images(1, 3, 64, 64)
    assert networks.narrow(name, num_classes=0)(x).shape == (1, 512)
    assert networks.narrow(name, num_classes=0, global_pool="")(x).shape == (1, 512, 2, 2)


@EACH_VARIANT
def test_images_of_one_channel(name: str) -> None:
    assert networks.narrow(name, in_chans=1)(networks.images(1, 1, 64, 64)).shape == (1, 1000)


@EACH_VARIANT
@pytest.mark.parametrize("size", [(70, 45), (33, 96)], ids=str)
def test_any_size(name: str, size: tuple[int, int]) -> None:
    model = networks.narrow(name)
    x = networks.images(1, 3, *size)
    assert model.forward_features(x).shape == (1, 512, -(-size[0] // 32), -(-size[1] // 32))


@ALL
def test_blocks_of_the_paper(name: str) -> None:
    model = networks.on_meta(name)
    family, variant = re.split(r"_resnet\d\d", name)
    depths = {"26": [1, 2, 4, 1], "38": [2, 3, 5, 2], "50": [3, 4, 6, 3]}[re.findall(r"\d\d", name)[0]]
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    assert [len(stage) for stage in stages] == depths
    convolutions = {"_conv": 4, "_hybrid": 2}.get(variant, 0)
    for index, stage in enumerate(stages):
        for block in stage:
            assert type(block.spatial) is (nn.Conv2d if index < convolutions else sasa.LocalSelfAttention2d)
            if index >= convolutions:
                added = (block.spatial.content_gain, block.spatial.dw, block.spatial.qkv.bias)
                assert {part is not None for part in added} == {family == "sasav2"}
            assert block.spatial.in_channels == block.spatial.out_channels == 64 * 2**index
    assert isinstance(model.stem, sasa.AttentionStem) == (variant == "")


@ALL
def test_no_pretrained_weights_yet(name: str) -> None:
    with torch.device("meta"), pytest.raises(RuntimeError, match=f"No pretrained weights exist for {name}"):
        sasa.create_model(name, pretrained=True)


@EACH_VARIANT
def test_weights_pass_between_instances(name: str) -> None:
    first, second = networks.narrow(name), sasa.create_model(name, width_mult=0.25).eval()
    x = networks.images(1, 3, 64, 64)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(x), second(x))


def test_timm_makes_the_same_network() -> None:
    ours = networks.narrow("sasa_resnet26")
    torch.manual_seed(0)
    theirs = timm.create_model("sasa_resnet26", width_mult=0.25, zero_init_last=False)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
