"""The maps between the stages: features_only, forward_intermediates, prune_intermediate_layers."""

from __future__ import annotations

import re

import pytest
import torch

import sasa

from . import networks

EACH_VARIANT = pytest.mark.parametrize("name", networks.VARIANTS)


def reductions(name: str) -> list[int]:
    """Without one of an attention stem, whose map has the size of that after the first stage."""
    return [4, 8, 16, 32] if re.fullmatch(r"\w+_resnet\d\d", name) else [2, 4, 8, 16, 32]


@pytest.mark.parametrize("name", networks.NAMES)
def test_feature_info_is_what_comes(name: str) -> None:
    with torch.device("meta"):
        model = sasa.create_model(name, features_only=True, kernel_size=3)
        maps = model(torch.empty(1, 3, 96, 96))
    assert model.feature_info.reduction() == reductions(name)
    assert model.feature_info.channels() == [64, 256, 512, 1024, 2048][-len(maps) :]
    for x, channels, reduction in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert x.shape == (1, channels, 96 // reduction, 96 // reduction)


@EACH_VARIANT
def test_features_only_gives_the_maps_of_the_network(name: str) -> None:
    model, features = networks.narrow(name), networks.narrow(name, features_only=True)
    x = networks.images(1, 3, 96, 96)
    with torch.no_grad():
        last, maps = model.forward_intermediates(x)
        for ours, theirs in zip(features(x), maps, strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(last, model.forward_features(x))
        assert torch.equal(maps[-1], last)


@EACH_VARIANT
def test_out_indices(name: str) -> None:
    x = networks.images(1, 3, 96, 96)
    all_maps = networks.narrow(name, features_only=True)(x)
    some = networks.narrow(name, features_only=True, out_indices=(-4, -2))
    assert some.feature_info.channels() == [64, 256]
    assert some.feature_info.reduction() == [4, 16]
    for ours, theirs in zip(some(x), (all_maps[-4], all_maps[-2]), strict=True):
        assert torch.equal(ours, theirs)


def test_features_at_a_smaller_output_stride() -> None:
    model = networks.narrow("sasa_resnet26", features_only=True, output_stride=8)
    assert model.feature_info.reduction() == [4, 8, 8, 8]
    assert [x.shape[2] for x in model(networks.images(1, 3, 64, 64))] == [16, 8, 8, 8]


@EACH_VARIANT
def test_chosen_intermediates(name: str) -> None:
    model = networks.narrow(name)
    x = networks.images(1, 3, 64, 64)
    with torch.no_grad():
        last, maps = model.forward_intermediates(x)
        assert [x.shape[2] for x in maps] == [64 // reduction for reduction in reductions(name)]
        some = model.forward_intermediates(x, [0, 2], intermediates_only=True)
        assert len(some) == 2
        assert torch.equal(some[0], maps[0])
        assert torch.equal(some[1], maps[2])
        final, last_two = model.forward_intermediates(x, 2)
        assert torch.equal(final, last)
        assert torch.equal(last_two[0], maps[-2])
        early, only = model.forward_intermediates(x, [1], stop_early=True)
        assert torch.equal(early, maps[1])
        assert torch.equal(only[0], maps[1])


def test_stopping_early_runs_no_later_stage() -> None:
    model = networks.narrow("sasa_resnet26")
    ran: list[str] = []
    for name in ("layer2", "layer3"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    x = networks.images(1, 3, 32, 32)
    model.forward_intermediates(x, [1], stop_early=True)
    assert ran == ["layer2"]
    model.forward_intermediates(x, [1])
    assert ran == ["layer2", "layer2", "layer3"]


def test_other_output_formats_are_refused() -> None:
    model = networks.narrow("sasa_resnet26")
    with pytest.raises(ValueError, match="output_fmt: expected 'NCHW', got 'NLC'"):
        model.forward_intermediates(networks.images(1, 3, 32, 32), output_fmt="NLC")


@EACH_VARIANT
def test_pruned_network_still_gives_its_maps(name: str) -> None:
    model = networks.narrow(name)
    x = networks.images(1, 3, 64, 64)
    with torch.no_grad():
        indices = [len(reductions(name)) - 4, len(reductions(name)) - 3]  # of the first two stages
        want = model.forward_intermediates(x, indices, intermediates_only=True)
        assert model.prune_intermediate_layers(indices) == indices
        assert {n.split(".")[0] for n, _ in model.named_parameters()} == {"stem", "layer1", "layer2"}
        assert model.num_features == 128
        got = model.forward_intermediates(x, indices, intermediates_only=True)
        assert all(map(torch.equal, got, want))
        assert torch.equal(model(x), want[1])


def test_pruning_nothing_but_the_head() -> None:
    model = networks.narrow("sasa_resnet26")
    assert model.prune_intermediate_layers(1, prune_head=False) == [3]
    assert model(networks.images(1, 3, 32, 32)).shape == (1, 1000)
    model.prune_intermediate_layers(1)
    assert model(networks.images(1, 3, 64, 64)).shape == (1, 512, 2, 2)
