"""The attention layer that stands where a k × k convolution stood."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasa.errors import require
from sasa.layers.sinusoid import sinusoid_2d
from sasa.layers.torchscript import called_in_python
from sasa.layers.unmodified import is_pointwise
from sasa.ops import (
    LocalAttentionSpec,
    local_attention,
    local_attention_flops,
    local_attention_maps,
    local_self_attention,
)
from sasa.ops.checks import check_bool, pair
from sasa.ops.dispatch import backend_names, check_backend_name

POSITIONS = ("relative", "absolute", "none")


class LocalSelfAttention2d(nn.Module):
    """Local multi-head self-attention with the shape of a "same"-padded ``nn.Conv2d``.

    Queries, keys and values are full pointwise projections of the input; each pixel attends to the
    window around it, truncated at the border (Ramachandran et al., 2019, §2.2). Nothing depends on the
    map's size. Input (B, in_channels, H, W), output (B, out_channels, ceil(H/stride), ceil(W/stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of num_heads (of 2·num_heads for
            position="relative").
        kernel_size: The window's extent, odd: k or (kh, kw).
        stride: 1, or 2 for attention at full resolution and a 2 × 2 average pool after it (§3).
        num_heads: Attention heads, each out_channels/num_heads wide.
        dilation: Distance of neighboring window positions: one for both axes or a pair.
        position: What the logits know of position (Table 5): "relative" adds learned row and column
            offset embeddings (Eq. 3), "absolute" adds a fixed 2-D sinusoid to the input, "none" neither.
        content: False drops the keys and leaves q·r alone (Table 6); needs position="relative".
        content_gain: Whether the keys have a learned factor per channel that starts at zero, so that
            attention starts from position alone. `sasa.fuse` folds it into the projection.
        dw_kernel_size: 0, as in the paper, or the odd extent, k or (kh, kw), of a depthwise convolution of
            the input that is added to the output, with the stride and dilation of the layer. It starts at
            zero, and out_channels must be a multiple of in_channels.
        bias: Whether the projections have a bias.
        scale: Factor of the logits; 1.0 is Eq. 3 and trains as well as 1/√D, see `reset_parameters`.
        backend: See `sasa.ops.local_self_attention`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A value is out of its range; widths and heads that do not fit are both named.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 7,
        stride: int = 1,
        *,
        num_heads: int = 8,
        dilation: int | tuple[int, int] = 1,
        position: str = "relative",
        content: bool = True,
        content_gain: bool = False,
        dw_kernel_size: int | tuple[int, int] = 0,
        bias: bool = False,
        scale: float = 1.0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, flag in (("content", content), ("content_gain", content_gain), ("bias", bias)):
            check_bool(name, flag)
        if position not in POSITIONS:
            raise ValueError(f"position: expected one of {POSITIONS}, got {position!r}")
        if not content and position != "relative":
            raise ValueError(
                f"content: False leaves only q·r and needs position='relative', got {position!r}"
            )
        require(content or not content_gain, "content_gain", "False with content=False", content_gain)
        if isinstance(stride, bool) or not isinstance(stride, int):
            raise TypeError(f"stride: expected an int, got {type(stride).__name__} {stride!r}")
        if stride not in (1, 2):
            raise ValueError(f"stride: expected 1 or 2, got {stride}")
        spec = LocalAttentionSpec.validated(
            num_heads=num_heads, kernel_size=kernel_size, dilation=dilation, scale=scale, pool=stride
        )
        check_backend_name(backend_names(local_self_attention), backend)
        unit = 2 * num_heads if position == "relative" else num_heads
        if out_channels < 1 or out_channels % unit:
            raise ValueError(
                f"out_channels={out_channels} and num_heads={num_heads}: expected a multiple of {unit} "
                f"channels (equal heads{' of even width' if position == 'relative' else ''}); "
                f"change one of them"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = spec.kernel_size
        self.stride = stride
        self.num_heads = num_heads
        self.dilation = spec.dilation
        self.position = position
        self.content = content
        self.scale = scale
        self.backend = backend
        self.relu = False  # of the output; `sasa.fuse` sets it where a ReLU followed
        projections = 3 if content else 2
        self.qkv = nn.Conv2d(
            in_channels, projections * out_channels, 1, bias=bias, device=device, dtype=dtype
        )
        self.content_gain: nn.Parameter | None = None
        if content_gain:
            self.content_gain = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        self.dw: nn.Conv2d | None = None
        if dw_kernel_size != 0:
            sizes = pair("dw_kernel_size", dw_kernel_size)
            require(sizes[0] * sizes[1] % 2 == 1, "dw_kernel_size", "odd sizes or 0", dw_kernel_size)
            expected = f"a multiple of in_channels={in_channels} with dw_kernel_size={dw_kernel_size}"
            require(out_channels % in_channels == 0, "out_channels", expected, out_channels)
            self.dw = nn.Conv2d(
                in_channels,
                out_channels,
                sizes,
                stride,
                padding=(sizes[0] // 2 * self.dilation[0], sizes[1] // 2 * self.dilation[1]),
                dilation=self.dilation,
                groups=in_channels,
                bias=False,
                device=device,
                dtype=dtype,
            )
        self.rel_row: nn.Parameter | None = None
        self.rel_col: nn.Parameter | None = None
        if position == "relative":
            half = out_channels // num_heads // 2
            self.rel_row, self.rel_col = (
                nn.Parameter(torch.empty(num_heads, size, half, device=device, dtype=dtype))
                for size in self.kernel_size
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what a layer starts from; D is the width of a head.

        Keys and values come from N(0, 2/fan_out) as ResNet's convolutions do, queries with a deviation
        smaller by √D, so that the logits' size does not depend on D, embeddings from N(0, 1); biases are 0.
        The content gain and the depthwise convolution start at 0.

        Measured on the built-in images over 3 seeds (top-1 in %, mean ± standard error, of a quarter-width
        ResNet-26 after 3 epochs of 4,000 images; ``python -m studies.scale_and_initialization``):
        embeddings of deviation 1/√D 77.28 ± 0.55 with scale 1 and 78.57 ± 0.12 with scale 1/√D, embeddings
        of deviation 1 79.80 ± 0.35 and 79.80 ± 0.38, these defaults 80.25 ± 0.23. So the paper's scale stays.
        """
        with torch.no_grad():
            nn.init.kaiming_normal_(self.qkv.weight, mode="fan_out", nonlinearity="relu")
            self.qkv.weight[: self.out_channels] *= (self.out_channels // self.num_heads) ** -0.5
        depthwise = None if self.dw is None else self.dw.weight
        for parameter in (self.qkv.bias, self.content_gain, depthwise):
            if parameter is not None:
                nn.init.zeros_(parameter)
        for embedding in (self.rel_row, self.rel_col):
            if embedding is not None:
                nn.init.normal_(embedding)

    def forward(self, x: Tensor) -> Tensor:
        if self.dw is None:
            return self._attention(x, self.relu)
        out = self._attention(x, False) + self.dw(x)
        return F.relu(out, inplace=True) if self.relu else out

    def _attention(self, x: Tensor, relu: bool) -> Tensor:
        if not is_pointwise(self.qkv):
            return local_attention(*self.project(x), self.rel_row, self.rel_col, relu=relu, **self._window)
        weight = self.qkv.weight
        if self.content_gain is not None:
            q, k, v = weight.chunk(3)
            weight = torch.cat((q, k * self.content_gain[:, None, None, None], v))
        return local_self_attention(
            self._with_position(x),
            weight,
            self.qkv.bias,
            self.rel_row,
            self.rel_col,
            content=self.content,
            relu=relu,
            **self._window,
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """The queries, keys (None without content) and values of a map, each (B, out_channels, H, W)."""
        q, *k, v = self.qkv(self._with_position(x)).split(self.out_channels, dim=1)
        if self.content_gain is not None:
            k = [k[0] * self.content_gain[:, None, None]]
        return q, k[0] if k else None, v

    @property
    def _window(self) -> dict[str, Any]:
        """The options of the ops."""
        return {
            "num_heads": self.num_heads,
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "scale": self.scale,
            "pool": self.stride,
            "backend": self.backend,
        }

    def attention_maps(self, x: Tensor, *, per_query: bool = False) -> Tensor:
        """Where each output pixel looks: the weights (B, num_heads, H', W', kh, kw), for pictures.

        They sum to one over the window; entry (kh//2, kw//2) is the pixel itself. With stride=2 the maps
        of the four pooled queries are averaged, each around its own pixel; per_query=True gives those of
        every query, (B, num_heads, H, W, kh, kw).
        """
        q, k, _ = self.project(x)
        return local_attention_maps(
            q,
            k,
            self.rel_row,
            self.rel_col,
            num_heads=self.num_heads,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            scale=self.scale,
            pool=1 if per_query else self.stride,
        )

    def _with_position(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(f"x: expected (B, {self.in_channels}, H, W) with H, W ≥ 1, got {tuple(x.shape)}")
        if self.position == "absolute":
            return x + sinusoid_2d(*x.shape[1:], device=x.device, dtype=x.dtype)
        return x

    def flops(self, x: Tensor) -> int:
        """FLOPs of the forward pass beyond the modules inside, such as the projections."""
        shape = (x.shape[0], self.out_channels, *x.shape[2:])
        spec = LocalAttentionSpec(
            self.num_heads, self.kernel_size, self.dilation, self.scale, self.stride, self.relu
        )
        flops = local_attention_flops(
            shape, shape, spec, content=self.content, position=self.position == "relative"
        )
        if self.position == "absolute":
            flops += x.numel()
        if self.dw is not None:  # the addition of its output
            flops += math.prod(shape[:2]) * math.prod(-(-side // self.stride) for side in x.shape[2:])
        return flops

    def __prepare_scriptable__(self) -> nn.Module:
        return called_in_python(self)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, num_heads={self.num_heads}, dilation={self.dilation}, "
            f"position={self.position!r}, content={self.content}, scale={self.scale}"
        ]
        if self.content_gain is not None:
            parts.append("content_gain=True")
        if self.dw is not None:
            parts.append(f"dw_kernel_size={self.dw.kernel_size}")
        if self.relu:
            parts.append("relu=True")
        return ", ".join(parts)
