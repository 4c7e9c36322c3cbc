"""What timm's training asks of a model: checkpointing, layer decay, weight decay, drop rates."""

from __future__ import annotations

import pytest
import torch
from timm.models import group_parameters
from timm.optim import param_groups_weight_decay
from torch import nn

from . import networks

EACH_VARIANT = pytest.mark.parametrize("name", networks.VARIANTS)


@EACH_VARIANT
def test_checkpointing_changes_neither_output_nor_gradients(name: str) -> None:
    results = []
    for enable in (False, True):
        model = networks.narrow(name, num_classes=5).train()
        model.set_grad_checkpointing(enable)
        runs = 0

        def count(*_: object) -> None:
            nonlocal runs
            runs += 1

        model.layer3[1].conv1.register_forward_pre_hook(count)
        out = model(networks.images(2, 3, 64, 64))
        nn.functional.cross_entropy(out, torch.tensor([0, 4])).backward()
        assert runs == (2 if enable else 1)  # once more in the backward pass
        results.append((out, {n: p.grad for n, p in model.named_parameters()}))
    (out, grads), (out_again, grads_again) = results
    torch.testing.assert_close(out_again, out)
    torch.testing.assert_close(grads_again, grads)


def test_checkpointing_of_intermediates() -> None:
    model = networks.narrow("sasa_resnet26")
    x = networks.images(1, 3, 64, 64)
    last, maps = model.forward_intermediates(x)
    model.set_grad_checkpointing()
    last_again, maps_again = model.forward_intermediates(x)
    torch.testing.assert_close([last_again, *maps_again], [last, *maps])


@pytest.mark.parametrize("name", networks.NAMES)
def test_coarse_groups_are_stem_stages_and_classifier(name: str) -> None:
    model = networks.on_meta(name)
    groups = group_parameters(model, model.group_matcher(coarse=True))
    assert [{n.split(".")[0] for n in names} for names in groups.values()] == [
        {"stem"},
        {"layer1"},
        {"layer2"},
        {"layer3"},
        {"layer4"},
        {"fc"},
    ]
    assert sum(map(len, groups.values())) == len(list(model.parameters()))


@pytest.mark.parametrize("name", networks.NAMES)
def test_fine_groups_are_blocks_in_their_order(name: str) -> None:
    model = networks.on_meta(name)
    groups = group_parameters(model, model.group_matcher())
    blocks = [f"layer{i}.{j}." for i in range(1, 5) for j in range(len(model.get_submodule(f"layer{i}")))]
    for names, start in zip(groups.values(), ["stem.", *blocks, "fc."], strict=True):
        assert names
        assert all(n.startswith(start) for n in names)


def test_no_weight_decay_on_position_embeddings_alone() -> None:
    blocks = [f"layer{i}.0.spatial" for i in range(1, 5)]
    of_blocks = {f"{block}.{rel}" for block in blocks for rel in ("rel_row", "rel_col")}
    of_stem = {f"stem.{x}" for x in ("rel_row", "rel_col", "emb_row", "emb_col", "mixture")}
    assert networks.tiny().no_weight_decay() == of_blocks | of_stem
    assert networks.tiny(stem="pointwise").no_weight_decay() == of_blocks | {"stem.rel_row", "stem.rel_col"}
    assert networks.tiny(stem="conv", position="absolute").no_weight_decay() == set()
    assert networks.tiny(stem="conv", stage_types=("conv",) * 3 + ("attention",)).no_weight_decay() == {
        "layer4.0.spatial.rel_row",
        "layer4.0.spatial.rel_col",
    }


def test_timms_optimizer_heeds_it() -> None:
    model = networks.tiny()
    without, with_decay = param_groups_weight_decay(model, 0.1, no_weight_decay_list=model.no_weight_decay())
    names = {id(p): n for n, p in model.named_parameters()}
    assert (without["weight_decay"], with_decay["weight_decay"]) == (0.0, 0.1)
    kept = {names[id(p)] for p in without["params"]}
    assert model.no_weight_decay() <= kept
    assert all(names[id(p)].endswith(".weight") for p in with_decay["params"])


def test_dropout_before_the_classifier() -> None:
    model = networks.tiny(drop_rate=0.5)
    features = torch.ones(4, 512, 2, 2)
    assert torch.equal(model.forward_head(features, pre_logits=True), torch.ones(4, 512))
    torch.manual_seed(0)
    dropped = model.train().forward_head(features, pre_logits=True)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (dropped == 0).float().mean() < 0.6


def test_stochastic_depth_rises_linearly() -> None:
    model = networks.narrow("sasa_resnet26", drop_path_rate=0.35).train()
    blocks = [block for i in range(1, 5) for block in model.get_submodule(f"layer{i}")]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.05 * i for i in range(8)])
    x = networks.images(1, 256, 4, 4).relu()
    block = model.layer3[3].train()
    outputs = [block(x) for _ in range(40)]
    assert any(torch.equal(out, x) for out in outputs)  # dropped: the identity alone
    assert not all(torch.equal(out, x) for out in outputs)
    block.eval()
    assert not torch.equal(block(x), x)
