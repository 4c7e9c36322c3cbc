"""`conv_baseline`: the baseline beside which a network is judged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sasa
from sasa.models import SASAResNet, conv_baseline

from . import networks


def baseline(name: str, **options: Any) -> SASAResNet:
    with torch.device("meta"):
        return conv_baseline(name, **options)


@pytest.mark.parametrize("depth", [26, 38, 50])
@pytest.mark.parametrize("variant", ["", "_convstem", "_conv"])
def test_is_the_baseline_of_the_same_depth(depth: int, variant: str) -> None:
    assert repr(baseline(f"sasa_resnet{depth}{variant}")) == repr(
        networks.on_meta(f"sasa_resnet{depth}_conv")
    )


@pytest.mark.parametrize(
    ("options", "of_the_baseline"),
    [
        ({"stem_stride": 2}, {"stem_stride": 2}),
        ({"content_gain": True, "dw_kernel_size": 3, "qkv_bias": True}, {}),
        ({"stem": "pointwise"}, {"stem": "conv"}),
        ({"stage_types": ("conv", "conv", "attention", "attention")}, {}),
        (
            {"width_mult": 0.5, "num_classes": 7, "in_chans": 1},
            {"width_mult": 0.5, "num_classes": 7, "in_chans": 1},
        ),
        ({"position": "absolute", "kernel_size": 5, "num_heads": 4}, {}),
    ],
)
def test_options_are_kept_where_they_mean_something(
    options: dict[str, Any], of_the_baseline: dict[str, Any]
) -> None:
    given = dict(options)
    found = baseline("sasa_resnet26", **options)
    assert repr(found) == repr(networks.on_meta("sasa_resnet26_conv", **of_the_baseline))
    assert not any(isinstance(m, (sasa.LocalSelfAttention2d, sasa.AttentionStem)) for m in found.modules())
    assert options == given


@pytest.mark.parametrize("name", ["resnet50", "sasa_resnet27", "sasa_resnet26_stem", "sasa_resnet"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"name: expected a network of sasa, got '{name}'"):
        baseline(name)


def test_options_that_timm_takes_are_left_out() -> None:
    options = {"pretrained": False, "checkpoint_path": "", "exportable": True}
    baseline = conv_baseline("sasa_resnet26", width_mult=0.125, device="meta", **options)
    assert baseline.num_features == 256
