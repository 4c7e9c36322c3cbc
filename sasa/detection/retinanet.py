"""The detector and its builder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

import sasa
from sasa.detection.backbone import Backbone
from sasa.detection.feature_pyramid import KINDS
from sasa.detection.head import Head
from sasa.detection.norm import CHANNELS_OF_A_GROUP, NORMS
from sasa.models.sasa_resnet import position_embeddings
from sasa.ops import LocalAttentionSpec

Target = dict[str, Tensor]
"""boxes (n, 4) float, x1 y1 x2 y2 in pixels of the image; labels (n,) int64, from 0; n may be 0."""
Detections = dict[str, Tensor]
"""boxes and labels as in a target; scores (n,) float in [0, 1], falling."""


class RetinaNet(TorchvisionRetinaNet):
    """torchvision's RetinaNet (matcher, box coder, focal loss, NMS) with a backbone and a head of ours.

    Called with images, a list of (C, H, W) in [0, 1] of any sizes, and in training a list of targets, dicts
    of boxes (n, 4), (x1, y1, x2, y2) in pixels with x1 < x2 and y1 < y2, and labels (n,), int64 in
    [0, num_classes): all classes are objects, none is the background. n may be 0. It returns

    - in training the losses "classification" and "bbox_regression";
    - in evaluation for each image a dict of boxes (n, 4), clipped to the image and in its pixels, labels (n,)
      and scores (n,), best first.

    The images are normalized and padded at the right and bottom to multiples of 32, in training to a common
    size. In evaluation they are resized before, so that the shorter side is min_size or the longer one
    max_size, and those of one padded size go through the network together: what is found in an image does not
    depend on the others. In training they are taken as they come, since augmentation belongs to the data.

    Args:
        backbone: Gives the maps.
        head: Gives the logits and box offsets.
        anchor_generator: As many levels as there are maps.
        min_size: Of the shorter side, in pixels.
        max_size: Of the longer side, in pixels.
        image_mean: Of each channel, for pixels in [0, 1].
        image_std: Of each channel.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        anchor_generator: AnchorGenerator,
        *,
        min_size: int,
        max_size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        num_classes = head.classification_head.num_classes
        super().__init__(backbone, num_classes, anchor_generator=anchor_generator, head=head)
        self.num_classes = num_classes
        self.transform = _ImageTransform(min_size, max_size, list(image_mean), list(image_std))

    def no_weight_decay(self) -> set[str]:
        """Names of the position embeddings, which weight decay would pull to "no position"."""
        return position_embeddings(self)

    def forward(
        self, images: list[Tensor], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        if self.training:
            self._check_labels(targets)
            losses: dict[str, Tensor] = super().forward(images, targets)
            return losses
        return self._evaluate(images, None)[1]

    def losses_and_detections(
        self, images: list[Tensor], targets: list[Target]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """What training and evaluation return, of one pass.

        Args:
            images: As in a call.
            targets: As in a call in training, one for each image.

        Raises:
            RuntimeError: The detector is in training mode.
            ValueError: A label is not one of num_classes.
        """
        if self.training:
            raise RuntimeError("the detector is in training mode; call eval() first")
        self._check_labels(targets)
        return self._evaluate(images, targets)

    def _check_labels(self, targets: list[Target] | None) -> None:
        """Those of torchvision's detectors start at 1; the largest would be an index out of bounds."""
        labels = torch.cat([target["labels"] for target in targets or ()] or [torch.empty(0)])
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f"labels: expected 0 … {self.num_classes - 1}, as there is no background class, "
                f"got {int(labels.min())} … {int(labels.max())}"
            )

    def _evaluate(
        self, images: list[Tensor], targets: list[Target] | None
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """Losses, none without targets, and detections; images of one padded size go through together."""
        batch, resized = self.transform(images, targets)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(batch.image_sizes):
            unit = self.transform.size_divisible
            groups.setdefault((-(-height // unit) * unit, -(-width // unit) * unit), []).append(index)
        losses: dict[str, Tensor] = {}
        detections: list[Detections] = [{}] * len(images)
        for (height, width), indices in groups.items():
            part = batch
            if len(groups) > 1:
                pixels = batch.tensors[indices, :, :height, :width]
                part = ImageList(pixels, [batch.image_sizes[index] for index in indices])
            maps = list(self.backbone(part.tensors).values())
            outputs = self.head(maps)
            anchors = self.anchor_generator(part, maps)
            if resized is not None:
                for name, loss in self.compute_loss([resized[i] for i in indices], outputs, anchors).items():
                    share = loss * (len(indices) / len(images))  # it is a mean over images
                    losses[name] = losses[name] + share if name in losses else share
            for index, found in zip(indices, self._detect(part, maps, outputs, anchors), strict=True):
                detections[index] = found
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return losses, self.transform.postprocess(detections, batch.image_sizes, sizes)

    def _detect(
        self, batch: ImageList, maps: list[Tensor], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> list[Detections]:
        """Detections in the pixels of the batch."""
        pixels = [x.shape[2] * x.shape[3] for x in maps]
        counts = [count * (len(anchors[0]) // sum(pixels)) for count in pixels]
        return self.postprocess_detections(
            {name: output.split(counts, dim=1) for name, output in outputs.items()},
            [of_image.split(counts) for of_image in anchors],
            batch.image_sizes,
        )

    def postprocess_detections(
        self,
        head_outputs: dict[str, Sequence[Tensor]],
        anchors: list[Sequence[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[Detections]:
        """Detections of an image for each anchor with finite box offsets; NMS would spread others to all."""
        offsets = head_outputs["bbox_regression"]
        finite = [x.isfinite().all(dim=-1, keepdim=True) for x in offsets]
        logits = [
            x.masked_fill(~usable, -math.inf)
            for x, usable in zip(head_outputs["cls_logits"], finite, strict=True)
        ]
        outputs = {"cls_logits": logits, "bbox_regression": list(offsets)}
        return super().postprocess_detections(outputs, anchors, image_shapes)


class _ImageTransform(GeneralizedRCNNTransform):
    """torchvision's, without its resizing in training."""

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        return (image, target) if self.training else super().resize(image, target)


def create_retinanet(
    backbone: str = "sasa_resnet50",
    num_classes: int = 80,
    *,
    fpn_and_heads: str = "attention",
    norm: str = "group",
    fpn_channels: int = 256,
    kernel_size: int | tuple[int, int] = 7,
    num_heads: int = 8,
    backend: str = "auto",
    backbone_options: Mapping[str, Any] | None = None,
    frozen_batch_norm: bool = False,
    min_size: int = 640,
    max_size: int = 640,
    image_mean: Sequence[float] | None = None,
    image_std: Sequence[float] | None = None,
) -> RetinaNet:
    """Build one of Table 2's detectors, or one between them (Ramachandran et al., 2019, §4.2, App. A.3).

    Nine anchors a pixel (three scales, three ratios) on P3 to P7; `docs/detection.md` says which reading of
    the paper the attention form is.

    Args:
        backbone: A network of ours, such as "sasa_resnet50", "sasa_resnet50_convstem" or
            "sasa_resnet50_conv", or any of timm's with feature maps of strides 8, 16 and 32.
        num_classes: Classes; labels go from 0 to num_classes − 1, there is no background class.
        fpn_and_heads: "attention" or "conv", for the 3 × 3 layers of the pyramid and of both heads.
        norm: "group": a group norm (of 8 channels a group) after the layers of pyramid and heads, "none":
            none; the paper does not say. Attention without one hardly learns there.
        fpn_channels: Channels of the pyramid and the heads; a multiple of 2·num_heads for attention, of 8 for
            norm="group".
        kernel_size: Extent of the attention windows in pyramid and heads.
        num_heads: Of the attention there.
        backend: Of the attention there, see `sasa.ops.local_self_attention`.
        backbone_options: Further options of the backbone, for `sasa.create_model`.
        frozen_batch_norm: Keep the backbone's batch norms as they are, statistics and weights, for a backbone
            that is trained already.
        min_size: In evaluation images are resized until the shorter side is min_size …
        max_size: … or the longer side max_size, whichever comes first.
        image_mean: Of each channel, for pixels in [0, 1]; by default what the backbone expects.
        image_std: Of each channel; as image_mean.

    Returns:
        The detector, in training mode, all weights drawn anew unless backbone_options say otherwise.

    Raises:
        ValueError: A value is out of its range, or the backbone lacks a map.
        TypeError: An option is not known.
    """
    if fpn_and_heads not in KINDS:
        raise ValueError(f"fpn_and_heads: expected one of {KINDS}, got {fpn_and_heads!r}")
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {NORMS}, got {norm!r}")
    LocalAttentionSpec.validated(num_heads=num_heads, kernel_size=kernel_size, dilation=1, scale=1.0, pool=1)
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    unit = math.lcm(
        2 * num_heads if fpn_and_heads == "attention" else 1, CHANNELS_OF_A_GROUP if norm == "group" else 1
    )
    if fpn_channels < 1 or fpn_channels % unit:
        raise ValueError(
            f"fpn_channels={fpn_channels} and num_heads={num_heads}: expected fpn_channels to be a positive "
            f"multiple of {unit}"
        )
    if not 1 <= min_size <= max_size:
        raise ValueError(f"min_size={min_size} and max_size={max_size}: expected 1 ≤ min_size ≤ max_size")
    options = {"in_chans": 3, **(backbone_options or {}), "features_only": True}
    body = sasa.create_model(backbone, **options)
    expected: dict[str, Any] = body.pretrained_cfg  # type: ignore[assignment]
    statistics: dict[str, Sequence[float]] = {
        "image_mean": expected["mean"] if image_mean is None else image_mean,
        "image_std": expected["std"] if image_std is None else image_std,
    }
    for name, values in statistics.items():
        if len(values) != options["in_chans"]:
            raise ValueError(
                f"{name}: expected a number for each of the {options['in_chans']} channels (in_chans), "
                f"got {tuple(values)}"
            )
    parts: dict[str, Any] = {
        "kind": fpn_and_heads,
        "norm": norm,
        "kernel_size": kernel_size,
        "num_heads": num_heads,
        "backend": backend,
    }
    anchors = _Anchors()
    return RetinaNet(
        Backbone(body, frozen_batch_norm=frozen_batch_norm, fpn_channels=fpn_channels, **parts),
        Head(fpn_channels, anchors.num_anchors_per_location()[0], num_classes, **parts),
        anchors,
        min_size=min_size,
        max_size=max_size,
        **statistics,
    )


class _Anchors(AnchorGenerator):
    """Areas of (32 · 2^(i/3))² pixels, i = 0, 1, 2, at P3, sides doubled each level; ratios 1:2, 1:1, 2:1.

    In fp32 (fp64 for fp64 maps) also under autocast, whose dtypes are too coarse for places.
    """

    def __init__(self) -> None:
        sizes = tuple(tuple(32 * 2 ** (level + third / 3) for third in range(3)) for level in range(5))
        with torch.device("cpu"):  # they follow the images
            super().__init__(sizes, ((0.5, 1.0, 2.0),) * len(sizes))

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        wide = torch.promote_types(feature_maps[0].dtype, torch.float32)
        shapes_alone = [x.new_empty((), dtype=wide).expand(x.shape) for x in feature_maps]
        return super().forward(image_list, shapes_alone)
