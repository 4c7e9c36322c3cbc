"""The paper's recipe for any network: attention where its spatial convolutions stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sasa.layers.attention_stem import AttentionStem
from sasa.layers.fused_stem import FusedAttentionStem
from sasa.layers.local_self_attention import LocalSelfAttention2d
from sasa.layers.unmodified import is_unmodified
from sasa.ops import LocalAttentionSpec
from sasa.ops.checks import pair

_OURS = (AttentionStem, FusedAttentionStem, LocalSelfAttention2d)


@dataclass(frozen=True)
class ReplacedConvolutions:
    """What `replace_convolutions` did, by the names that the convolutions had.

    Attributes:
        replaced: The attention layers that took the place of convolutions.
        skipped: Why each of the other convolutions stays.
    """

    replaced: dict[str, LocalSelfAttention2d]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"{name}: LocalSelfAttention2d({layer.extra_repr()})" for name, layer in self.replaced.items()
        ]
        lines += [f"{name}: skipped, {reason}" for name, reason in self.skipped.items()]
        return "\n".join([f"{len(self.replaced)} convolutions replaced, {len(self.skipped)} skipped", *lines])


def replace_convolutions(
    model: nn.Module,
    *,
    filter_fn: Callable[[str, nn.Module], bool] | None = None,
    kernel_size: int | tuple[int, int] = 7,
    num_heads: int = 8,
    position: str = "relative",
    content: bool = True,
    content_gain: bool = False,
    dw_kernel_size: int | tuple[int, int] = 0,
    bias: bool = False,
    scale: float = 1.0,
    backend: str = "auto",
) -> ReplacedConvolutions:
    """Put a `LocalSelfAttention2d` in the place of every spatial convolution of a model, in place (§2.3, §3).

    The attention layer has the convolution's channels, stride (2: attention at full resolution and a 2 × 2
    average pool), dilation, bias, device, dtype and mode, and is frozen where the convolution was; the shapes
    of all maps stay. Its weights start anew, so that the network must be trained. A convolution keeps its
    place, with the reason in the result, where attention cannot take it: 1 × 1 (nothing spatial is in it),
    grouped and depthwise, strides other than 1 and 2, another padding than the one that keeps the map's size,
    channels that the heads do not divide, subclasses of ``nn.Conv2d``, convolutions with hooks, of one or
    three dimensions and transposed ones. Layers of ours are not looked into.

    The paper keeps a convolutional stem or builds an `AttentionStem`, since single pixels of an image say too
    little for attention (§3.2): ``filter_fn=lambda name, conv: name != "conv1"`` leaves torchvision's.

    Args:
        model: Any module, such as a network of timm's or torchvision's.
        filter_fn: Called with each convolution's name and module; False leaves it. A module of several names
            is asked for under its first, as in ``model.named_modules()``, and replaced under all of them.
        kernel_size: Extent of the windows, odd: k or (kh, kw). Along an axis where a convolution's kernel has
            extent 1, so have the window and the depthwise convolution.
        num_heads: Attention heads of each layer; its output channels must be a multiple of num_heads, for
            position="relative" of 2·num_heads.
        position: See `LocalSelfAttention2d`, as for content, content_gain and scale.
        content: False drops the keys.
        content_gain: Whether the keys have a learned factor per channel that starts at zero.
        dw_kernel_size: 0, or the extent, k or (kh, kw), of a depthwise convolution beside each attention; its
            output channels must be a multiple of its input channels.
        bias: Whether the projections have a bias; they always have one where the convolution has.
        scale: Factor of the logits.
        backend: See `sasa.ops.local_self_attention`.

    Returns:
        The new layers and the reasons why others stayed, both by name.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A value is out of its range, or the model is itself a convolution.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, _ConvNd):
        raise ValueError(
            f"model: expected a module that contains convolutions, got one itself ({type(model).__name__}), "
            "which cannot be replaced in place; build a sasa.LocalSelfAttention2d"
        )
    window = LocalAttentionSpec.validated(
        num_heads=num_heads, kernel_size=kernel_size, dilation=1, scale=scale, pool=1
    ).kernel_size
    unit = 2 * num_heads if position == "relative" else num_heads

    def attention(conv: nn.Conv2d) -> LocalSelfAttention2d:
        def along(axes: tuple[int, int]) -> tuple[int, int]:
            rows, cols = conv.kernel_size
            return 1 if rows == 1 else axes[0], 1 if cols == 1 else axes[1]

        return LocalSelfAttention2d(
            conv.in_channels,
            conv.out_channels,
            along(window),
            conv.stride[0],
            num_heads=num_heads,
            dilation=conv.dilation,  # type: ignore[arg-type]
            position=position,
            content=content,
            content_gain=content_gain,
            dw_kernel_size=along(pair("dw_kernel_size", dw_kernel_size)) if dw_kernel_size != 0 else 0,
            bias=conv.bias is not None or bias,
            scale=scale,
            backend=backend,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )

    attention(nn.Conv2d(1, unit, 3, device="meta"))  # raises for what is wrong whatever the model
    replaced: dict[str, LocalSelfAttention2d] = {}
    skipped: dict[str, str] = {}
    new: dict[nn.Module, LocalSelfAttention2d] = {}
    for name, conv in _convolutions(model):
        if filter_fn is not None and not filter_fn(name, conv):
            skipped[name] = "filter_fn returned False"
        elif reasons := _obstacles(conv, unit, depthwise=dw_kernel_size != 0):
            skipped[name] = "; ".join(reasons)
        else:
            assert isinstance(conv, nn.Conv2d)
            layer = attention(conv).train(conv.training)
            layer.requires_grad_(conv.weight.requires_grad)
            if conv.bias is not None and layer.qkv.bias is not None:
                layer.qkv.bias.requires_grad_(conv.bias.requires_grad)
            replaced[name] = new[conv] = layer
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child in new:
                setattr(parent, key, new[child])
    return ReplacedConvolutions(replaced, skipped)


