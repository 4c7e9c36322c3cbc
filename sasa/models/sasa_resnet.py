"""ResNet-26, -38 and -50 with attention where the 3 × 3 convolutions stood (§3, §4.1)."""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import (
    DropPath,
    create_classifier,
    register_notrace_module,
)
from timm.models import (
    build_model_with_cfg,
    checkpoint_seq,
    generate_default_cfgs,
    register_model,
)
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from sasa.layers import AttentionStem, FusedAttentionStem, LocalSelfAttention2d
from sasa.layers.attention_stem import STEM_VALUES
from sasa.layers.local_self_attention import POSITIONS

STAGE_TYPES = ("conv", "attention")
_EMBEDDINGS = ("rel_row", "rel_col", "emb_row", "emb_col", "mixture")
STEMS = (*STEM_VALUES, "conv", "small_attention", "small_conv")

for layer in (AttentionStem, FusedAttentionStem, LocalSelfAttention2d):
    register_notrace_module(layer)


def position_embeddings(network: nn.Module) -> set[str]:
    """Names of the position embeddings of all attention layers in a network."""
    return {name for name, _ in network.named_parameters() if name.endswith(_EMBEDDINGS)}


class Bottleneck(nn.Module):
    """ResNet v1.5 bottleneck: 1 × 1 down, a spatial layer (with the stride), 1 × 1 up, residual.

    Input (B, in_channels, H, W), output (B, 4·channels, ceil(H/stride), ceil(W/stride)).
    """

    expansion = 4
    fusable_chains = (("conv1", "bn1", "act1"), ("spatial", "bn2", "act2"), ("conv3", "bn3"))

    def __init__(
        self,
        in_channels: int,
        channels: int,
        spatial: nn.Module,
        *,
        stride: int = 1,
        drop_path: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        out_channels = channels * self.expansion
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False, **dd)
        self.bn1 = nn.BatchNorm2d(channels, **dd)
        self.act1 = nn.ReLU(inplace=True)
        self.spatial = spatial
        self.bn2 = nn.BatchNorm2d(channels, **dd)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False, **dd)
        self.bn3 = nn.BatchNorm2d(out_channels, **dd)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False, **dd),
                nn.BatchNorm2d(out_channels, **dd),
            )
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.spatial(out)))
        out = self.drop_path(self.bn3(self.conv3(out)))
        return self.act3(out + self.downsample(x))

    @torch.jit.ignore
    def flops(self, x: Tensor) -> int:
        """FLOPs of the residual addition; everything else is a module of its own."""
        height, width = -(-x.shape[2] // self.stride), -(-x.shape[3] // self.stride)
        return x.shape[0] * self.conv3.out_channels * height * width


class SASAResNet(nn.Module):
    """A ResNet whose stages are built of convolution or of local self-attention.

    Input (B, in_chans, H, W) of any size, output (B, num_classes). With stages of "conv" and a "conv" stem
    it is ResNet v1.5.

    Args:
        layers: Bottlenecks in each of the four stages.
        num_classes: Classes; 0 for pooled features.
        in_chans: Channels of the image.
        width_mult: Factor of all channel numbers (Figure 5).
        stage_types: For each stage "conv" or "attention" (Table 3).
        stem: "spatially_aware", "convolution" or "pointwise": the attention stem with these values
            (Table 7), stride 4. "conv": 7 × 7 convolution and max pool, stride 4. For images under about
            64 pixels, both of stride 1: "small_attention", the spatially aware stem without its max pool,
            and "small_conv", a 3 × 3 convolution.
        kernel_size: Extent of the attention windows in the stages (Table 4).
        num_heads: Heads of the attention in the stages; each must get an even number of channels.
        position: "relative", "absolute" or "none" (Table 5).
        content: False drops q·k in the stages (Table 6).
        scale: Factor of the logits of the stages.
        output_stride: 32, 16 or 8; stages beyond it keep the resolution and dilate.
        global_pool: timm's pool before the classifier.
        drop_rate: Dropout before the classifier, in [0, 1).
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0.
        zero_init_last: Start the last batch norm of every block at zero, the block at the identity.
        backend: Of the attention, see `sasa.ops.local_self_attention`.

    Raises:
        ValueError: An option has an unknown value, or heads do not divide the channels.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        width_mult: float = 1.0,
        stage_types: Sequence[str] = ("attention",) * 4,
        stem: str = "spatially_aware",
        kernel_size: int = 7,
        num_heads: int = 8,
        position: str = "relative",
        content: bool = True,
        scale: float = 1.0,
        output_stride: int = 32,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_last: bool = True,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(stage_types) != 4 or any(kind not in STAGE_TYPES for kind in stage_types):
            raise ValueError(f"stage_types: expected four of {STAGE_TYPES}, got {stage_types!r}")
        if stem not in STEMS:
            raise ValueError(f"stem: expected one of {STEMS}, got {stem!r}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride: expected 8, 16 or 32, got {output_stride}")
        if position not in POSITIONS:
            raise ValueError(f"position: expected one of {POSITIONS}, got {position!r}")
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not 0 <= rate < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {rate}")
        if not 64 * width_mult >= 1:
            raise ValueError(
                f"width_mult: expected a positive factor, got {width_mult}; it must leave one of 64 channels"
            )
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        channels = round(64 * width_mult)
        if stem not in ("conv", "small_conv") and channels % 8:
            raise ValueError(
                f"width_mult: expected a multiple of 1/8, got {width_mult}: the stem's 4 heads do not divide "
                f"its {channels} channels evenly"
            )
        self.stem, self.maxpool, stem_stride, stride = _build_stem(stem, in_chans, channels, dd)
        feature_info: list[dict[str, Any]] = [
            {"num_chs": channels, "reduction": stem_stride, "module": "stem"}
        ]

        rates = iter(torch.linspace(0, drop_path_rate, sum(layers), device="cpu").tolist())
        dilation = 1
        stages = []
        for index, (kind, depth) in enumerate(zip(stage_types, layers, strict=True)):
            inner = round(64 * width_mult * 2**index)
            first_stride, first_dilation = (1 if index == 0 else 2), dilation
            if stride * first_stride > output_stride:
                dilation *= first_stride
                first_stride = 1
            stride *= first_stride
            blocks = []
            for block in range(depth):
                block_stride = first_stride if block == 0 else 1
                reach = first_dilation if block == 0 else dilation
                spatial: nn.Module
                if kind == "attention":
                    spatial = LocalSelfAttention2d(
                        inner,
                        inner,
                        kernel_size,
                        block_stride,
                        num_heads=num_heads,
                        dilation=reach,
                        position=position,
                        content=content,
                        scale=scale,
                        backend=backend,
                        **dd,
                    )
                else:
                    spatial = nn.Conv2d(
                        inner, inner, 3, block_stride, padding=reach, dilation=reach, bias=False, **dd
                    )
                blocks.append(
                    Bottleneck(channels, inner, spatial, stride=block_stride, drop_path=next(rates), **dd)
                )
                channels = inner * Bottleneck.expansion
            stages.append(nn.Sequential(*blocks))
            feature_info.append({"num_chs": channels, "reduction": stride, "module": f"layer{index + 1}"})
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.feature_info = feature_info

        self.num_features = channels
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=global_pool, **dd
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.init_weights(zero_init_last)

    @torch.jit.ignore
    def init_weights(self, zero_init_last: bool = True) -> None:
        """Draw the convolutions as ResNet does; the attention layers keep what they drew themselves."""
        for module in self.modules():
            if isinstance(module, Bottleneck):
                convs = [module.conv1, module.spatial, module.conv3, *module.downsample.children()]
                if zero_init_last:
                    nn.init.zeros_(module.bn3.weight)
            elif module is self.stem and isinstance(module, nn.Sequential):
                convs = list(module.children())
            else:
                continue
            for conv in convs:
                if isinstance(conv, nn.Conv2d):
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of the position embeddings, which weight decay would pull to "no position"."""
        return position_embeddings(self)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns that sort the parameters into stem and stages (coarse) or blocks, for layer decay."""
        return {"stem": r"^stem", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last linear layer, or its name."""
        return "fc" if name_only else self.fc

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; num_classes=0 leaves features, global_pool="" leaves them a map."""
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        self.num_classes = num_classes
        like = next(self.parameters())
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=global_pool, device=like.device, dtype=like.dtype
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, (B, num_features, H/32, W/32)."""
        x = self.maxpool(self.stem(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq([self.layer1, self.layer2, self.layer3, self.layer4], x, flatten=True)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return self.layer4(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes) of the last map, or its pooled features."""
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps after the stem (0) and the stages (1 to 4), as timm's models give them.

        Args:
            x: Images.
            indices: Which maps: the last n, those of a list, or all.
            norm: Accepted for timm; the maps are normalized already.
            stop_early: Skip the stages after the last map asked for.
            output_fmt: "NCHW".
            intermediates_only: Return the maps without the last one apart.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt: expected 'NCHW', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.feature_info), indices)
        x = self.stem(x)
        intermediates = [x] if 0 in take else []
        x = self.maxpool(x)
        for index in range(1, (last if stop_early else 4) + 1):
            stage = self.get_submodule(f"layer{index}")
            x = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
            if index in take:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    @torch.jit.ignore
    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what `forward_intermediates` does not need for these maps; returns their indices."""
        take, last = feature_take_indices(len(self.feature_info), indices)
        for index in range(last + 1, 5):
            setattr(self, f"layer{index}", nn.Sequential())
        if last < 4:
            self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or last < 4:
            self.reset_classifier(0, "")
        return take


def _build_stem(
    kind: str, in_chans: int, channels: int, dd: dict[str, Any]
) -> tuple[nn.Module, nn.Module, int, int]:
    """The stem, the max pool after it, the stem's stride, and the stride of both."""
    if kind in STEM_VALUES:
        return AttentionStem(in_chans, channels, values=kind, **dd), nn.Identity(), 4, 4
    if kind == "small_attention":
        return AttentionStem(in_chans, channels, max_pool=False, **dd), nn.Identity(), 1, 1
    kernel_size, stride = (7, 2) if kind == "conv" else (3, 1)
    padding = kernel_size // 2
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, channels, kernel_size, stride, padding, bias=False, **dd),
            bn1=nn.BatchNorm2d(channels, **dd),
            act1=nn.ReLU(inplace=True),
        )
    )
    if kind == "small_conv":
        return stem, nn.Identity(), 1, 1
    return stem, nn.MaxPool2d(3, 2, padding=1), 2, 4


