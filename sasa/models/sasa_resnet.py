"""ResNet-26, -38 and -50 with attention in place of the 3 × 3 convolutions (§3, §4.1)."""

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, create_classifier, register_notrace_module
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from sasa.errors import did_you_mean, require
from sasa.layers import AttentionStem, FusedAttentionStem, LocalSelfAttention2d
from sasa.layers.attention_stem import STEM_VALUES
from sasa.layers.local_self_attention import POSITIONS

STAGE_TYPES = ("conv", "attention")
STEM_TYPES = (*STEM_VALUES, "conv")
_EMBEDDINGS = ("rel_row", "rel_col", "emb_row", "emb_col", "mixture")

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
        """FLOPs of the residual addition; the other parts are modules."""
        height, width = -(-x.shape[2] // self.stride), -(-x.shape[3] // self.stride)
        return x.shape[0] * self.conv3.out_channels * height * width


class SASAResNet(nn.Module):
    """A ResNet with stages of convolution or local self-attention.

    Input (B, in_chans, H, W) of any size, output (B, num_classes). With four stages of "conv" and a "conv"
    stem it is ResNet v1.5.

    Args:
        layers: Number of bottlenecks in each of the four stages.
        num_classes: Number of classes; 0 for pooled features.
        in_chans: Channels of the image.
        width_mult: Factor of all channel numbers (Figure 5).
        stage_types: "conv" or "attention" for each stage (Table 3).
        stem: "spatially_aware", "convolution" or "pointwise": the attention stem with these values (Table 7).
            "conv": a convolutional stem.
        stem_stride: 4, as in the paper, or 2 or 1 for images under about 64 pixels. The attention stem has
            blocks of 4 × 4 and max pooling for 4, blocks of 2 × 2 and max pooling for 2, and blocks of 4 × 4
            without max pooling for 1. The convolutional stem is a 7 × 7 convolution and max pooling for 4,
            and a 3 × 3 convolution for 2 and 1.
        kernel_size: Extent of the attention windows in the stages (Table 4).
        num_heads: Attention heads in the stages; each must have an even number of channels.
        position: "relative", "absolute" or "none" (Table 5).
        content: Whether the logits of the stages include q·k (Table 6).
        content_gain: Whether the keys in the stages have a learned factor per channel that starts at zero.
        dw_kernel_size: 0, or the extent of a depthwise convolution beside the attention in the stages, see
            `LocalSelfAttention2d`.
        qkv_bias: Whether the projections of the attention in the stages have a bias.
        scale: Factor of the logits in the stages.
        output_stride: 32, 16 or 8; later stages keep the resolution and dilate instead.
        global_pool: timm's pooling before the classifier.
        drop_rate: Dropout before the classifier, in [0, 1).
        drop_path_rate: Stochastic depth of the last block, in [0, 1), with a linear increase from 0 at the
            first.
        zero_init_last: Whether the last batch norm of every block starts at zero, and the block as the
            identity.
        backend: Backend of the attention, see `sasa.ops.local_self_attention`.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: An option has an unknown value, or the channels are not divisible by the heads.
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
        stem_stride: int = 4,
        kernel_size: int = 7,
        num_heads: int = 8,
        position: str = "relative",
        content: bool = True,
        content_gain: bool = False,
        dw_kernel_size: int | tuple[int, int] = 0,
        qkv_bias: bool = False,
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
        is_four_stages = len(stage_types) == 4 and all(
            stage_type in STAGE_TYPES for stage_type in stage_types
        )
        require(is_four_stages, "stage_types", f"four of {STAGE_TYPES}", stage_types)
        require(stem in STEM_TYPES, "stem", f"one of {STEM_TYPES}", stem)
        require(stem_stride in (1, 2, 4), "stem_stride", "1, 2 or 4", stem_stride)
        require(output_stride in (8, 16, 32), "output_stride", "8, 16 or 32", output_stride)
        require(position in POSITIONS, "position", f"one of {POSITIONS}", position)
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            require(0 <= rate < 1, name, "a number in [0, 1)", rate)
        require(64 * width_mult >= 1, "width_mult", "a factor of at least 1/64", width_mult)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        channels = round(64 * width_mult)
        if stem != "conv":
            expected = "a multiple of 1/8, for an even number of channels per head of the stem"
            require(channels % 8 == 0, "width_mult", expected, width_mult)
        stride = stem_stride
        has_pool = _pools_after_stem(stem, stem_stride)
        reduction = 2 if has_pool else stem_stride
        if stem == "conv":
            self.stem: nn.Module = _conv_stem(in_chans, channels, 7 if has_pool else 3, reduction, dd)
        else:
            block_size = 2 if stem_stride == 2 else 4
            self.stem = AttentionStem(
                in_chans, channels, values=stem, block_size=block_size, max_pool=stem_stride > 1, **dd
            )
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if has_pool else nn.Identity()
        feature_info: list[dict[str, Any]] = []
        if has_pool:  # the other stems have maps of the size of the first stage's
            feature_info.append({"num_chs": channels, "reduction": reduction, "module": "stem"})

        rates = iter(torch.linspace(0, drop_path_rate, sum(layers), device="cpu").tolist())
        dilation = 1
        stages = []
        for index, (stage_type, depth) in enumerate(zip(stage_types, layers, strict=True)):
            inner = round(64 * width_mult * 2**index)
            first_stride, first_dilation = (1 if index == 0 else 2), dilation
            if stride * first_stride > output_stride:
                dilation *= first_stride
                first_stride = 1
            stride *= first_stride
            blocks = []
            for block in range(depth):
                block_stride = first_stride if block == 0 else 1
                block_dilation = first_dilation if block == 0 else dilation
                spatial: nn.Module
                if stage_type == "attention":
                    spatial = LocalSelfAttention2d(
                        inner,
                        inner,
                        kernel_size,
                        block_stride,
                        num_heads=num_heads,
                        dilation=block_dilation,
                        position=position,
                        content=content,
                        content_gain=content_gain,
                        dw_kernel_size=dw_kernel_size,
                        bias=qkv_bias,
                        scale=scale,
                        backend=backend,
                        **dd,
                    )
                else:
                    spatial = nn.Conv2d(
                        inner,
                        inner,
                        3,
                        block_stride,
                        padding=block_dilation,
                        dilation=block_dilation,
                        bias=False,
                        **dd,
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
        """Initialize convolutions and last batch norms as in ResNet; attention layers do it themselves."""
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
        """Names of the position embeddings, which weight decay would move to attention without position."""
        return position_embeddings(self)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns of the parameters in the stem and the stages (coarse) or blocks, for layer decay."""
        return {"stem": r"^stem", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of storing their activations."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last linear layer, or its name."""
        return "fc" if name_only else self.fc

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; num_classes=0 gives features, with global_pool="" as a map."""
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        self.num_classes = num_classes
        parameter = next(self.parameters())
        self.global_pool, self.fc = create_classifier(
            self.num_features,
            num_classes,
            pool_type=global_pool,
            device=parameter.device,
            dtype=parameter.dtype,
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, (B, num_features, ceil(H/32), ceil(W/32)) with output_stride=32."""
        x = self.maxpool(self.stem(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq([self.layer1, self.layer2, self.layer3, self.layer4], x, flatten=True)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return self.layer4(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes) from the last map, or its pooled features."""
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
        """The maps that `feature_info` lists, as for timm's models.

        These are the maps after the four stages, and before them that of a stem of stride 2 with a pooling
        behind it.

        Args:
            x: Images (B, in_chans, H, W).
            indices: The maps to return: the last n, those of a list, or all.
            norm: For timm only; the maps are already normalized.
            stop_early: Whether to skip the stages after the last map in indices.
            output_fmt: "NCHW".
            intermediates_only: Whether to return only the list of maps, without the last map beside it.

        Raises:
            ValueError: output_fmt is not "NCHW".
        """
        require(output_fmt == "NCHW", "output_fmt", "'NCHW'", output_fmt)
        take, last = feature_take_indices(len(self.feature_info), indices)
        first = 5 - len(self.feature_info)  # 1 without a map of the stem
        wanted = {index + first for index in take}
        x = self.stem(x)
        intermediates = [x] if 0 in wanted else []
        x = self.maxpool(x)
        for index in range(1, (last + first if stop_early else 4) + 1):
            stage = self.get_submodule(f"layer{index}")
            x = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
            if index in wanted:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    @torch.jit.ignore
    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what `forward_intermediates` does not need for these maps; returns their indices."""
        take, last = feature_take_indices(len(self.feature_info), indices)
        stages_left = last + 5 - len(self.feature_info)
        for index in range(stages_left + 1, 5):
            setattr(self, f"layer{index}", nn.Sequential())
        if stages_left < 4:
            self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or stages_left < 4:
            self.reset_classifier(0, "")
        return take


def _pools_after_stem(stem: str | None, stem_stride: int) -> bool:
    """Whether a stem of stride 2 is followed by a max pooling, as in ResNet."""
    return stem == "conv" and stem_stride == 4


def _conv_stem(
    in_chans: int, channels: int, kernel_size: int, stride: int, dd: dict[str, Any]
) -> nn.Sequential:
    """The convolution of a stem, with its batch norm and ReLU."""
    conv = nn.Conv2d(in_chans, channels, kernel_size, stride, kernel_size // 2, bias=False, **dd)
    return nn.Sequential(
        OrderedDict(conv1=conv, bn1=nn.BatchNorm2d(channels, **dd), act1=nn.ReLU(inplace=True))
    )


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Rename the weights of torchvision's or timm's ResNet-50 for `sasa_resnet50_conv`.

    Args:
        state_dict: The weights; those of a `SASAResNet` are returned unchanged.
        model: Not used; timm passes it.
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


_LAYERS = {26: (1, 2, 4, 1), 38: (2, 3, 5, 2), 50: (3, 4, 6, 3)}
_V2: dict[str, Any] = {"content_gain": True, "dw_kernel_size": 3, "qkv_bias": True}
_VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    ("sasa", ""): {},
    ("sasa", "_convstem"): {"stem": "conv"},
    ("sasa", "_conv"): {"stem": "conv", "stage_types": ("conv",) * 4},
    ("sasav2", ""): _V2,
    ("sasav2", "_convstem"): {"stem": "conv", **_V2},
    ("sasav2", "_hybrid"): {"stem": "conv", "stage_types": ("conv", "conv", "attention", "attention"), **_V2},
}
_NETWORKS: dict[str, dict[str, Any]] = {
    f"{family}_resnet{depth}{variant}": {"layers": layers, **options}
    for (family, variant), options in _VARIANTS.items()
    for depth, layers in _LAYERS.items()
}

default_cfgs = generate_default_cfgs(
    {name: _cfg(attention_stem="stem" not in options) for name, options in _NETWORKS.items()}
)


def _create(name: str, pretrained: bool, **options: Any) -> SASAResNet:
    """One of the networks."""
    arguments = _arguments(name, options)
    maps = 5 if _pools_after_stem(arguments.get("stem"), arguments.get("stem_stride", 4)) else 4
    return build_model_with_cfg(
        SASAResNet,
        name,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": tuple(range(maps))},
        **arguments,
    )


def _arguments(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network, with options that take precedence."""
    if name not in _NETWORKS:
        raise ValueError(f"name: expected a network of sasa, got {name!r}{did_you_mean(name, _NETWORKS)}")
    return {**_NETWORKS[name], **options}


def network_arguments(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `SASAResNet` for a name and options, without those that have their default.

    Equal networks have equal arguments: "sasa_resnet26_convstem" with four "conv" stages has those of
    "sasa_resnet26_conv".

    Args:
        name: A network of sasa.
        options: As for `sasa.create_model`; those of `timm.create_model` are returned unchanged.

    Raises:
        ValueError: It is another name.
    """
    parameters = inspect.signature(SASAResNet).parameters
    arguments = {}
    for key, value in _arguments(name, options).items():
        default = parameters[key].default if key in parameters else inspect.Parameter.empty
        same_type = tuple(value) if isinstance(value, list) else value
        if same_type != default:
            arguments[key] = float(value) if isinstance(default, float) else value
    return arguments


def conv_baseline(name: str, **options: Any) -> SASAResNet:
    """The same network with convolution in place of all attention.

    Args:
        name: A network of sasa, such as "sasa_resnet26".
        options: The options of the network, as for `sasa.create_model`; those of `timm.create_model` are
            ignored.

    Raises:
        ValueError: It is another name.
    """
    known = inspect.signature(SASAResNet).parameters
    arguments = {key: value for key, value in _arguments(name, options).items() if key in known}
    return SASAResNet(**arguments | _VARIANTS["sasa", "_conv"])


@register_model
def sasa_resnet26(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, full attention (Table 1)."""
    return _create("sasa_resnet26", pretrained, **kwargs)


@register_model
def sasa_resnet38(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, full attention (Table 1)."""
    return _create("sasa_resnet38", pretrained, **kwargs)


@register_model
def sasa_resnet50(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, full attention (Table 1)."""
    return _create("sasa_resnet50", pretrained, **kwargs)


@register_model
def sasa_resnet26_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, convolutional stem and attention (Table 1)."""
    return _create("sasa_resnet26_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet38_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, convolutional stem and attention (Table 1)."""
    return _create("sasa_resnet38_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet50_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, convolutional stem and attention (Table 1)."""
    return _create("sasa_resnet50_convstem", pretrained, **kwargs)


@register_model
def sasa_resnet26_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, the convolutional baseline (Table 1)."""
    return _create("sasa_resnet26_conv", pretrained, **kwargs)


@register_model
def sasa_resnet38_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, the convolutional baseline (Table 1)."""
    return _create("sasa_resnet38_conv", pretrained, **kwargs)


@register_model
def sasa_resnet50_conv(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50 v1.5, the convolutional baseline (Table 1)."""
    return _create("sasa_resnet50_conv", pretrained, **kwargs)


@register_model
def sasav2_resnet26(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, full attention of the second form."""
    return _create("sasav2_resnet26", pretrained, **kwargs)


@register_model
def sasav2_resnet38(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, full attention of the second form."""
    return _create("sasav2_resnet38", pretrained, **kwargs)


@register_model
def sasav2_resnet50(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, full attention of the second form."""
    return _create("sasav2_resnet50", pretrained, **kwargs)


@register_model
def sasav2_resnet26_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, convolutional stem and attention of the second form."""
    return _create("sasav2_resnet26_convstem", pretrained, **kwargs)


@register_model
def sasav2_resnet38_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, convolutional stem and attention of the second form."""
    return _create("sasav2_resnet38_convstem", pretrained, **kwargs)


@register_model
def sasav2_resnet50_convstem(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, convolutional stem and attention of the second form."""
    return _create("sasav2_resnet50_convstem", pretrained, **kwargs)


@register_model
def sasav2_resnet26_hybrid(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-26, convolution in the first two stages, attention of the second form in the last two."""
    return _create("sasav2_resnet26_hybrid", pretrained, **kwargs)


@register_model
def sasav2_resnet38_hybrid(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-38, convolution in the first two stages, attention of the second form in the last two."""
    return _create("sasav2_resnet38_hybrid", pretrained, **kwargs)


@register_model
def sasav2_resnet50_hybrid(pretrained: bool = False, **kwargs: Any) -> SASAResNet:
    """ResNet-50, convolution in the first two stages, attention of the second form in the last two."""
    return _create("sasav2_resnet50_hybrid", pretrained, **kwargs)
