"""The layers in loops, from the equations of (Ramachandran et al., 2019), for one image.

NumPy in float64, nothing of `sasa`. Shapes: x (C, H, W); W_Q, W_K, W_V (N·D, C); row (N, kh, D/2) and
col (N, kw, D/2), the embeddings of the offsets from the first to the last.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def project(weight: Array, x: Array, bias: Array | None = None) -> Array:
    """y_ij = W x_ij + b at every pixel."""
    out = np.zeros((len(weight), *x.shape[1:]))
    for i, j in np.ndindex(x.shape[1:]):
        out[:, i, j] = weight @ x[:, i, j] + (0 if bias is None else bias)
    return out


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def sinusoid(channels: int, height: int, width: int) -> Array:
    """The first half of the channels knows the row, the second the column; sines come before cosines."""
    out = np.zeros((channels, height, width))
    for channel, i, j in np.ndindex(out.shape):
        of_row = (channels + 1) // 2
        place, index, count = (
            (i, channel, of_row) if channel < of_row else (j, channel - of_row, channels - of_row)
        )
        waves = (count + 1) // 2
        if index < waves:
            out[channel, i, j] = np.sin(place / 10000 ** (index / waves))
        else:
            out[channel, i, j] = np.cos(place / 10000 ** ((index - waves) / waves))
    return out


def average_2x2(x: Array) -> Array:
    """The mean of every 2 × 2 block over the pixels that it has."""
    height, width = x.shape[1:]
    out = np.zeros((len(x), (height + 1) // 2, (width + 1) // 2))
    for i, j in np.ndindex(out.shape[1:]):
        out[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2))
    return out


def depthwise(weight: Array, x: Array, stride: int = 1, dilation: tuple[int, int] = (1, 1)) -> Array:
    """y_ij = Σ_ab u_ab x_{i+a, j+b} for each channel; weight (C, kh, kw), zeros outside the image."""
    channels, height, width = x.shape
    out = np.zeros((channels, -(-height // stride), -(-width // stride)))
    for i, j in np.ndindex(out.shape[1:]):
        for a, b in np.ndindex(weight.shape[1:]):
            y = i * stride + (a - weight.shape[1] // 2) * dilation[0]
            z = j * stride + (b - weight.shape[2] // 2) * dilation[1]
            if 0 <= y < height and 0 <= z < width:
                out[:, i, j] += weight[:, a, b] * x[:, y, z]
    return out


def local_attention(
    q: Array,
    k: Array | None,
    v: Array,
    row: Array | None,
    col: Array | None,
    *,
    heads: int,
    kernel: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    scale: float = 1.0,
) -> Array:
    """Eq. 2 and 3: y_ij = Σ_ab softmax_ab(q_ij·k_ab + q_ij·r_{a−i, b−j}) v_ab, each head on its own."""
    height, width = v.shape[1:]
    out = np.zeros(v.shape)
    for head in range(heads):
        own = slice(head * len(v) // heads, (head + 1) * len(v) // heads)
        for i, j in np.ndindex(height, width):
            logits, values = [], []
            for a, b in np.ndindex(kernel):
                y, x = i + (a - kernel[0] // 2) * dilation[0], j + (b - kernel[1] // 2) * dilation[1]
                if not (0 <= y < height and 0 <= x < width):
                    continue
                logit = 0.0
                if k is not None:
                    logit += q[own, i, j] @ k[own, y, x]
                if row is not None and col is not None:
                    logit += q[own, i, j] @ np.concatenate((row[head, a], col[head, b]))
                logits.append(scale * logit)
                values.append(v[own, y, x])
            out[own, i, j] = softmax(np.array(logits)) @ np.array(values)
    return out


def block_attention(
    q: Array, k: Array, v: Array, row: Array, col: Array, *, heads: int, block_size: int
) -> Array:
    """Eq. 3 inside each block_size × block_size block, over the pixels that the image has there."""
    height, width = v.shape[1:]
    out = np.zeros(v.shape)
    for head in range(heads):
        own = slice(head * len(v) // heads, (head + 1) * len(v) // heads)
        for i, j in np.ndindex(height, width):
            top, left = i // block_size * block_size, j // block_size * block_size
            logits, values = [], []
            for y in range(top, min(top + block_size, height)):
                for x in range(left, min(left + block_size, width)):
                    r = np.concatenate((row[head, y - i + block_size - 1], col[head, x - j + block_size - 1]))
                    logits.append(q[own, i, j] @ k[own, y, x] + q[own, i, j] @ r)
                    values.append(v[own, y, x])
            out[own, i, j] = softmax(np.array(logits)) @ np.array(values)
    return out


def spatially_aware_values(
    matrices: Array, emb_row: Array, emb_col: Array, mixture: Array, x: Array
) -> Array:
    """App. A.1 in its naive form: M whole value maps, mixed at each pixel by its place in its block.

    matrices (M, out, C); emb_row, emb_col (block, D); mixture (M, D).
    """
    maps = [project(matrix, x) for matrix in matrices]
    block = len(emb_row)
    out = np.zeros(maps[0].shape)
    for i, j in np.ndindex(x.shape[1:]):
        p = softmax(np.array([(emb_row[i % block] + emb_col[j % block]) @ nu for nu in mixture]))
        for weight, value in zip(p, maps, strict=True):
            out[:, i, j] += weight * value[:, i, j]
    return out


def convolution_values(weight: Array, x: Array) -> Array:
    """A block × block convolution, weight (out, C, block, block), that sees zeros outside the image."""
    block = weight.shape[-1]
    out = np.zeros((len(weight), *x.shape[1:]))
    for i, j in np.ndindex(x.shape[1:]):
        for a, b in np.ndindex(block, block):
            y, z = i + a - (block - 1) // 2, j + b - (block - 1) // 2
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[:, i, j] += weight[:, :, a, b] @ x[:, y, z]
    return out


def block_maximum(x: Array, block: int) -> Array:
    """The largest value of each block, over the pixels that it has."""
    height, width = x.shape[1:]
    out = np.zeros((len(x), -(-height // block), -(-width // block)))
    for i, j in np.ndindex(out.shape[1:]):
        out[:, i, j] = x[:, i * block : (i + 1) * block, j * block : (j + 1) * block].max((1, 2))
    return out
