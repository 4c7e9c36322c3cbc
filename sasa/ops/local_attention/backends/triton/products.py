"""What the kernels with products on tensor cores share: the table of embeddings, and products."""

# Triton reads annotations at run time, so they are not postponed here.
import triton
import triton.language as tl

from sasa.ops.local_attention.backends.triton.window import load_as_stored


@triton.jit
def load_table(rel, head, EXTENT: tl.constexpr, D: tl.constexpr, TAPS: tl.constexpr, BLOCK_D: tl.constexpr):
    """A head's embeddings out of the packed table (N, EXTENT, D), (TAPS, BLOCK_D)."""
    at = rel + (head * EXTENT + tl.arange(0, TAPS)) * D
    return load_as_stored(at, tl.arange(0, TAPS) < EXTENT, 1, 0, D, BLOCK_D)


@triton.jit
def split(single, dtype: tl.constexpr):
    """Parts of a float32 tensor for `multiply_parts`: three bfloat16 have its 24 bits, and its range.

    float16 has not its range; it is multiplied as tf32, which the compiler splits.
    """
    if dtype == tl.bfloat16:
        high = single.to(tl.bfloat16)
        rest = tl.where(high - high == 0, single - high.to(tl.float32), 0.0)
        middle = rest.to(tl.bfloat16)
        return high, middle, (rest - middle.to(tl.float32)).to(tl.bfloat16)
    else:
        return (single,)


@triton.jit
def multiply_parts(parts, half):
    """The tensor that was split @ half, to float32's precision."""
    if half.dtype == tl.bfloat16:
        return tl.dot(parts[2], half, tl.dot(parts[1], half, tl.dot(parts[0], half)))
    else:
        return tl.dot(parts[0], half.to(tl.float32), input_precision="tf32x3")


@triton.jit
def multiply(half, single):
    """half @ single, to float32's precision."""
    if half.dtype == tl.bfloat16:
        high, middle, low = split(single, tl.bfloat16)
        return tl.dot(half, low, tl.dot(half, middle, tl.dot(half, high)))
    else:
        return tl.dot(half.to(tl.float32), single, input_precision="tf32x3")


@triton.jit
def multiply_rounded(single, half, total):
    """total + single @ half, single rounded to half's bits but not to float16's range, which is narrow."""
    if half.dtype == tl.bfloat16:
        return tl.dot(single.to(tl.bfloat16), half, total)
    else:
        return tl.dot(single, half.to(tl.float32), total, input_precision="tf32")


@triton.jit
def not_finite(x):
    """Whether any number of (rows, columns) is not."""
    return tl.max(tl.max(tl.where(x - x == 0, 0, 1), 1), 0) > 0


@triton.jit
def column(x, c, COLUMNS: tl.constexpr):
    """x[:, c]."""
    return tl.sum(tl.where((tl.arange(0, COLUMNS) == c)[None, :], x, 0), 1)
