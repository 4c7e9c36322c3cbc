"""Stand-alone local self-attention for vision (Ramachandran et al., 2019)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sasa.layers import AttentionStem, LocalSelfAttention2d, fuse, replace_convolutions
from sasa.ops import local_attention

if TYPE_CHECKING:
    from sasa import data as data
    from sasa import deploy as deploy
    from sasa import detection as detection
    from sasa import models as models
    from sasa import report as report
    from sasa import train as train
    from sasa.deploy import export
    from sasa.models import cost, create_model

__version__ = "0.1.0"

__all__ = [
    "AttentionStem",
    "LocalSelfAttention2d",
    "__version__",
    "cost",
    "create_model",
    "export",
    "fuse",
    "local_attention",
    "replace_convolutions",
]


def __getattr__(name: str) -> Any:
    """Import the subpackages, which need more than torch, on first use."""
    if name in ("cost", "create_model"):
        return getattr(import_module("sasa.models"), name)
    if name == "export":
        return import_module("sasa.deploy").export
    if name in ("data", "deploy", "detection", "models", "report", "train"):
        return import_module(f"sasa.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
