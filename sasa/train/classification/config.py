"""Configuration of a classifier's training run: every choice with its unit and range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sasa.errors import require
from sasa.train.config import OptimizerConfig, RunConfig, RuntimeConfig, check_options


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        name: Name of a network of sasa (see `sasa models`) or of timm.
        options: Options for sasa.create_model, such as {width_mult: 0.5, stem_stride: 1}.
        weights: Initial weights: a run folder; a safetensors, .pt or .pth file, also of another tool; or
            `built-in`, the classifier that comes with sasa. If its classes differ from those of the data,
            the classifier layer is initialized anew. Null trains from scratch.
    """

    name: str = "sasa_resnet26"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        check_options("model.options", self.options)
        for key in ("num_classes", "in_chans"):
            expected = f"options without {key!r}, which follows from the data"
            require(key not in self.options, "model.options", expected, self.options)


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        source: `fashion-mnist` (built in), a folder or archive in ImageNet's layout, or the name of a data
            set of timm.
        train_split: Split for training.
        test_split: Split for the evaluation at the end.
        test_fraction: Fraction of each class to hold out for testing, in (0, 1), if a folder or archive
            contains class folders without splits. Null means that there are splits.
        split_seed: Seed of that choice. Runs with different seeds thus have the same test images.
        val_split: Split for the validation after every epoch. Null holds out a part of the training split.
        val_fraction: Fraction of the training images held out for validation, class by class, in (0, 1).
        in_chans: 1 (grayscale) or 3 (RGB). Null means 1 for fashion-mnist and 3 otherwise.
        input_size: Height and width of the network's input, in pixels. Null means 28 for fashion-mnist and
            224 otherwise.
        mean: Mean of each channel, for pixels in [0, 1]. Null means that of fashion-mnist or ImageNet.
        std: Standard deviation of each channel, for pixels in [0, 1]. Null means that of fashion-mnist or
            ImageNet.
        crop_pct: In evaluation, the side of the center crop divided by the side after resizing, in (0, 1].
            Null means 1 for inputs smaller than 64 pixels and 0.875 otherwise.
        interpolation: Interpolation of resizing.
        on_broken: `raise` stops at a broken image; `skip` leaves it out and counts it.
        num_workers: Loader processes per training process. 0 loads in the training process.
        options: Options for timm's readers, such as {root: folder, download: true}.
    """

    source: str = "fashion-mnist"
    train_split: str = "train"
    test_split: str = "test"
    test_fraction: float | None = None
    split_seed: int = 0
    val_split: str | None = None
    val_fraction: float = 0.04
    in_chans: int | None = None
    input_size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] = "bilinear"
    on_broken: Literal["raise", "skip"] = "raise"
    num_workers: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.input_size
        check_options("data.options", self.options)
        fraction = self.test_fraction
        expected = "a number in (0, 1) or null"
        require(fraction is None or 0 < fraction < 1, "data.test_fraction", expected, fraction)
        require(0 < self.val_fraction < 1, "data.val_fraction", "a number in (0, 1)", self.val_fraction)
        require(self.in_chans in (None, 1, 3), "data.in_chans", "1, 3 or null", self.in_chans)
        require(size is None or size > 0, "data.input_size", "a positive number or null", size)
        require(self.num_workers >= 0, "data.num_workers", "0 or more", self.num_workers)

    @property
    def dataset_options(self) -> dict[str, Any]:
        """The options of `sasa.data.create_dataset` that choose the images, beside source and split."""
        if self.test_fraction is None:
            return self.options
        return {**self.options, "test_fraction": self.test_fraction, "split_seed": self.split_seed}


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to the training images and labels, by timm; a crop and a flip by default.

    Attributes:
        crop: `resized` takes a part of random size and aspect ratio, `padded` shifts the image. Null means
            padded for inputs smaller than 64 pixels and resized otherwise.
        padding: Pixels on each side for the padded crop. Null means an eighth of the side.
        scale: Range of the part's fraction of the area for the resized crop, in (0, 1].
        ratio: Range of the part's aspect ratio for the resized crop.
        hflip: Probability of a horizontal flip, in [0, 1].
        color_jitter: Strength of random brightness, contrast and saturation. 0 is off.
        auto_augment: A policy of timm, such as rand-m9-mstd0.5. Null is off.
        re_prob: Probability of erasing a random rectangle, in [0, 1].
        mixup: Alpha of mixup. 0 is off.
        cutmix: Alpha of CutMix. 0 is off.
        label_smoothing: Part of the label that is spread over all classes, in [0, 1). 0 is off.
    """

    crop: Literal["resized", "padded"] | None = None
    padding: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    color_jitter: float = 0.0
    auto_augment: str | None = None
    re_prob: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.mixup >= 0, "augmentation.mixup", "0 or more", self.mixup)
        require(self.cutmix >= 0, "augmentation.cutmix", "0 or more", self.cutmix)
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "augmentation.label_smoothing", "a number in [0, 1)", smoothing)


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A classifier's training run.

    Attributes:
        model: The network.
        data: The images.
        augmentation: Random changes to the training images.
        optimizer: Optimizer, schedule and averaging.
        runtime: Precision, devices and processes.
        seed: Random seed, 0 or more.
        run: The run folder. Null means runs/NAME with the name of the model.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    run: str | None = None

    command: ClassVar[str] = "sasa train"
    trains: ClassVar[str] = "a classifier"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def check_processes(self, processes: int) -> None:
        """Raise ValueError unless a batch can be divided; mixup and cutmix need an even number of images."""
        super().check_processes(processes)
        size, parts = self.optimizer.batch_size, processes * self.optimizer.grad_accum_steps
        require(
            not (self.augmentation.mixup or self.augmentation.cutmix) or size // parts % 2 == 0,
            "optimizer.batch_size",
            f"an even multiple of processes x optimizer.grad_accum_steps = {parts} for mixup and cutmix",
            size,
        )
