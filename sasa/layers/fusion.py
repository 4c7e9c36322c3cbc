"""Networks for inference: what follows a layer is folded into it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.batch_norm import fold_batch_norm, is_foldable
from sasa.layers.fused_stem import FusedAttentionStem
from sasa.layers.local_self_attention import LocalSelfAttention2d
from sasa.layers.unmodified import is_unmodified

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """A copy of the model for inference with fewer layers and, to rounding, the same outputs.

    Folded are a batch norm after a convolution; the content gain of a `LocalSelfAttention2d`, and a batch
    norm and a ReLU after it (its weights sum to one, so the norm is an affine map of the values); and all of
    an `AttentionStem` that does not depend on the image. `nn.Identity` stands where a folded module stood, so
    names and indices stay.

    The order of the calls is known for every ``nn.Sequential``, which must be called as a whole, and for the
    networks of `sasa`. A module of your own declares it in a class attribute beside its ``forward``: its
    children's names in that order, such as ``fusable_chains = (("conv1", "bn1", "act1"), ("conv2", "bn2"))``.
    Modified layers (a subclass, a layer with hooks or a parametrization) and batch norms without running
    statistics stay as they are.

    Args:
        model: Any module in evaluation mode; it is not changed.

    Returns:
        The copy. Its parameters have other names and shapes and are frozen, so that its attention takes, and
        exports, the inference kernels in any gradient mode. Train, save and load the original.

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
    return _fused(result).requires_grad_(False)


def _fused(module: nn.Module) -> nn.Module:
    """What takes the module's place; children are replaced inside it."""
    for name, child in list(module._modules.items()):
        if child is not None and (fused := _fused(child)) is not child:
            setattr(module, name, fused)
    for chain in _chains(module):
        _fuse_chain(module, chain)
    if is_unmodified(module, LocalSelfAttention2d):
        return _without_content_gain(module)
    if (
        is_unmodified(module, AttentionStem)
        and module.has_unmodified_projections
        and is_foldable(module.norm)
    ):
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
    """Fold each of these children into the one before it, if possible."""
    last = None
    for name in names:
        child = parent.get_submodule(name)
        if is_unmodified(child, nn.Identity):
            continue
        fused = None if last is None else _with_follower(parent.get_submodule(last), child)
        if last is None or fused is None:
            last = name
        else:
            setattr(parent, last, fused)
            setattr(parent, name, nn.Identity().eval())


def _without_content_gain(attention: LocalSelfAttention2d) -> LocalSelfAttention2d:
    """The layer with its content gain folded into the projection of the keys, if possible."""
    if attention.content_gain is None or not is_unmodified(attention.qkv, nn.Conv2d):
        return attention
    folded = copy.deepcopy(attention)
    folded.qkv.weight.split(folded.out_channels)[1].mul_(attention.content_gain[:, None, None, None])
    folded.content_gain = None
    return folded


def _with_follower(layer: nn.Module, follower: nn.Module) -> nn.Module | None:
    """A new layer that does what both do; None if there is none."""
    if is_unmodified(layer, *_CONVOLUTIONS) and is_foldable(follower):
        conv = copy.deepcopy(layer)
        _set(conv, *fold_batch_norm(conv.weight, conv.bias, follower))
        return conv
    if not is_unmodified(layer, LocalSelfAttention2d):
        return None
    attention = copy.deepcopy(layer)
    if is_unmodified(follower, nn.ReLU):
        attention.relu = True
        return attention
    linear = [layer.qkv] if layer.dw is None else [layer.qkv, layer.dw]
    if layer.relu or not is_foldable(follower) or not all(is_unmodified(x, nn.Conv2d) for x in linear):
        return None
    qkv, values = attention.qkv, slice(-attention.out_channels, None)
    weight = qkv.weight.detach().clone()
    bias = weight.new_zeros(len(weight)) if qkv.bias is None else qkv.bias.detach().clone()
    weight[values], bias[values] = fold_batch_norm(weight[values], bias[values], follower)
    _set(qkv, weight, bias)
    if attention.dw is not None:
        attention.dw.weight = nn.Parameter(fold_batch_norm(attention.dw.weight, None, follower)[0])
    return attention


def _set(conv: _ConvNd, weight: torch.Tensor, bias: torch.Tensor) -> None:
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
