"""The annotated images of a detector's run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN

from sasa.data.detection import (
    DetectionDataset,
    check_categories,
    collate_detection,
    create_detection_dataset,
    detection_evaluation_transform,
    detection_training_transform,
)
from sasa.train.config import options_of
from sasa.train.detection.config import DetectionConfig
from sasa.train.loaders import RunData

SCENES_SIZE, PHOTOS_SIZE = 128, 640


class DetectionData(RunData):
    """The annotated images of a detector's run.

    Attributes:
        classes: Names of the classes, by label.
        size: Side of the square training images, and longer side of the images in evaluation, in pixels.
    """

    training: DetectionDataset
    validation: DetectionDataset
    test: DetectionDataset

    def __init__(self, config: DetectionConfig) -> None:
        """Open and check all images and annotations.

        Raises:
            FileNotFoundError: The data do not exist.
            ValueError: The data or the configuration are invalid; an AnnotationError is one.
        """
        data = config.data
        super().__init__(config, data.num_workers, collate_detection)
        self._config = config
        usual = SCENES_SIZE if data.source == "scenes" else PHOTOS_SIZE
        self.size = usual if data.size is None else data.size
        self.training = self._split(data.train_split)
        self.validation = self._split(data.val_split)
        self.test = self._split(data.test_split)
        for evaluated in (self.validation, self.test):
            check_categories(self.training, evaluated)
            evaluated.transform = detection_evaluation_transform()
        self.classes = list(self.training.classes)

    def _split(self, split: str) -> DetectionDataset:
        data = self._config.data
        with options_of("data"):
            return create_detection_dataset(data.source, split, on_invalid=data.on_invalid, **data.options)

    def contents(self, images: DetectionDataset) -> Iterator[str]:
        for position, index in enumerate(images.indices):
            objects = images.objects(position)
            yield f"{images.source.file_name(index)} {objects.boxes.tolist()} {objects.labels.tolist()}"

    def augment(self, mean: Any = IMAGENET_DEFAULT_MEAN) -> None:
        """Augment the training images from now on.

        Args:
            mean: Color of the padding, per channel in [0, 1].
        """
        augmentation = self._config.augmentation
        self.training.transform = detection_training_transform(
            self.size, scale=augmentation.scale, hflip=augmentation.hflip, mean=mean
        )
