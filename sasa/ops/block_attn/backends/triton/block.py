"""What the kernels share: where a block is, its pixels, weights and values.

A program computes one block of one head at a time. A block has P = BLOCK² positions, padded to POSITIONS.
D is head_dim, padded to WIDTH. The C channels are unrolled: a tuple has one entry per channel.
"""

# Triton reads annotations at run time, so they are not postponed here.
import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rel_weight(rel_weight, head, C: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr):
    """rel_weight[head, c, i, j] as C tiles (POSITIONS, POSITIONS) [i, j], for logits in base 2."""
    P: tl.constexpr = BLOCK * BLOCK
    i = tl.arange(0, POSITIONS)[:, None]
    j = tl.arange(0, POSITIONS)[None, :]
    tiles = ()
    for c in tl.static_range(C):
        tile = tl.load(rel_weight + ((head * C + c) * P + i) * P + j, (i < P) & (j < P), 0.0)
        tiles = tiles + (tile * LOG2E,)
    return tiles


@triton.jit
def place_of_v_weight(head, C: tl.constexpr, D: tl.constexpr, POSITIONS: tl.constexpr, WIDTH: tl.constexpr):
    """Offsets of v_weight[j, head · D + d, 0] (POSITIONS, WIDTH) [j, d]."""
    j = tl.arange(0, POSITIONS)[:, None]
    d = tl.arange(0, WIDTH)[None, :]
    return ((j * tl.num_programs(1) + head) * D + d) * C


@triton.jit
def load_v_weight(
    v_weight,
    head,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    POSITIONS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """v_weight[j, head · D + d, c] as C tiles (POSITIONS, WIDTH) [j, d]."""
    given = (tl.arange(0, POSITIONS) < BLOCK * BLOCK)[:, None] & (tl.arange(0, WIDTH) < D)[None, :]
    at = v_weight + place_of_v_weight(head, C, D, POSITIONS, WIDTH)
    tiles = ()
    for c in tl.static_range(C):
        tiles = tiles + (tl.load(at + c, given, 0.0),)
    return tiles


@triton.jit
def load_qk_weight(qk_weight, head, C: tl.constexpr):
    """qk_weight[head] as C² numbers, for logits in base 2."""
    numbers = ()
    for f in tl.static_range(C * C):
        numbers = numbers + (tl.load(qk_weight + head * (C * C) + f) * LOG2E,)
    return numbers


@triton.jit
def place(block, squares_y, squares_x):
    """The image of a block, and the row and column of the block in the image."""
    within = block % (squares_y * squares_x)
    return (block // (squares_y * squares_x)).to(tl.int64), within // squares_x, within % squares_x


@triton.jit
def next_place(image, y, x, squares_y, squares_x):
    """The place of the next block after (image, y, x), without the divisions of `place`."""
    x += 1
    y += (x == squares_x).to(tl.int32)
    x = tl.where(x == squares_x, 0, x)
    image += (y == squares_y).to(tl.int64)
    return image, tl.where(y == squares_y, 0, y), x


@triton.jit
def is_inside(p, y, x, height, width, BLOCK: tl.constexpr):
    """Which positions of the block (y, x) are in the image."""
    return (p < BLOCK * BLOCK) & (y * BLOCK + p // BLOCK < height) & (x * BLOCK + p % BLOCK < width)


@triton.jit
def load_pixels(at, p, inside, channel, row, col, C: tl.constexpr, BLOCK: tl.constexpr):
    """The pixels at the positions p as C tensors in float32, 0 outside; `at` points to the first pixel."""
    pixels = ()
    for c in tl.static_range(C):
        x = tl.load(at + c * channel + p // BLOCK * row + p % BLOCK * col, inside, 0.0)
        pixels = pixels + (x.to(tl.float32),)
    return pixels


@triton.jit
def weigh(queries, keys, seen, qk_weight, rel_weight, C: tl.constexpr, POSITIONS: tl.constexpr):
    """Weights (POSITIONS, POSITIONS) [i, j] that do not sum to one yet, and the factor (POSITIONS, 1) for it.

    Queries are C columns (POSITIONS, 1), keys C rows (1, POSITIONS), seen a row.
    """
    logit = tl.zeros([POSITIONS, POSITIONS], tl.float32)
    for c in tl.static_range(C):
        projected = queries[0] * qk_weight[c]
        for b in tl.static_range(1, C):
            projected += queries[b] * qk_weight[b * C + c]
        logit += queries[c] * rel_weight[c]
        logit += projected * keys[c]
    logit = tl.where(seen, logit, float("-inf"))
    weight = tl.exp2(logit - tl.max(logit, 1)[:, None])
    return weight, 1.0 / tl.sum(weight, 1)[:, None]


@triton.jit
def make_values(pixels, v_weight, inside, C: tl.constexpr):
    """The values (POSITIONS, WIDTH) of C columns of pixels; 0 outside, even if v_weight is not finite."""
    value = pixels[0] * v_weight[0]
    for c in tl.static_range(1, C):
        value += pixels[c] * v_weight[c]
    return tl.where(inside, value, 0.0)


@triton.jit
def larger(a, b):
    """The larger of two numbers; not a number if one of them is not."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def find_peak(out, inside):
    """The maximum over the queries that are inside, (WIDTH,)."""
    return tl.reduce(tl.where(inside, out, float("-inf")), 0, larger)
