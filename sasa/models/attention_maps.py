"""Where the attention layers of a network look, on the map that each of them sees."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sasa.layers import AttentionStem, FusedAttentionStem, LocalSelfAttention2d

_Layer = AttentionStem | FusedAttentionStem | LocalSelfAttention2d


def attention_layers(model: nn.Module) -> dict[str, _Layer]:
    """The attention layers of any network by their names, in the order of the modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _Layer)}


@torch.no_grad()
def query_attention_maps(
    model: nn.Module,
    images: Tensor,
    *,
    query: tuple[float, float] = (0.5, 0.5),
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """The weights that one query gives to every pixel of the map that a layer sees.

    Args:
        model: Any network with our layers; run in its present mode, so call ``eval()`` first.
        images: (B, C, H, W), as the network takes them.
        query: The query's row and column as parts of the image's height and width, in [0, 1].
        layers: Names from `attention_layers`; all where None.

    Returns:
        For each layer (B, num_heads, h, w) over its input map of h × w pixels; each head's weights sum to
        one. A layer that pools shows the mean over the 2 × 2 queries behind one output pixel.

    Raises:
        ValueError: The model has no attention layer, or none of a name that was given, or the query lies
            outside the image.
    """
    found = attention_layers(model)
    if not found:
        raise ValueError(f"model: {type(model).__name__} has no attention layer to look at")
    names = list(found) if layers is None else list(layers)
    for name in names:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0)
            raise ValueError(f"layers: no attention layer is called {name!r}; did you mean {near[0]!r}?")
    if not all(0 <= part <= 1 for part in query):
        raise ValueError(f"query: expected row and column in [0, 1], got {query}")

    inputs = _inputs(model, images, {name: found[name] for name in names})
    return {name: _view(found[name], inputs[name], query) for name in names}


@torch.no_grad()
def position_attention_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Where the heads look by the relative embeddings alone: softmax(q·r), its mean over pixels and images.

    The k × k window is whole at every pixel, also at the border.

    Args:
        model: Any network with our layers; run in its present mode, so call ``eval()`` first.
        images: (B, C, H, W), as the network takes them.

    Returns:
        For each layer with relative embeddings but the stem (num_heads, kh, kw), each head's sum one.
    """
    layers = {
        name: layer
        for name, layer in attention_layers(model).items()
        if isinstance(layer, LocalSelfAttention2d) and layer.position == "relative"
    }
    inputs = _inputs(model, images, layers)
    return {name: _relative_attention(layer, inputs[name]) for name, layer in layers.items()}


def _relative_attention(layer: LocalSelfAttention2d, x: Tensor) -> Tensor:
    assert layer.rel_row is not None
    assert layer.rel_col is not None
    queries = layer.project(x)[0].unflatten(1, (layer.num_heads, 2, -1))  # (B, N, 2, D/2, H, W)
    rows = torch.einsum("bndhw,nad->bnhwa", queries[:, :, 0], layer.rel_row)
    cols = torch.einsum("bndhw,nad->bnhwa", queries[:, :, 1], layer.rel_col)
    # The exponential of a sum is a product, and so is the softmax.
    maps = (layer.scale * rows).softmax(-1)[..., :, None] * (layer.scale * cols).softmax(-1)[..., None, :]
    return maps.mean((0, 2, 3))


def _inputs(model: nn.Module, images: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What each layer is given."""
    inputs: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[name] = args[0]

        return layer.register_forward_pre_hook(hook)

    handles = [keep(name, layer) for name, layer in layers.items()]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _view(layer: _Layer, x: Tensor, query: tuple[float, float]) -> Tensor:
    """One query's windows laid out on the layer's input map, (B, N, h, w)."""
    height, width = x.shape[2:]
    row, col = (min(int(part * size), size - 1) for part, size in zip(query, (height, width), strict=True))
    view = x.new_zeros(x.shape[0], layer.num_heads, height, width)
    if isinstance(layer, (AttentionStem, FusedAttentionStem)):
        window = layer.attention_maps(x)[:, :, row, col]  # (B, N, block, block)
        top, left = row - row % layer.block_size, col - col % layer.block_size
        part = view[:, :, top : top + layer.block_size, left : left + layer.block_size]
        part += window[..., : part.shape[2], : part.shape[3]]
        return view
    stride = layer.stride
    maps = layer.attention_maps(x, per_query=True)
    rows = [r for r in range(row - row % stride, row - row % stride + stride) if r < height]
    cols = [c for c in range(col - col % stride, col - col % stride + stride) if c < width]
    (kh, kw), (dh, dw) = layer.kernel_size, layer.dilation
    for r in rows:
        for c in cols:
            for a in range(kh):
                for b in range(kw):
                    i, j = r + (a - kh // 2) * dh, c + (b - kw // 2) * dw
                    if 0 <= i < height and 0 <= j < width:
                        view[:, :, i, j] += maps[:, :, r, c, a, b] / (len(rows) * len(cols))
    return view
