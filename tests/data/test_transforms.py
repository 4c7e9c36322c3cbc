"""Shapes, normalization, and what each crop may and may not do."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sasa.data import evaluation_transform, training_transform

GRAY = {"mean": (0.5,), "std": (0.25,)}
RGB = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)}


def picture(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5", "augmix-m5-w3", "original", "3a"])
@pytest.mark.parametrize("crop", ["resized", "padded"])
@pytest.mark.parametrize(("mode", "stats"), [("L", GRAY), ("RGB", RGB)])
def test_training_gives_finite_tensors(mode: str, stats: dict, crop: str, auto_augment: str) -> None:
    size = (1 if mode == "L" else 3, 24, 20)
    transform = training_transform(size, crop=crop, auto_augment=auto_augment, re_prob=0.5, **stats)
    for seed in range(8):
        seed_everything(seed)
        x = transform(picture(mode, (30, 26), seed))
        assert x.shape == size
        assert x.dtype == torch.float32
        assert x.isfinite().all()


@pytest.mark.parametrize(("mode", "stats"), [("L", GRAY), ("RGB", RGB)])
def test_evaluation_normalizes(mode: str, stats: dict) -> None:
    channels = len(stats["mean"])
    image = picture(mode, (28, 28))
    x = evaluation_transform((channels, 28, 28), **stats)(image)
    pixels = torch.from_numpy(np.array(image)).reshape(28, 28, channels).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor(stats["mean"])[:, None, None]) / torch.tensor(stats["std"])[
        :, None, None
    ]
    assert torch.allclose(x, expected, atol=1e-6, rtol=0)


def test_small_images_are_seen_whole_and_large_ones_cropped() -> None:
    marked = Image.new("L", (256, 256), 0)
    marked.paste(255, (0, 0, 256, 8))
    assert evaluation_transform((1, 32, 32), **GRAY)(marked)[0, 0].min() > 1
    assert evaluation_transform((1, 64, 64), **GRAY)(marked)[0, 0].max() < -1
    assert evaluation_transform((1, 64, 64), crop_pct=1.0, **GRAY)(marked)[0, 0].min() > 1


def test_padded_crop_only_shifts() -> None:
    # One bright pixel in the middle may move by at most the padding, and nothing is rescaled.
    image = Image.new("L", (28, 28), 0)
    image.putpixel((14, 14), 255)
    transform = training_transform((1, 28, 28), hflip=0.0, padding=2, **GRAY)
    seen = set()
    for seed in range(200):
        seed_everything(seed)
        x = transform(image)[0]
        (at,) = (x > 1.99).nonzero().tolist()
        seen.add(tuple(at))
    assert seen == {(row, column) for row in range(12, 17) for column in range(12, 17)}


def test_default_padding_is_an_eighth() -> None:
    image = Image.new("L", (32, 32), 255)
    transform = training_transform((1, 32, 32), **GRAY)
    black = set()
    for seed in range(60):
        seed_everything(seed)
        black.add(int((transform(image)[0].amax(1) < 0).sum()))
    assert black == {0, 1, 2, 3, 4}


def test_resized_crop_is_the_default_for_large_images() -> None:
    names = [
        [type(step).__name__ for step in training_transform((3, side, side), **RGB).transforms]  # type: ignore[attr-defined]
        for side in (63, 64)
    ]
    assert names[0][:2] == ["Resize", "RandomCrop"]
    assert names[1][0] == "RandomResizedCropAndInterpolation"


def test_resized_crop_heeds_scale_ratio_and_interpolation() -> None:
    # Scale 1 and ratio 1 leave no choice: the whole image, as in evaluation without a crop.
    image = picture("RGB", (128, 128))
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0}
    for interpolation in ("nearest", "bicubic"):
        plain = evaluation_transform((3, 64, 64), crop_pct=1.0, interpolation=interpolation, **RGB)
        for seed in range(3):
            seed_everything(seed)
            random_crop = training_transform((3, 64, 64), interpolation=interpolation, **whole, **RGB)
            assert torch.equal(random_crop(image), plain(image))
    seed_everything(0)
    whole["ratio"] = (2.0, 2.0)
    wide = training_transform((3, 64, 64), interpolation="bicubic", **whole, **RGB)
    assert not torch.equal(wide(image), plain(image))


def test_a_policy_changes_pixels() -> None:
    image = picture("RGB", (28, 28))
    seed_everything(0)
    steady = {"hflip": 0.0, "padding": 0, **RGB}
    augmented = training_transform((3, 28, 28), auto_augment="rand-m9-n4", **steady)(image)
    assert not torch.equal(augmented, evaluation_transform((3, 28, 28), **RGB)(image))


@pytest.mark.parametrize("hflip", [0.0, 1.0])
def test_flip(hflip: float) -> None:
    image = picture("L", (28, 28))
    x = training_transform((1, 28, 28), hflip=hflip, padding=0, **GRAY)(image)
    plain = evaluation_transform((1, 28, 28), **GRAY)(image)
    assert torch.equal(x, plain.flip(2) if hflip else plain)


def test_color_jitter_and_erasing_do_something() -> None:
    image = picture("RGB", (28, 28))
    plain = evaluation_transform((3, 28, 28), **RGB)(image)
    seed_everything(0)
    steady = {"hflip": 0.0, "padding": 0, **RGB}
    assert torch.equal(training_transform((3, 28, 28), **steady)(image), plain)
    assert not torch.equal(training_transform((3, 28, 28), color_jitter=0.4, **steady)(image), plain)
    erased = training_transform((3, 28, 28), re_prob=1.0, **steady)(image)
    assert (erased == 0).all(0).any()


def test_same_seed_same_tensor_also_after_pickling() -> None:
    image = picture("RGB", (40, 40))
    transform = training_transform((3, 32, 32), auto_augment="rand-m9-mstd0.5", re_prob=0.5, **RGB)
    results = []
    for copy in (transform, pickle.loads(pickle.dumps(transform))):
        seed_everything(5)
        results.append(copy(image))
    assert torch.equal(*results)
    pickle.dumps(evaluation_transform((3, 32, 32), **RGB))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "center"}, "crop: expected 'resized' or 'padded', got 'center'"),
        ({"crop": "resized", "padding": 4}, "padding: expected 0 or more, with crop='padded', got 4"),
        ({"padding": -1}, "padding: expected 0 or more, .* got -1"),
        ({"color_jitter": 0.4}, "color_jitter: expected 0 for grayscale"),
        ({"hflip": 1.5}, r"hflip: expected a probability in \[0, 1\], got 1.5"),
        ({"re_prob": -1}, r"re_prob: expected a probability in \[0, 1\], got -1"),
        ({"interpolation": "linear"}, "interpolation: expected one of bilinear"),
        ({"interpolation": "random"}, "expected another than 'random' with crop='padded'"),
        ({"mean": (0.1, 0.2, 0.3)}, "mean: expected 1 number\\(s\\), one per channel"),
        ({"std": (0.0,)}, "std: expected positive"),
    ],
)
def test_training_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_transform((1, 28, 28), **{**GRAY, **options})


def test_jitter_beside_a_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"color_jitter: expected 0 with auto_augment='rand-m9', .* got 0.4"):
        training_transform((3, 64, 64), color_jitter=0.4, auto_augment="rand-m9", **RGB)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_pct": 0.0}, r"crop_pct: expected a number in \(0, 1\], got 0.0"),
        ({"crop_pct": 1.5}, "crop_pct: expected"),
        ({"interpolation": "random"}, "another than 'random' in evaluation"),
        ({"input_size": (2, 28, 28)}, "input_size: expected"),
        ({"input_size": (28, 28)}, "input_size: expected"),
    ],
)
def test_evaluation_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation_transform(**{"input_size": (1, 28, 28), **GRAY, **options})


@pytest.mark.parametrize("size", [(1, 30000), (30000, 1)])
def test_a_thin_image_is_not_blown_up(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized as a whole, it would have 73 × 2,190,000 pixels; its ends do not count."""
    resize, largest = Image.Image.resize, []

    def watched(self: Image.Image, to: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        largest.append(max(to))
        return resize(self, to, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    thin = picture("L", size)
    result = evaluation_transform((1, 64, 64), **GRAY)(thin)
    assert result.shape == (1, 64, 64)
    assert max(largest) <= 73 * 40
    center = thin.crop([max(0, side // 2 - 8) for side in size] + [min(side, side // 2 + 8) for side in size])
    assert torch.equal(result, evaluation_transform((1, 64, 64), **GRAY)(center))
