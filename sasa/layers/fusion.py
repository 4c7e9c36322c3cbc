"""Networks for inference: what follows a layer is folded into it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.batch_norm import fold_batch_norm, is_foldable
from sasa.layers.fused_stem import FusedAttentionStem
from sasa.layers.hooks import is_untouched
from sasa.layers.local_self_attention import LocalSelfAttention2d

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """A copy of the model for inference with fewer layers and, to rounding, the same outputs.

    Folded are a batch norm after a convolution; a batch norm and a ReLU after a `LocalSelfAttention2d` (its
    weights sum to one, so the norm is an affine map of the values); and all of an `AttentionStem` that does
    not depend on the image. `nn.Identity` stands where a folded module stood, so names and indices stay.

    Which modules follow one another is known of every ``nn.Sequential``, which must be called as a whole,
    and of our networks. A module of your own says it with a class attribute beside its ``forward``: the
    names of its children in the order of the calls, such as
    ``fusable_chains = (("conv1", "bn1", "act1"), ("conv2", "bn2"))``. Whatever is no plain layer of these
    kinds (a subclass, a layer with hooks or a parametrization, a batch norm without running statistics)
    stays as it is.

    Args:
        model: Any module in evaluation mode; it is not changed.

    Returns:
        The copy, whose parameters have other names and shapes. Train, save and load the original.

    Raises:
        ValueError: The model or a batch norm in it is in training mode.
    """
    for name, module in model.named_modules():
        if module.training and (module is model or isinstance(module, _BatchNorm)):
            raise ValueError(
                f"model: expected evaluation mode, but {name or 'it'} ({type(module).__name__}) is in "
                "training mode, where a batch norm depends on the batch; call model.eval() first"
            )
    result = copy.deepcopy(model)
    for module, original in zip(result.modules(), model.modules(), strict=True):
        module.training = original.training  # a copy of torchvision's feature extractor is in training mode
    return _fused(result)


def _fused(module: nn.Module) -> nn.Module:
    """What takes the module's place; children are replaced inside it."""
    for name, child in list(module._modules.items()):
        if child is not None and (fused := _fused(child)) is not child:
            setattr(module, name, fused)
    for chain in _chains(module):
        _fuse_chain(module, chain)
    if isinstance(module, AttentionStem) and _is_plain_stem(module):
        return FusedAttentionStem(module)
    return module


def _chains(module: nn.Module) -> Iterable[Iterable[str]]:
    """The names of the children that are called one after another, nothing else between them."""
    if "forward" in vars(module):
        return ()
    if type(module).forward is nn.Sequential.forward:
        return (list(module._modules),)
    for kind in type(module).__mro__:
        if "fusable_chains" in vars(kind):
            return vars(kind)["fusable_chains"]
        if "forward" in vars(kind):  # a forward pass that no chain below was written for
            break
    return ()


def _fuse_chain(parent: nn.Module, names: Iterable[str]) -> None:
    """Fold each of these children into the one before it, where that can take it."""
    last = None
    for name in names:
        child = parent.get_submodule(name)
        if type(child) is nn.Identity and is_untouched(child):
            continue
        fused = None if last is None else _with_follower(parent.get_submodule(last), child)
        if last is None or fused is None:
            last = name
        else:
            setattr(parent, last, fused)
            setattr(parent, name, nn.Identity().eval())


def _with_follower(layer: nn.Module, follower: nn.Module) -> nn.Module | None:
    """A new layer that does what both do; None where there is none."""
    if not (is_untouched(layer) and is_untouched(follower)):
        return None
    if _is_convolution(layer) and is_foldable(follower):
        conv = copy.deepcopy(layer)
        _set(conv, *fold_batch_norm(conv.weight, conv.bias, follower))
        return conv
    if type(layer) is LocalSelfAttention2d and type(follower) is nn.ReLU:
        attention = copy.deepcopy(layer)
        attention.relu = True
        return attention
    if type(layer) is LocalSelfAttention2d and not layer.relu and is_foldable(follower):
        attention = copy.deepcopy(layer)
        qkv, values = attention.qkv, slice(-attention.out_channels, None)
        if type(qkv) is not nn.Conv2d or not is_untouched(qkv):
            return None
        weight = qkv.weight.detach().clone()
        bias = weight.new_zeros(len(weight)) if qkv.bias is None else qkv.bias.detach().clone()
        weight[values], bias[values] = fold_batch_norm(weight[values], bias[values], follower)
        _set(qkv, weight, bias)
        return attention
    return None


def _is_convolution(layer: nn.Module) -> TypeGuard[_ConvNd]:
    return type(layer) in _CONVOLUTIONS


def _set(conv: _ConvNd, weight: torch.Tensor, bias: torch.Tensor) -> None:
    learned = conv.weight.requires_grad
    conv.weight, conv.bias = nn.Parameter(weight, learned), nn.Parameter(bias, learned)


def _is_plain_stem(stem: AttentionStem) -> bool:
    """Whether it is as it was built, so that its weights say all that it does."""
    projections = (stem.query_key, stem.value)
    return (
        type(stem) is AttentionStem
        and is_foldable(stem.norm)
        and all(type(conv) is nn.Conv2d and conv.bias is None for conv in projections)
        and all(is_untouched(module) for module in stem.modules())
    )