def _convolutions(model: nn.Module) -> Iterator[tuple[str, _ConvNd]]:
    """Names and modules of the convolutions, each once; without those that are parts of our layers."""
    inside = {part for layer in model.modules() if isinstance(layer, _OURS) for part in layer.modules()}
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd) and module not in inside:
            yield name, module


def _obstacles(conv: _ConvNd, unit: int, *, depthwise: bool) -> list[str]:
    """Every reason why attention cannot stand for the convolution; none where it can."""
    if type(conv) is not nn.Conv2d:
        kind = "a subclass of Conv2d" if isinstance(conv, nn.Conv2d) else "not a Conv2d"
        return [f"{type(conv).__name__} is {kind}"]
    if set(conv.kernel_size) == {1}:
        return ["1 × 1: nothing spatial is in it"]
    reasons = []
    if not is_unmodified(conv, nn.Conv2d):
        reasons.append("it has hooks or a forward pass of its own, which would be lost")
    if conv.groups != 1:
        kind = " (depthwise)" if conv.groups == conv.in_channels else ""
        reasons.append(f"groups={conv.groups}{kind}: attention mixes all channels")
    if conv.stride not in ((1, 1), (2, 2)):
        reasons.append(f"stride={conv.stride}: attention has 1 or 2 along both axes")
    if not _keeps_size(conv):
        reasons.append(
            f"padding={conv.padding} with kernel_size={conv.kernel_size} and dilation={conv.dilation}: "
            "attention keeps the map's size"
        )
    if conv.padding_mode != "zeros":
        reasons.append(f"padding_mode={conv.padding_mode!r}: attention truncates its window at the border")
    if conv.out_channels % unit:
        reasons.append(f"out_channels={conv.out_channels} is no multiple of {unit}, which the heads need")
    if depthwise and conv.out_channels % conv.in_channels:
        reasons.append(
            f"out_channels={conv.out_channels} is no multiple of in_channels={conv.in_channels}, which the "
            "depthwise convolution needs"
        )
    if not conv.weight.is_floating_point():
        reasons.append(f"dtype={conv.weight.dtype}: attention computes with real floating point")
    return reasons


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether (H, W) becomes (ceil(H/stride), ceil(W/stride)) whatever H and W."""
    if isinstance(conv.padding, str):
        return conv.padding == "same"
    reach = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    return all(2 * padding == dilation * (size - 1) for padding, dilation, size in reach)
