"""The public names and the names of their parameters: none changes unnoticed."""

from __future__ import annotations

import importlib
import inspect

import pytest

import sasa

OP = "num_heads kernel_size dilation scale pool"
LOCAL_ATTENTION = f"q k v rel_row rel_col * {OP} relu backend"
SQUARE = "x forms relative matrices * block"
LAYER = (
    "in_channels out_channels kernel_size stride * num_heads dilation position content bias scale backend "
    "device dtype"
)
REPLACE = "model * where kernel_size num_heads position content scale backend"
STEM = "in_channels out_channels * values num_heads num_mixtures block pool device dtype"

# Module: public name: parameters, those after * by keyword alone.
SURFACE = {
    "sasa": {
        "AttentionStem": STEM,
        "LocalSelfAttention2d": LAYER,
        "cost": "model input_size",
        "create_model": "name **options",
        "fuse": "model",
        "local_attention": LOCAL_ATTENTION,
        "replace_convolutions": REPLACE,
    },
    "sasa.ops": {
        "LocalAttentionSpec": f"{OP} relu",
        "load_tuning": "file",
        "local_attention": LOCAL_ATTENTION,
        "local_attention_flops": "q_shape v_shape spec * content position",
        "local_attention_maps": f"q k rel_row rel_col * {OP}",
        "local_self_attention": (
            "x weight bias rel_row rel_col * num_heads kernel_size dilation scale pool content relu backend"
        ),
        "square_attention": f"{SQUARE} pool backend",
        "square_attention_statistics": f"{SQUARE} backend",
        "support": f"q k v rel_row rel_col * {OP} relu",
        "tune_local_attention": f"q k v rel_row rel_col * {OP} file",
    },
    "sasa.layers": {
        "AttentionStem": STEM,
        "FusedAttentionStem": "stem",
        "LocalSelfAttention2d": LAYER,
        "ReplacedConvolutions": "replaced left",
        "fuse": "model",
        "replace_convolutions": REPLACE,
    },
    "sasa.detection": {
        "CocoEvaluation": "ground_truth",
        "CocoMetrics": "overall by_class",
        "RetinaNet": "backbone head anchor_generator * min_size max_size image_mean image_std",
        "cost": "detector input_size",
        "create_retinanet": (
            "backbone num_classes * fpn_and_heads norm width kernel_size num_heads backend backbone_options "
            "frozen_batch_norm min_size max_size image_mean image_std"
        ),
    },
    "sasa.models": {
        "Cost": "parameters flops",
        "SASAResNet": (
            "layers num_classes in_chans * width groups stem kernel_size num_heads position content scale "
            "output_stride global_pool drop_rate drop_path_rate zero_init_last backend device dtype"
        ),
        "convolutional_twin": "name **options",
        "cost": "model input_size",
        "create_model": "name **options",
        "list_models": "",
        "resnet_state_dict": "state_dict model",
    },
}
METHODS = {
    "LocalSelfAttention2d": ["attention_maps", "extra_repr", "flops", "forward", "reset_parameters"],
    "AttentionStem": [
        "attention_maps",
        "extra_repr",
        "flops",
        "forward",
        "relative_embeddings",
        "reset_parameters",
        "value_matrices",
    ],
    "SASAResNet": [
        "forward",
        "forward_features",
        "forward_head",
        "forward_intermediates",
        "get_classifier",
        "group_matcher",
        "init_weights",
        "no_weight_decay",
        "prune_intermediate_layers",
        "reset_classifier",
        "set_grad_checkpointing",
    ],
}


def parameters(function: object) -> str:
    """As in SURFACE."""
    names, keyword_only = [], False
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            names.append("*")
            keyword_only = True
        names.append(f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name)
    return " ".join(names)


@pytest.mark.parametrize("module", SURFACE)
def test_public_names_and_parameters(module: str) -> None:
    found = importlib.import_module(module)
    public = {name: getattr(found, name) for name in found.__all__ if name != "__version__"}
    assert {name: parameters(value) for name, value in public.items()} == SURFACE[module]


@pytest.mark.parametrize("module", SURFACE)
def test_every_public_name_is_explained(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    for name in SURFACE[module]:
        doc = getattr(found, name).__doc__
        assert doc, name
        assert not doc.startswith(f"{name}("), f"{name} has a generated docstring"


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    kind = getattr(importlib.import_module("sasa.models" if name == "SASAResNet" else "sasa"), name)
    own = {key: value for key, value in vars(kind).items() if key[0] != "_" and inspect.isfunction(value)}
    assert sorted(own) == METHODS[name]
    undocumented = {key for key, value in own.items() if not value.__doc__}
    assert undocumented <= {"forward", "extra_repr"}


def test_dir_shows_what_is_public() -> None:
    assert set(dir(sasa)) == set(sasa.__all__) == {*SURFACE["sasa"], "__version__"}


def test_version() -> None:
    assert all(part.isdigit() for part in sasa.__version__.split(".")[:2])


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'sasa' has no attribute 'attention'"):
        sasa.attention  # noqa: B018
