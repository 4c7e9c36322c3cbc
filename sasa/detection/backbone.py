"""A classifier's feature maps with the feature pyramid (FPN)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.layers import Format
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sasa.detection.feature_pyramid import FeaturePyramid

STRIDES = (8, 16, 32)
"""Strides of C3, C4 and C5, the inputs of the FPN."""


class Backbone(nn.Module):
    """Images (B, C, H, W) to the maps P3 … P7, (B, fpn_channels, ceil(H/2^l), ceil(W/2^l)) at level l.

    Args:
        body: A network of timm with features_only=True.
        frozen_batch_norm: Keep the body's batch norms in evaluation mode, without gradients of their weights.
        fpn_options: Options of `FeaturePyramid`.

    Raises:
        ValueError: The body has no map of stride 8, 16 or 32.
    """

    def __init__(self, body: nn.Module, *, frozen_batch_norm: bool = False, **fpn_options: Any) -> None:
        super().__init__()
        reductions = body.feature_info.reduction()  # type: ignore[operator, union-attr]
        if missing := [stride for stride in STRIDES if stride not in reductions]:
            raise ValueError(
                f"backbone: expected feature maps of strides {STRIDES}, got {tuple(reductions)} without "
                f"{', '.join(map(str, missing))}"
            )
        # Of several maps of one stride, as at a small output stride, the last is the deepest.
        self.indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        channels = body.feature_info.channels()  # type: ignore[operator, union-attr]
        self.body = body
        self.fpn = FeaturePyramid([channels[index] for index in self.indices], **fpn_options)
        self.out_channels = self.fpn.fpn_channels
        self.frozen_batch_norm = frozen_batch_norm
        self.channels_last = getattr(body, "output_fmt", Format.NCHW) == Format.NHWC
        if frozen_batch_norm:
            for norm in self._batch_norms():
                norm.requires_grad_(False)
            self.train()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x)
        inputs = [maps[index] for index in self.indices]
        if self.channels_last:
            inputs = [x.permute(0, 3, 1, 2) for x in inputs]
        return self.fpn(dict(zip(("p3", "p4", "p5"), inputs, strict=True)))

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        if self.frozen_batch_norm:
            for norm in self._batch_norms():
                norm.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.body.modules() if isinstance(module, _BatchNorm)]

    def load_classifier(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load the weights of the body from those of a classifier.

        Args:
            state_dict: The weights of the whole classifier; those after the last map are not used.

        Raises:
            ValueError: A tensor of the body is missing or has another shape, or a part of the body has a
                tensor that the body does not have.
        """
        # timm joins the names of flattened modules by underscores: "stages.0" becomes "stages_0".
        theirs = {name.replace(".", "_"): name for name in state_dict}
        ours = self.body.state_dict()
        state, faults = {}, []
        for name, tensor in ours.items():
            source = theirs.pop(name.replace(".", "_"), None)
            if source is None:
                faults.append(f"{name} is missing")
            elif state_dict[source].shape != tensor.shape:
                shapes = tuple(state_dict[source].shape), tuple(tensor.shape)
                faults.append(f"{source} has shape {shapes[0]} instead of {shapes[1]}")
            else:
                state[name] = state_dict[source]
        parts = tuple(f"{name}_" for name, _ in self.body.named_children())
        faults += [f"{name} is unknown" for key, name in theirs.items() if key.startswith(parts)]
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise ValueError(
                f"state_dict: expected weights of this backbone, got others: {'; '.join(faults[:3])}{more}"
            )
        self.body.load_state_dict(state)
