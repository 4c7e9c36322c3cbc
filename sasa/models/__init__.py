"""Classifiers, registered with timm on import, with their cost and attention maps."""

from __future__ import annotations

from inspect import signature
from typing import Any

import timm
from timm.models import build_model_with_cfg
from torch import nn

from sasa.errors import did_you_mean
from sasa.models.attention_maps import attention_layers, position_attention_maps, query_attention_maps
from sasa.models.flops import Cost, cost
from sasa.models.sasa_resnet import SASAResNet, checkpoint_filter_fn, conv_baseline

__all__ = [
    "Cost",
    "SASAResNet",
    "attention_layers",
    "checkpoint_filter_fn",
    "conv_baseline",
    "cost",
    "create_model",
    "list_models",
    "position_attention_maps",
    "query_attention_maps",
]


def list_models() -> list[str]:
    """The names of the networks of sasa."""
    return timm.list_models(["sasa_*", "sasav2_*"])


def create_model(name: str, **options: Any) -> nn.Module:
    """Create a network by its name.

    Args:
        name: A network of `list_models`, such as "sasa_resnet50" or "sasav2_resnet50_hybrid", or any other of
            timm's.
        options: Those of `SASAResNet` (num_classes, in_chans, width_mult, stage_types, stem, …) and of
            `timm.create_model` (features_only, checkpoint_path, …). stem_stride=1 is for images under
            about 64 pixels.

    Raises:
        ValueError: The name is unknown, or an option has a wrong value.
        TypeError: An option is unknown.
    """
    ours = list_models()
    if not timm.is_model(name):
        hint = did_you_mean(str(name).lower(), ours) or did_you_mean(
            str(name), timm.list_models(), otherwise=f"the networks of sasa are {', '.join(ours)}"
        )
        raise ValueError(f"name: expected a network of sasa or timm, got {name!r}{hint}")
    if name in ours:
        functions = (SASAResNet, timm.create_model, build_model_with_cfg)
        known = {option for function in functions for option in signature(function).parameters}
        known |= {"features_only", "out_indices", "feature_cls"}
        for option in options:
            if option not in known:
                hint = did_you_mean(option, known)
                raise TypeError(f"options: expected those of {name}, got {option!r}{hint}")
    return timm.create_model(name, **options)
