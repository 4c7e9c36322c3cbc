"""What the kernels with products on tensor cores share: the table of embeddings and products with it."""

# Triton reads annotations at run time, so they are not postponed here.
import triton
import triton.language as tl


@triton.jit
def load_table(
    rel,
    head,
    D: tl.constexpr,
    KERNEL_ROWS: tl.constexpr,
    KERNEL_COLS: tl.constexpr,
    EXTENT: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAPS: tl.constexpr,
):
    """A head's embeddings, (TAPS, BLOCK_D): those of rows, in the first half of D, then those of columns."""
    tap = tl.arange(0, TAPS)[:, None]
    d = tl.arange(0, BLOCK_D)[None, :]
    of_row = tap < KERNEL_ROWS
    at = rel + (head * EXTENT + tl.where(of_row, tap, tap - KERNEL_ROWS)) * D + d
    given = (of_row & (d < D // 2)) | ((tap >= KERNEL_ROWS) & (d >= D // 2) & (d < D))
    return tl.load(at, given & (tap < KERNEL_ROWS + KERNEL_COLS), 0.0)


@triton.jit
def multiply(half, single):
    """half @ single, of float16 or bfloat16 and of float32, to float32's precision."""
    if half.dtype == tl.bfloat16:
        # Three bfloat16 have float32's 24 bits, and its range.
        high = single.to(tl.bfloat16)
        rest = tl.where(high - high == 0, single - high.to(tl.float32), 0.0)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        return tl.dot(half, low, tl.dot(half, middle, tl.dot(half, high)))
    else:
        return tl.dot(half.to(tl.float32), single, input_precision="tf32x3")
