"""Classifiers, registered with timm on import, and what they cost."""

from __future__ import annotations

import difflib
from inspect import signature
from typing import Any

import timm
from timm.models import build_model_with_cfg
from torch import nn

from sasa.models.attention_maps import attention_layers, position_attention_maps, query_attention_maps
from sasa.models.flops import Cost, cost
from sasa.models.sasa_resnet import SASAResNet, conv_baseline, resnet_state_dict

__all__ = [
    "Cost",
    "SASAResNet",
    "attention_layers",
    "conv_baseline",
    "cost",
    "create_model",
    "list_models",
    "position_attention_maps",
    "query_attention_maps",
    "resnet_state_dict",
]


def list_models() -> list[str]:
    """The names of our networks."""
    return timm.list_models("sasa_*")


def create_model(name: str, **options: Any) -> nn.Module:
    """A network by its name: one of `list_models`, or any other of timm's.

    Args:
        name: Such as "sasa_resnet50", "sasa_resnet50_convstem" or "sasa_resnet50_conv".
        options: Those of `SASAResNet` (num_classes, in_chans, width_mult, stage_types, stem, …) and of
            `timm.create_model` (features_only, checkpoint_path, …). stem="small" is the form for images under
            about 64 pixels of the network's own stem.

    Raises:
        ValueError: Nothing has that name, or an option has a wrong value.
        TypeError: An option is not known.
    """
    if not timm.is_model(name):
        ours = difflib.get_close_matches(str(name).lower(), list_models(), n=1)
        near = ours or difflib.get_close_matches(str(name), timm.list_models(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"ours are {', '.join(list_models())}"
        raise ValueError(f"name: no model is called {name!r}; {hint}")
    if name in list_models():
        takers = (SASAResNet, timm.create_model, build_model_with_cfg)
        known = {key for taker in takers for key in signature(taker).parameters}
        known |= {"features_only", "out_indices", "feature_cls"}
        for option in options:
            if option not in known:
                near = difflib.get_close_matches(option, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"options: {name} has no option {option!r}{hint}")
    return timm.create_model(name, **options)
