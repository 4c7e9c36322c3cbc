"""The second stage of the statistics: mean and variance of all outputs from those of the programs."""

import triton
import triton.language as tl


@triton.jit
def merge_kernel(parts, mean, var, programs, outputs, PARTS: tl.constexpr, CHANNELS: tl.constexpr):
    """Merge parts (programs, 3, O) of numbers, means and sums of squared deviations, in float64.

    A program has CHANNELS channels and reads PARTS parts at a time, in their order (Chan et al., 1979).
    """
    o = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    count = tl.zeros([PARTS, CHANNELS], tl.float64)
    total = tl.zeros([PARTS, CHANNELS], tl.float64)
    for first in range(0, programs, PARTS):
        p = first + tl.arange(0, PARTS)[:, None]
        at = parts + p.to(tl.int64) * (3 * outputs) + o
        given = (p < programs) & (o < outputs)
        n = tl.load(at, given, 0.0).to(tl.float64)
        count += n
        total += n * tl.load(at + outputs, given, 0.0).to(tl.float64)
    number = tl.sum(count, 0)[None, :]
    middle = tl.sum(total, 0)[None, :] / number
    squared = tl.zeros([PARTS, CHANNELS], tl.float64)
    for first in range(0, programs, PARTS):
        p = first + tl.arange(0, PARTS)[:, None]
        at = parts + p.to(tl.int64) * (3 * outputs) + o
        given = (p < programs) & (o < outputs)
        n = tl.load(at, given, 0.0).to(tl.float64)
        difference = tl.where(given, tl.load(at + outputs, given, 0.0).to(tl.float64) - middle, 0.0)
        squared += n * difference * difference
        squared += tl.load(at + 2 * outputs, given, 0.0).to(tl.float64)
    spread = tl.sum(squared, 0)[None, :] / number
    tl.store(mean + o, middle.to(tl.float32), o < outputs)
    # Rounding can leave a negative number. A NaN passes.
    tl.store(var + o, tl.where(spread < 0, 0.0, spread).to(tl.float32), o < outputs)