def resnet_state_dict(state_dict: dict[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """A ResNet-50 checkpoint of torchvision or timm under the names of `sasa_resnet50_conv`.

    A state dict of ours passes unchanged. `model` is what timm hands to such functions; it is not used.
    """
    stem = {"conv1": "stem.conv1", "bn1": "stem.bn1"}
    renamed = {}
    for name, value in state_dict.items():
        head, _, rest = name.partition(".")
        renamed[f"{stem.get(head, head)}.{rest.replace('conv2.', 'spatial.')}"] = value
    return renamed


def _cfg(*, attention_stem: bool) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": ("stem.query_key", "stem.value") if attention_stem else "stem.conv1",
        "classifier": "fc",
        "license": "apache-2.0",
        "paper_name": "Stand-Alone Self-Attention in Vision Models",
        "paper_ids": "arXiv:1906.05909",
    }


default_cfgs = generate_default_cfgs(
    {
        f"sasa_resnet{depth}{form}": _cfg(attention_stem=form == "")
        for depth in (26, 38, 50)
        for form in ("", "_convstem", "_conv")
    }
)

_LAYERS = {26: (1, 2, 4, 1), 38: (2, 3, 5, 2), 50: (3, 4, 6, 3)}
_FORMS: dict[str, dict[str, Any]] = {
    "": {"stem": "spatially_aware", "stage_types": ("attention",) * 4},
    "_convstem": {"stem": "conv", "stage_types": ("attention",) * 4},
    "_conv": {"stem": "conv", "stage_types": ("conv",) * 4},
}


def _create(depth: int, form: str, pretrained: bool, **kwargs: Any) -> SASAResNet:
    """One of the nine networks."""
    return build_model_with_cfg(
        SASAResNet,
        f"sasa_resnet{depth}{form}",
        pretrained,
        pretrained_filter_fn=resnet_state_dict,
        **_arguments(depth, form, kwargs),
    )


def _arguments(depth: int, form: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options and what the name says; stem="small" is the small-image form of the network's own stem."""
    if options.get("stem") == "small":
        options = {**options, "stem": "small_attention" if form == "" else "small_conv"}
    return {"layers": _LAYERS[depth], **_FORMS[form], **options}


def all_arguments(name: str, **options: Any) -> dict[str, Any]:
    """Every argument that a name and its options give to `SASAResNet`, defaults included.

    Names and options that stand for the same network give the same, so "sasa_resnet26_convstem" with all
    stages "conv" is "sasa_resnet26_conv".

    Args:
        name: One of our networks.
        options: As for `sasa.create_model`; those of `timm.create_model` are handed back as they are.

    Raises:
        ValueError: The name is not one of ours.
    """
    depth, form = _depth_and_form(name)
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(SASAResNet).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    given = _arguments(depth, form, options)
    numbers = {key: float(value) for key, value in given.items() if isinstance(defaults.get(key), float)}
    return {**defaults, **given, **numbers}


def _depth_and_form(name: str) -> tuple[int, str]:
    if name not in default_cfgs:
        raise ValueError(f"name: expected one of our networks, got {name!r}")
    depth, underscore, form = name.removeprefix("sasa_resnet").partition("_")
    return int(depth), underscore + form


def conv_baseline(name: str, **options: Any) -> SASAResNet:
    """The network with convolution wherever the named one has attention, all else equal.

    Args:
        name: One of our networks, such as "sasa_resnet26".
        options: The network's own, as for `sasa.create_model`; those of `timm.create_model` are left out.

    Raises:
        ValueError: The name is not one of ours.
    """
    depth, _ = _depth_and_form(name)
    known = inspect.signature(SASAResNet).parameters
    options = {key: value for key, value in options.items() if key in known and key != "stage_types"}
    if "stem" in options:
        options["stem"] = "small_conv" if options["stem"].startswith("small") else "conv"
    return _create(depth, "_conv", False, **options)


@register_model
def sasa_resnet26(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, full attention (Table 1)."""
    return _create(26, "", pretrained, **kwargs)


@register_model
def sasa_resnet38(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, full attention (Table 1)."""
    return _create(38, "", pretrained, **kwargs)


@register_model
def sasa_resnet50(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, full attention (Table 1)."""
    return _create(50, "", pretrained, **kwargs)


@register_model
def sasa_resnet26_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, convolutional stem and attention (Table 1)."""
    return _create(26, "_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet38_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, convolutional stem and attention (Table 1)."""
    return _create(38, "_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet50_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, convolutional stem and attention (Table 1)."""
    return _create(50, "_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet26_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, the convolutional baseline (Table 1)."""
    return _create(26, "_conv", pretrained, **kwargs)


@register_model
def sasa_resnet38_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, the convolutional baseline (Table 1)."""
    return _create(38, "_conv", pretrained, **kwargs)


@register_model
def sasa_resnet50_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50 v1.5, the convolutional baseline (Table 1)."""
    return _create(50, "_conv", pretrained, **kwargs)
