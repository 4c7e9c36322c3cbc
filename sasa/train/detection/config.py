"""Configuration of a detector's training run: every choice with its unit and range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sasa.errors import require
from sasa.train.config import OptimizerConfig, RunConfig, RuntimeConfig

# Options of create_retinanet and create_model that other keys set.
_OPTIONS_SET_BY = {
    "num_classes": "the data",
    "backbone_options": "model.backbone_options",
    "frozen_batch_norm": "model.frozen_batch_norm",
    "min_size": "data.size",
    "max_size": "data.size",
    "image_mean": "data.mean",
    "image_std": "data.std",
}
_BACKBONE_OPTIONS_SET_BY = {"in_chans": "the task", "features_only": "the task"}


@dataclass(frozen=True)
class DetectorConfig:
    """The detector, a RetinaNet.

    Attributes:
        backbone: Name of a network of sasa (see `sasa models`), or of timm with feature maps of strides 8, 16
            and 32. Null means that of the classifier, or sasa_resnet26 if there is none.
        backbone_options: Options for sasa.create_model, such as {width_mult: 0.5}.
        classifier: Run folder or safetensors file of a classifier that becomes the backbone, with its
            options, weights, mean and std, or `built-in`, the classifier that comes with sasa. Null trains
            from scratch.
        frozen_batch_norm: Keep the statistics and weights of the backbone's batch norms.
        options: Options for sasa.detection.create_retinanet, such as {fpn_and_heads: conv, fpn_channels: 64}.
    """

    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    classifier: str | None = None
    frozen_batch_norm: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            self.classifier is None or (self.backbone is None and not self.backbone_options),
            "model.classifier",
            "null if model.backbone or model.backbone_options is given",
            self.classifier,
            "leave them out: the classifier is the backbone",
        )
        trained = self.classifier is not None or self.backbone_options.get("pretrained")
        require(
            bool(trained) or not self.frozen_batch_norm,
            "model.frozen_batch_norm",
            "false for a backbone that is trained from scratch",
            self.frozen_batch_norm,
            "give model.classifier, or a pretrained backbone of timm",
        )
        for name, options, set_by in (
            ("model.options", self.options, _OPTIONS_SET_BY),
            ("model.backbone_options", self.backbone_options, _BACKBONE_OPTIONS_SET_BY),
        ):
            for key, source in set_by.items():
                expected = f"options without {key!r}, which follows from {source}"
                require(key not in options, name, expected, options)


@dataclass(frozen=True)
class DetectionDataConfig:
    """The annotated images.

    Attributes:
        source: `scenes` (built in), or a folder or archive in COCO's, VOC's or YOLO's layout.
        train_split: Split for training.
        val_split: Split for the validation after every epoch.
        test_split: Split for the evaluation at the end. If the data have no test split, test means the
            validation images.
        size: Side of the square training images, and longer side of the images in evaluation, in pixels. Null
            means 128 for scenes and 640 otherwise.
        mean: Mean of each channel, for pixels in [0, 1]. Null means that of the backbone.
        std: Standard deviation of each channel. Null means that of the backbone.
        on_invalid: `raise` stops at an object with an invalid box; `skip` leaves it out and counts it.
        num_workers: Loader processes per training process. 0 loads in the training process.
        options: Options for scenes, such as {length: 500, max_items: 3}.
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
        require(self.size is None or self.size > 0, "data.size", "a positive number or null", self.size)
        for key, values in (("data.mean", self.mean), ("data.std", self.std)):
            require(values is None or len(values) == 3, key, "three numbers or null", values)
        require(self.num_workers >= 0, "data.num_workers", "0 or more", self.num_workers)
        require(
            not self.source.lower().endswith(".json"),
            "data.source",
            "data with several splits",
            self.source,
            "give the folder with the images and annotations/instances_SPLIT.json",
        )


@dataclass(frozen=True)
class DetectionAugmentationConfig:
    """Random changes to the training images, as in the paper: multi-scale jitter, crop, horizontal flip.

    Attributes:
        scale: Range of the factor by which images are larger than data.size before the crop.
        hflip: Probability of a horizontal flip, in [0, 1].
    """

    scale: tuple[float, float] = (0.8, 1.2)
    hflip: float = 0.5

    def __post_init__(self) -> None:
        low, high = self.scale
        require(0 < low <= high, "augmentation.scale", "[low, high] with 0 < low <= high", self.scale)
        require(0 <= self.hflip <= 1, "augmentation.hflip", "a number in [0, 1]", self.hflip)


@dataclass(frozen=True)
class DetectionOptimizerConfig(OptimizerConfig):
    """SGD, AdamW or Muon with a linear warm-up and a cosine decay to zero, updated at every step."""

    batch_size: int = 64
    epochs: int = 150
    lr_base: float = 0.12
    lr_base_size: int = 64
    warmup_epochs: float = 1.0


@dataclass(frozen=True)
class DetectionConfig(RunConfig):
    """A detector's training run.

    Attributes:
        model: The detector.
        data: The annotated images.
        augmentation: Random changes to the training images.
        optimizer: Optimizer, schedule and averaging.
        runtime: Precision, devices and processes.
        seed: Random seed, 0 or more.
        run: The run folder. Null means runs/retinanet.
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
        """Always retinanet."""
        return "retinanet"
