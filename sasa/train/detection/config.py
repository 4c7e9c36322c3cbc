"""What a detector's training run is made of: every choice, its unit and its range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sasa.train.config import OptimizerConfig, RunConfig, RuntimeConfig, require


@dataclass(frozen=True)
class DetectorConfig:
    """The detector, a RetinaNet.

    Attributes:
        backbone: a network of ours (see `sasa models`) or any of timm's with feature maps of strides 8, 16
            and 32; null means that of classifier, or sasa_resnet26 where there is none
        backbone_options: for sasa.create_model, such as {width_mult: 0.5}
        classifier: run folder or safetensors file of a classifier that becomes the backbone, with its
            options, weights, mean and std, or built-in, the one that comes with sasa; null starts from
            scratch
        frozen_batch_norm: keep the backbone's batch norms as they are, statistics and weights
        options: for sasa.detection.create_retinanet, such as {fpn_and_heads: conv, fpn_channels: 64}
    """

    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    classifier: str | None = None
    frozen_batch_norm: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classifier is not None and (self.backbone is not None or self.backbone_options):
            raise ValueError(
                "model.backbone and model.backbone_options must be left out where model.classifier is given: "
                "the classifier is the backbone"
            )
        if self.frozen_batch_norm and self.classifier is None and not self.backbone_options.get("pretrained"):
            raise ValueError(
                "model.frozen_batch_norm must be false for a backbone that starts from scratch; give "
                "model.classifier, or a pretrained backbone of timm's"
            )
        elsewhere = {
            "num_classes": "the data",
            "backbone_options": "model.backbone_options",
            "frozen_batch_norm": "model.frozen_batch_norm",
            "min_size": "data.size",
            "max_size": "data.size",
            "image_mean": "data.mean",
            "image_std": "data.std",
        }
        for key, source in elsewhere.items():
            if key in self.options:
                raise ValueError(f"model.options must not hold {key!r}: it follows from {source}")
        for key in ("in_chans", "features_only"):
            if key in self.backbone_options:
                raise ValueError(f"model.backbone_options must not hold {key!r}: it follows from the task")


@dataclass(frozen=True)
class DetectionDataConfig:
    """The annotated images.

    Attributes:
        source: scenes (built in), or a folder or archive in COCO's or VOC's layout
        train_split: split to train on
        val_split: split for the validation after every epoch
        test_split: split for the evaluation at the end; where the data has no test split, test takes the
            validation images
        size: side in pixels of the squares trained on, and the longer side of the images in evaluation; null
            means 128 for scenes, else 640
        mean: of each channel, for pixels in [0, 1]; null means what the backbone expects
        std: of each channel; null means what the backbone expects
        on_invalid: raise stops at an object whose box is wrong, skip leaves it out and counts it
        num_workers: processes that load images, for each training process; 0 loads in the training process
        options: for scenes only, such as {length: 500, max_items: 3}
    """

    source: str = "scenes"
    train_split: str = "train"
    val_split: str = "validation"
    test_split: str = "test"
    size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    on_invalid: Literal["raise", "skip"] = "raise"
    num_workers: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.size is None or self.size > 0, "data.size", "positive or null", self.size)
        for key, values in (("data.mean", self.mean), ("data.std", self.std)):
            require(values is None or len(values) == 3, key, "three numbers or null", values)
        require(self.num_workers >= 0, "data.num_workers", "0 or more", self.num_workers)
        if self.source.lower().endswith(".json"):
            raise ValueError(
                f"data.source must have splits, but {self.source!r} is one of them; give the folder that "
                "holds annotations/instances_SPLIT.json and the images"
            )


@dataclass(frozen=True)
class DetectionAugmentationConfig:
    """Random changes to the training images, the paper's: multi-scale jitter, crop, horizontal flip.

    Attributes:
        scale: range of the factor by which images are larger than data.size; what exceeds it is cropped
        hflip: probability of a horizontal flip, in [0, 1]
    """

    scale: tuple[float, float] = (0.8, 1.2)
    hflip: float = 0.5

    def __post_init__(self) -> None:
        low, high = self.scale
        require(0 < low <= high, "augmentation.scale", "a range [low, high], 0 < low <= high", self.scale)
        require(0 <= self.hflip <= 1, "augmentation.hflip", "in [0, 1]", self.hflip)


@dataclass(frozen=True)
class DetectionOptimizerConfig(OptimizerConfig):
    """SGD, AdamW or Muon with a linear warm-up and a cosine decay to zero, changed at every step.

    Attributes:
        lr_base: peak learning rate at a batch of lr_base_size images
    """

    batch_size: int = 64
    epochs: int = 150
    lr_base: float = 0.12
    lr_base_size: int = 64
    warmup_epochs: float = 1.0


@dataclass(frozen=True)
class DetectionConfig(RunConfig):
    """A detector's training run.

    Attributes:
        model: the detector
        data: the annotated images
        augmentation: random changes to them
        optimizer: the recipe
        runtime: the machine
        seed: of everything random, 0 or more
        run: where results go; null means runs/retinanet
    """

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    augmentation: DetectionAugmentationConfig = field(default_factory=DetectionAugmentationConfig)
    optimizer: DetectionOptimizerConfig = field(default_factory=DetectionOptimizerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    run: str | None = None

    command: ClassVar[str] = "sasa detect train"
    trains: ClassVar[str] = "a detector"

    @property
    def name(self) -> str:
        """The only one there is."""
        return "retinanet"
