"""Test images that were held out of class folders without splits: they must be the same ones later."""

from __future__ import annotations

from typing import Any

from sasa.data import ImageDataset, ImageStream
from sasa.train.classification.weights import WeightsMetadata
from sasa.train.evaluation_data import EvaluationData
from sasa.train.fingerprint import fingerprint


def held_out_fingerprint(test: ImageDataset | ImageStream) -> dict[str, Any]:
    """The fingerprint of test images by their names relative to the data, with those that are broken."""
    assert isinstance(test, ImageDataset), "nothing is held out of a stream"
    names = [*(test.name(index) for index in range(len(test))), *test.broken]
    return fingerprint(sorted(name.removeprefix(test.location) for name in names))


def check_held_out(
    metadata: WeightsMetadata, data: EvaluationData, dataset: ImageDataset | ImageStream
) -> None:
    """Check that images to evaluate on are those that were held out of the training.

    Args:
        metadata: Metadata of the weights.
        data: The data of their recipe.
        dataset: Their images.

    Raises:
        ValueError: Images were added, removed or renamed since then, so that images of the training may be
            among them.
    """
    expected = metadata.held_out
    if expected is not None and data.split == "test" and expected != held_out_fingerprint(dataset):
        raise ValueError(
            f"{data.source}: expected the {expected.get('count')} images that were held out of the training, "
            f"got {len(dataset)} others, as images were added, removed or renamed; restore them, or give "
            "other data to evaluate on"
        )
