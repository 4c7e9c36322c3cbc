"""What says which network to build, apart from what says which weights it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import timm
from timm.models import build_model_with_cfg

INITIAL_WEIGHTS = ("pretrained", "checkpoint_path")
"""The options without which timm neither downloads nor opens weights."""

_FACTORY = {
    *signature(timm.create_model).parameters,
    *signature(build_model_with_cfg).parameters,
    "device",
    "dtype",
}
# What timm takes from a pretrained_cfg as arguments of the network.
_ARGUMENTS = ("input_size", "fixed_input_size")


def network_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that build a network, without those that choose its initial weights.

    These are the arguments of the network's own class. Those that `timm.create_model` takes itself, such as
    pretrained, checkpoint_path and cache_dir, are left out, except what a pretrained_cfg says about the
    network; so are device and dtype. A network created with the rest neither downloads nor opens a file.

    Args:
        options: Options for `sasa.create_model`.
    """
    kept = {name: value for name, value in options.items() if name not in _FACTORY}
    for name in ("pretrained_cfg", "pretrained_cfg_overlay"):
        cfg = options.get(name)
        if isinstance(cfg, str):
            kept[name] = cfg
        elif isinstance(cfg, Mapping) and (about := {key: cfg[key] for key in _ARGUMENTS if key in cfg}):
            kept[name] = about
    return kept
