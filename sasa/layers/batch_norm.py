"""Batch norm in evaluation, an affine map of each channel, folded into the linear map before it."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sasa.layers.unmodified import is_unmodified

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def is_foldable(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is an unmodified batch norm with running statistics."""
    return is_unmodified(norm, *_KINDS) and norm.running_mean is not None


def fold_batch_norm(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight (out_channels, …) and bias of the map with the norm behind it, rounded once to its dtype."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    statistics = (norm.running_mean, norm.running_var)
    mean, var = (x.to(wide) for x in statistics if x is not None)
    folded = fuse_conv_bn_weights(
        weight.to(wide),
        None if bias is None else bias.to(wide),
        mean,
        var,
        norm.eps,
        norm.weight.to(wide) if norm.affine else None,
        norm.bias.to(wide) if norm.affine else None,
    )
    return folded[0].to(weight.dtype), folded[1].to(weight.dtype)
