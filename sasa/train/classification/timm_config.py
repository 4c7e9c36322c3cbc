"""The description of a classifier that timm and the Hugging Face Hub read."""

from __future__ import annotations

from pathlib import Path

from timm.models._hub import save_config_for_hf
from torch import nn

from sasa.data.transforms import default_crop_pct
from sasa.train.atomic import replacing
from sasa.train.classification.weights import WeightsMetadata


def write_timm_config(path: Path, network: nn.Module, metadata: WeightsMetadata) -> None:
    """Write timm's config.json, for `timm.create_model("local-dir:FOLDER", pretrained=True)`.

    Args:
        path: The file, beside the weights in model.safetensors.
        network: The network, built by `metadata.create_model`.
        metadata: What is known of it.
    """
    channels, height, width = metadata.input_size
    crop_pct = default_crop_pct((channels, height, width)) if metadata.crop_pct is None else metadata.crop_pct
    pretrained_cfg = {
        "input_size": (channels, height, width),
        "mean": tuple(metadata.mean),
        "std": tuple(metadata.std),
        "crop_pct": crop_pct,
        "interpolation": metadata.interpolation,
        "num_classes": len(metadata.classes),
        "custom_load": False,
    }
    with replacing(path) as temporary:
        save_config_for_hf(
            network,
            str(temporary),
            model_config={
                "pretrained_cfg": pretrained_cfg,
                "label_names": metadata.classes,
                "num_classes": len(metadata.classes),
            },
            model_args={**metadata.options, "in_chans": channels},
        )
