"""What the kernels with products on tensor cores share: the table of embeddings and the products."""

# Triton reads annotations at run time, so they are not postponed here.
import triton
import triton.language as tl

from sasa.ops.local_attn.backends.triton.window import load_as_stored


@triton.jit
def load_table(rel, head, EXTENT: tl.constexpr, D: tl.constexpr, TAPS: tl.constexpr, BLOCK_D: tl.constexpr):
    """A head's embeddings out of the packed table (N, EXTENT, D), (TAPS, BLOCK_D)."""
    at = rel + (head * EXTENT + tl.arange(0, TAPS)) * D
    return load_as_stored(at, tl.arange(0, TAPS) < EXTENT, 1, 0, D, BLOCK_D)


@triton.jit
def split(single, dtype: tl.constexpr):
    """Parts of a float32 tensor for `multiply_parts`: three bfloat16 have its 24 bits and its range.

    float16 lacks its range: its products are tf32's, which the compiler splits. With float32 maps nothing is
    split.
    """
    if dtype == tl.bfloat16:
        high = single.to(tl.bfloat16)
        rest = tl.where(high - high == 0, single - high.to(tl.float32), 0.0)
        middle = rest.to(tl.bfloat16)
        return high, middle, (rest - middle.to(tl.float32)).to(tl.bfloat16)
    else:
        return (single,)


@triton.jit
def multiply_parts(parts, stored):
    """The product of the split tensor and stored, in the precision of float32, with float32 maps of tf32."""
    if stored.dtype == tl.bfloat16:
        return tl.dot(parts[2], stored, tl.dot(parts[1], stored, tl.dot(parts[0], stored)))
    elif stored.dtype == tl.float32:
        return tl.dot(parts[0], stored, input_precision="tf32")
    else:
        return tl.dot(parts[0], stored.to(tl.float32), input_precision="tf32x3")


@triton.jit
def multiply(stored, single):
    """stored @ single, with the precision of `multiply_parts`."""
    if stored.dtype == tl.bfloat16:
        high, middle, low = split(single, tl.bfloat16)
        return tl.dot(stored, low, tl.dot(stored, middle, tl.dot(stored, high)))
    elif stored.dtype == tl.float32:
        return tl.dot(stored, single, input_precision="tf32")
    else:
        return tl.dot(stored.to(tl.float32), single, input_precision="tf32x3")


@triton.jit
def multiply_rounded(single, stored, total):
    """total + single @ stored, single rounded to bfloat16, or to tf32 because float16's range is narrow."""
    if stored.dtype == tl.bfloat16:
        return tl.dot(single.to(tl.bfloat16), stored, total)
    else:
        return tl.dot(single, stored.to(tl.float32), total, input_precision="tf32")


@triton.jit
def not_finite(x):
    """Whether any number of x (rows, columns) is infinite or NaN."""
    return tl.max(tl.max(tl.where(x - x == 0, 0, 1), 1), 0) > 0


@triton.jit
def column(x, c, COLUMNS: tl.constexpr):
    """x[:, c]."""
    return tl.sum(tl.where((tl.arange(0, COLUMNS) == c)[None, :], x, 0), 1)
