"""RetinaNet with a SASA-ResNet or any timm backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

import sasa
from sasa.detection.anchors import Anchors
from sasa.detection.backbone import Backbone
from sasa.detection.feature_pyramid import LAYER_TYPES
from sasa.detection.head import Head
from sasa.detection.norm import GROUP_SIZE, NORM_LAYERS
from sasa.errors import require
from sasa.models.sasa_resnet import position_embeddings
from sasa.ops import LocalAttentionSpec

Target = dict[str, Tensor]
"""boxes (n, 4) float, x1 y1 x2 y2 in pixels of the image; labels (n,) int64, from 0; n may be 0."""
Detections = dict[str, Tensor]
"""boxes and labels as in a target; scores (n,) float in [0, 1], in descending order."""


class RetinaNet(TorchvisionRetinaNet):
    """torchvision's RetinaNet (matcher, box coder, focal loss, NMS) with a `Backbone` and a `Head`.

    The inputs are images, a list of (C, H, W) in [0, 1] of any sizes, and in training targets, a list of
    dicts of boxes (n, 4), (x1, y1, x2, y2) in pixels with x1 < x2 and y1 < y2, and labels (n,), int64 in [0,
    num_classes); there is no background class, and n may be 0. The outputs are

    - in training, the losses "classification" and "bbox_regression";
    - in evaluation, for each image a dict of boxes (n, 4), in pixels of the image and clipped to it, labels
      (n,) and scores (n,) in descending order.

    Images are normalized and padded at the right and bottom to multiples of 32, in training to a common size.
    In evaluation they are first resized so that the shorter side is min_size or the longer side max_size, and
    only images of the same padded size are batched together: the detections in an image do not depend on the
    others. In training they are not resized, as augmentation is part of the data.

    Args:
        backbone: Images to maps.
        head: Maps to logits and box offsets.
        anchor_generator: Anchors for as many levels as there are maps.
        min_size: The shorter side in evaluation, in pixels.
        max_size: Limit of the longer side in evaluation, in pixels.
        image_mean: Mean of each channel, for pixels in [0, 1].
        image_std: Standard deviation of each channel.
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
        """Names of the position embeddings, which weight decay would move to attention without position."""
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
        """The outputs of training and evaluation from one forward pass, in evaluation mode.

        Args:
            images: As in evaluation.
            targets: As in training, one per image.

        Raises:
            RuntimeError: The detector is in training mode.
            ValueError: A label is not in [0, num_classes).
        """
        if self.training:
            raise RuntimeError("detector: expected evaluation mode, got training mode; call eval() first")
        self._check_labels(targets)
        return self._evaluate(images, targets)

    def _check_labels(self, targets: list[Target] | None) -> None:
        """Raise ValueError for labels out of range; those for torchvision's other detectors start at 1."""
        labels = torch.cat([target["labels"] for target in targets or ()] or [torch.empty(0)])
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f"labels: expected 0 … {self.num_classes - 1}, as there is no background class, "
                f"got {int(labels.min())} … {int(labels.max())}"
            )

    def _evaluate(
        self, images: list[Tensor], targets: list[Target] | None
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """Losses (none without targets) and detections, from one batch per padded size."""
        batch, resized = self.transform(images, targets)
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(batch.image_sizes):
            multiple = self.transform.size_divisible
            padded = -(-height // multiple) * multiple, -(-width // multiple) * multiple
            by_size.setdefault(padded, []).append(index)
        losses: dict[str, Tensor] = {}
        detections: list[Detections] = [{}] * len(images)
        for (height, width), indices in by_size.items():
            part = batch
            if len(by_size) > 1:
                pixels = batch.tensors[indices, :, :height, :width]
                part = ImageList(pixels, [batch.image_sizes[index] for index in indices])
            maps = list(self.backbone(part.tensors).values())
            outputs = self.head(maps)
            anchors = self.anchor_generator(part, maps)
            if resized is not None:
                for name, loss in self.compute_loss([resized[i] for i in indices], outputs, anchors).items():
                    share = loss * (len(indices) / len(images))  # it is the mean over these images
                    losses[name] = losses[name] + share if name in losses else share
            for index, result in zip(indices, self._detect(part, maps, outputs, anchors), strict=True):
                detections[index] = result
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return losses, self.transform.postprocess(detections, batch.image_sizes, sizes)

    def _detect(
        self, batch: ImageList, maps: list[Tensor], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> list[Detections]:
        """Detections in pixels of the resized images."""
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
        """Detections from the anchors with finite box offsets."""
        return super().postprocess_detections(without_infinite_boxes(head_outputs), anchors, image_shapes)


def without_infinite_boxes(head_outputs: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
    """The outputs of the levels without the anchors whose boxes would make the NMS wrong for all others."""
    offsets = head_outputs["bbox_regression"]
    finite = [x.isfinite().all(dim=-1, keepdim=True) for x in offsets]
    logits = [
        x.masked_fill(~usable, -math.inf)
        for x, usable in zip(head_outputs["cls_logits"], finite, strict=True)
    ]
    return {"cls_logits": logits, "bbox_regression": list(offsets)}


class _ImageTransform(GeneralizedRCNNTransform):
    """torchvision's transform without resizing in training; a thin image keeps a width and height of 1."""

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        if self.training:
            return image, target
        height, width = image.shape[-2:]
        scale = min(self.min_size[-1] / min(height, width), self.max_size / max(height, width))
        if min(height, width) * scale >= 1:
            return super().resize(image, target)
        size = [max(1, int(side * scale)) for side in (height, width)]
        resized = functional.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        if target is not None:
            target = {**target, "boxes": resize_boxes(target["boxes"], [height, width], size)}
        return resized, target


def create_retinanet(
    backbone: str = "sasa_resnet50",
    num_classes: int = 80,
    *,
    fpn_and_heads: str = "attention",
    norm: str = "group",
    fpn_channels: int = 256,
    kernel_size: int | tuple[int, int] = 7,
    num_heads: int = 8,
    content_gain: bool = False,
    dw_kernel_size: int | tuple[int, int] = 0,
    qkv_bias: bool = False,
    backend: str = "auto",
    backbone_options: Mapping[str, Any] | None = None,
    frozen_batch_norm: bool = False,
    min_size: int = 640,
    max_size: int = 640,
    image_mean: Sequence[float] | None = None,
    image_std: Sequence[float] | None = None,
) -> RetinaNet:
    """Create a detector of Table 2, or one in between (Ramachandran et al., 2019, §4.2, App. A.3).

    It has nine anchors per pixel (three scales, three ratios) on P3 to P7. `docs/detection.md` describes how
    the attention form of the paper is interpreted.

    Args:
        backbone: A network of sasa, such as "sasa_resnet50", "sasa_resnet50_convstem" or
            "sasa_resnet50_conv", or any of timm's with feature maps of strides 8, 16 and 32.
        num_classes: Number of classes; labels are 0 … num_classes − 1, without a background class.
        fpn_and_heads: "attention" or "conv", for the 3 × 3 layers of FPN and heads.
        norm: "group" for a group norm (8 channels per group) after the layers of FPN and heads, or "none".
            The paper does not specify it; attention without a norm hardly learns there.
        fpn_channels: Channels of FPN and heads; a multiple of 2·num_heads for attention, of 8 for
            norm="group".
        kernel_size: Extent of the attention windows in FPN and heads.
        num_heads: Heads of the attention in FPN and heads.
        content_gain: Whether the keys in FPN and heads have a learned factor per channel that starts at zero.
        dw_kernel_size: Extent of a depthwise convolution beside the attention of FPN and heads, see `Head`.
        qkv_bias: Whether the projections of the attention in FPN and heads have a bias.
        backend: Backend of the attention in FPN and heads, see `sasa.ops.local_self_attention`.
        backbone_options: Further options of the backbone, for `sasa.create_model`.
        frozen_batch_norm: Keep statistics and weights of the backbone's batch norms, for a trained backbone.
        min_size: In evaluation, images are resized until the shorter side is min_size …
        max_size: … or the longer side is max_size, whichever comes first.
        image_mean: Mean of each channel, for pixels in [0, 1]; by default the backbone's.
        image_std: Standard deviation of each channel; by default the backbone's.

    Returns:
        The detector in training mode, with random weights unless backbone_options give others.

    Raises:
        ValueError: A value is out of range, or the backbone lacks a map.
        TypeError: An option is unknown.
    """
    require(fpn_and_heads in LAYER_TYPES, "fpn_and_heads", f"one of {LAYER_TYPES}", fpn_and_heads)
    require(norm in NORM_LAYERS, "norm", f"one of {tuple(NORM_LAYERS)}", norm)
    LocalAttentionSpec.validated(num_heads=num_heads, kernel_size=kernel_size, dilation=1, scale=1.0, pool=1)
    require(num_classes >= 1, "num_classes", "at least 1", num_classes)
    multiple = math.lcm(
        2 * num_heads if fpn_and_heads == "attention" else 1, GROUP_SIZE if norm == "group" else 1
    )
    expected = f"a positive multiple of {multiple} (with num_heads={num_heads}, norm={norm!r})"
    require(fpn_channels >= 1 and fpn_channels % multiple == 0, "fpn_channels", expected, fpn_channels)
    require(1 <= min_size <= max_size, "min_size", f"1 … max_size={max_size}", min_size)
    options = {"in_chans": 3, **(backbone_options or {}), "features_only": True}
    body = sasa.create_model(backbone, **options)
    cfg: dict[str, Any] = body.pretrained_cfg  # type: ignore[assignment]
    statistics: dict[str, Sequence[float]] = {
        "image_mean": cfg["mean"] if image_mean is None else image_mean,
        "image_std": cfg["std"] if image_std is None else image_std,
    }
    for name, values in statistics.items():
        expected = f"one number for each of the {options['in_chans']} channels (in_chans)"
        require(len(values) == options["in_chans"], name, expected, tuple(values))
    layer_options: dict[str, Any] = {
        "layer_type": fpn_and_heads,
        "norm_layer": NORM_LAYERS[norm],
        "kernel_size": kernel_size,
        "num_heads": num_heads,
        "content_gain": content_gain,
        "dw_kernel_size": dw_kernel_size,
        "qkv_bias": qkv_bias,
        "backend": backend,
    }
    anchors = Anchors()
    return RetinaNet(
        Backbone(body, frozen_batch_norm=frozen_batch_norm, fpn_channels=fpn_channels, **layer_options),
        Head(fpn_channels, anchors.num_anchors_per_location()[0], num_classes, **layer_options),
        anchors,
        min_size=min_size,
        max_size=max_size,
        **statistics,
    )
