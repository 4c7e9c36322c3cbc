"""The public names and the names of their parameters: none changes unnoticed."""

from __future__ import annotations

import importlib
import inspect
from types import GenericAlias

import pytest

import sasa

OP = "num_heads kernel_size dilation scale pool"
LOCAL_ATTENTION = f"q k v rel_row rel_col * {OP} relu backend"
BLOCK_ATTENTION = "x qk_weight rel_weight v_weight * block_size"
LAYER = (
    "in_channels out_channels kernel_size stride * num_heads dilation position content bias scale backend "
    "device dtype"
)
REPLACE = "model * filter_fn kernel_size num_heads position content scale backend"
STEM = "in_channels out_channels * values num_heads num_mixtures block_size max_pool device dtype"
DRAWN_FROM = "crop padding scale ratio hflip color_jitter auto_augment re_prob"
DETECTOR_IMAGES = "min_size max_size image_mean image_std"
RUN = "model data augmentation optimizer runtime seed run_folder"

# In the place of parameters, of what is not called by users.
VALUE, ERROR = "(a value)", "(an error)"

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
        "block_attention": f"{BLOCK_ATTENTION} max_pool backend",
        "block_attention_statistics": f"{BLOCK_ATTENTION} backend",
        "support": f"q k v rel_row rel_col * {OP} relu",
        "tune_local_attention": f"q k v rel_row rel_col * {OP} file",
    },
    "sasa.layers": {
        "AttentionStem": STEM,
        "FusedAttentionStem": "stem",
        "LocalSelfAttention2d": LAYER,
        "ReplacedConvolutions": "replaced skipped",
        "fuse": "model",
        "replace_convolutions": REPLACE,
    },
    "sasa.detection": {
        "CocoEvaluation": "ground_truth",
        "CocoMetrics": "overall by_class",
        "RetinaNet": f"backbone head anchor_generator * {DETECTOR_IMAGES}",
        "create_retinanet": (
            "backbone num_classes * fpn_and_heads norm fpn_channels kernel_size num_heads backend "
            f"backbone_options frozen_batch_norm {DETECTOR_IMAGES}"
        ),
        "detector_cost": "detector input_size",
    },
    "sasa.models": {
        "Cost": "parameters flops",
        "SASAResNet": (
            "layers num_classes in_chans * width_mult stage_types stem kernel_size num_heads position "
            "content scale output_stride global_pool drop_rate drop_path_rate zero_init_last backend device "
            "dtype"
        ),
        "attention_layers": "model",
        "query_attention_maps": "model images * query layers",
        "conv_baseline": "name **options",
        "cost": "model input_size",
        "create_model": "name **options",
        "list_models": "",
        "position_attention_maps": "model images",
        "resnet_state_dict": "state_dict model",
    },
    "sasa.data": {
        "BrokenImageError": ERROR,
        "FASHION_MNIST_CLASSES": VALUE,
        "FASHION_MNIST_MEAN": VALUE,
        "FASHION_MNIST_STD": VALUE,
        "ImageDataset": "source * mode transform indices broken",
        "ImageStream": "source split * mode transform on_broken is_training classes **options",
        "check_classes": "train test num_classes",
        "evaluation_transform": "input_size * mean std crop_pct interpolation",
        "find_broken": "dataset",
        "train_val_split": "dataset fraction seed * val_transform",
        "is_stream": "source",
        "load_fashion_mnist": "split",
        "create_dataset": "source split * in_chans transform on_broken **reader_options",
        "read_image": "path in_chans",
        "training_transform": f"input_size * mean std {DRAWN_FROM} interpolation",
    },
    "sasa.data.detection": {
        "AnnotationError": ERROR,
        "DetectionDataset": "source * transform indices",
        "Objects": "boxes labels areas crowds",
        "SceneImages": "split * length size max_items seed",
        "Target": VALUE,
        "check_categories": "train test num_classes",
        "collate_detection": "batch",
        "detection_evaluation_transform": "",
        "detection_training_transform": "size * scale hflip mean",
        "create_detection_dataset": "source split * images classes transform on_invalid **scene_options",
        "without_crowds": "target",
    },
    "sasa.train": {
        "BUILT_IN_WEIGHTS": VALUE,
        "AugmentationConfig": f"{DRAWN_FROM} mixup cutmix label_smoothing",
        "DataConfig": (
            "source train_split test_split validation_split held_out in_chans input_size mean std crop_pct "
            "interpolation on_broken workers options"
        ),
        "DetectionConfig": RUN,
        "DetectorMetadata": (
            "backbone backbone_options options classes size mean std metrics recipe sasa_version"
        ),
        "LabeledBoxes": "boxes labels names scores",
        "DetectedImage": "image annotated found",
        "ModelConfig": "name options weights",
        "OptimizerConfig": (
            "name batch_size epochs lr momentum weight_decay warmup_epochs accumulation gradient_clip "
            "batch_norm_decay ema_decay ema_warmup"
        ),
        "RuntimeConfig": (
            "precision channels_last compile deterministic accelerator devices num_nodes strategy"
        ),
        "TrainConfig": RUN,
        "WeightsMetadata": (
            "model options classes input_size mean std crop_pct interpolation accuracy recipe sasa_version"
        ),
        "ablate": "sweeps out * seeds jobs minutes",
        "compare": "one other",
        "detect_in_files": "weights paths * min_score",
        "detect_in_test_images": "run_folder count * min_score",
        "evaluate": "weights source split * batch_size workers on_broken runtime **reader_options",
        "evaluate_detector": (
            "weights source split * images batch_size workers on_invalid results_file runtime **scene_options"
        ),
        "load_config": "path kind",
        "load_detector": "path",
        "load_images": "paths metadata",
        "load_weights": "path",
        "first_image_per_class": "metadata data count",
        "parse_config": "arguments kind base command",
        "plan_sweeps": "sweeps arguments recipe",
        "resume": "folder",
        "resume_detector": "folder",
        "retinanet_from_classifier": "path num_classes **options",
        "save_config": "config path",
        "save_weights": "path network metadata",
        "train": "config",
        "train_detector": "config",
    },
    "sasa.report": {
        "DrawnBoxes": "boxes labels captions",
        "draw_attention": "images views out * query captions heads",
        "draw_box_rows": "images rows out",
        "draw_boxes": "image boxes out",
        "draw_learning_curves": "run out",
        "read_sweeps": "folder",
        "write_report": "folder out",
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
    "ImageDataset": ["image", "name", "select"],
    "ImageStream": ["set_epoch", "set_workers"],
    "DetectionDataset": ["ground_truth", "image", "name", "objects", "select", "size", "target"],
    "SceneImages": ["file_name", "load", "name", "objects", "size"],
}


def parameters(public: object) -> str:
    """As in SURFACE."""
    if not callable(public) or isinstance(public, GenericAlias):
        return VALUE
    if isinstance(public, type) and issubclass(public, Exception):
        return ERROR
    names, keyword_only = [], False
    for parameter in inspect.signature(public).parameters.values():
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
    for name in (name for name, signature in SURFACE[module].items() if signature != VALUE):
        doc = getattr(found, name).__doc__
        assert doc, name
        assert not doc.startswith(f"{name}("), f"{name} has a generated docstring"


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    module = next(module for module, names in SURFACE.items() if name in names)
    kind = getattr(importlib.import_module(module), name)
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
