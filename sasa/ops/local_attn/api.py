"""Local attention as users call it: validate the arguments, choose a backend, call it."""

from __future__ import annotations

import torch
from torch import Tensor

from sasa.ops import compiled
from sasa.ops.autocast import autocast_off, cast
from sasa.ops.local_attn.backends import BACKENDS, Backend, reference
from sasa.ops.local_attn.memory_format import is_channels_last
from sasa.ops.local_attn.spec import LocalAttentionSpec

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def local_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
    relu: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Multi-head attention of every pixel over the window around it (Ramachandran et al., 2019, Eq. 3).

    For each head, with window positions (a, b) around the pixel (i, j)::

        logit[a, b] = scale · (q·k[i+a, j+b] + q[:D/2]·rel_row[a] + q[D/2:]·rel_col[b])
        out         = Σ softmax(logit)[a, b] · v[i+a, j+b]

    The window is truncated at the border: positions outside the map take no part in the softmax, so the
    weights always sum to one. A window larger than the map is fine. Under autocast q, k and v are cast to
    the autocast dtype, as for a matrix product; sums are accumulated in at least float32.

    Args:
        q: Queries (B, N·D, H, W), float16, bfloat16, float32 or float64, any strides. Head n owns channels
            n·D … (n+1)·D − 1.
        k: Keys, shaped as q; None drops the term q·k (Table 6) and then needs an embedding.
        v: Values (B, N·Dv, H, W).
        rel_row: Embeddings of the kh row offsets −(kh//2) … kh//2, (N, kh, D/2), or None; D must be even.
        rel_col: Embeddings of the kw column offsets, (N, kw, D/2), or None.
        num_heads: N, at least 1.
        kernel_size: The window's extent in pixels, odd: k for k × k, or (kh, kw).
        dilation: Distance of neighboring window positions in pixels, at least 1: for both axes or (dh, dw).
        scale: Finite factor of the whole logit. 1.0 is the paper's equation.
        pool: 1, or 2 for the mean over 2 × 2 outputs at stride 2; a partial block at an odd edge is averaged
            over the pixels that it has, so 7 becomes 4 as with a strided convolution.
        relu: Whether max(0, ·) of the output is taken, after pooling.
        backend: "auto" takes the first backend that can run the arguments, in the order of `support`; one
            asked for by name runs or raises, it never falls back.

    Returns:
        (B, N·Dv, ceil(H/pool), ceil(W/pool)) in v's dtype (the autocast dtype under autocast) and q's memory
        format.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device, or the named backend cannot run them.
    """
    spec = validate(q, k, v, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool, relu)
    layout = torch.channels_last if is_channels_last(q) else torch.contiguous_format
    q, k, v = cast(q), None if k is None else cast(k), cast(v)
    chosen = _choose(backend, q, k, v, rel_row, rel_col, spec)
    with autocast_off(q):
        out = chosen.local_attention(q, k, v, rel_row, rel_col, spec)
    return out.contiguous(memory_format=layout)


def local_attention_maps(
    q: Tensor,
    k: Tensor | None,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
) -> Tensor:
    """The softmax weights that `local_attention` applies, for pictures; memory grows with K².

    Args and errors as in `local_attention`.

    Returns:
        (B, N, ceil(H/pool), ceil(W/pool), kh, kw), at least float32. Weights outside the map are zero. With
        pool=2 the maps of the 2 × 2 queries are averaged, each around its own pixel.
    """
    spec = validate(q, k, q, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool)
    q, k = cast(q), None if k is None else cast(k)
    with autocast_off(q):
        weights = reference.attention_weights(q, k, rel_row, rel_col, spec)  # (B, N, K, H, W)
    if spec.pool > 1:
        pooled = torch.nn.functional.avg_pool2d(
            weights.flatten(1, 2), spec.pool, ceil_mode=True, count_include_pad=False
        )
        weights = pooled.unflatten(1, weights.shape[1:3])
    return weights.movedim(2, -1).unflatten(-1, spec.kernel_size)


def support(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None = None,
    rel_col: Tensor | None = None,
    *,
    num_heads: int,
    kernel_size: int | tuple[int, int] = 7,
    dilation: int | tuple[int, int] = 1,
    scale: float = 1.0,
    pool: int = 1,
    relu: bool = False,
) -> dict[str, list[str]]:
    """Which backends can run these arguments of `local_attention`, and why the others cannot.

    Args as in `local_attention`.

    Returns:
        Each backend's name, in the order in which "auto" tries them, with every reason why it cannot run
        these arguments; an empty list means that it can.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, shape or device; no backend can run it.
    """
    spec = validate(q, k, v, rel_row, rel_col, num_heads, kernel_size, dilation, scale, pool, relu)
    q, k, v = cast(q), None if k is None else cast(k), cast(v)
    return {b.NAME: b.why_not(q, k, v, rel_row, rel_col, spec) for b in BACKENDS}


def check_tensor(name: str, x: object, first_name: str, first: Tensor) -> None:
    """Raise, as `local_attention` does, unless x is a dense floating tensor on the device of the first."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in _DTYPES or x.layout != torch.strided:
        raise TypeError(
            f"{name}: expected a floating dtype ({', '.join(map(str, _DTYPES))}) and dense, "
            f"got {x.dtype}, {x.layout}; convert it first"
        )
    if x.device != first.device:
        raise ValueError(f"{name}: expected device {first.device} as {first_name} has, got {x.device}")


def check_backend(name: str) -> None:
    """Raise, as `local_attention` does, unless name is "auto" or a backend's."""
    names = [b.NAME for b in BACKENDS]
    if not isinstance(name, str):
        raise TypeError(f"backend: expected 'auto' or one of {names}, got {type(name).__name__}")
    if name != "auto" and name not in names:
        raise ValueError(f"backend: expected 'auto' or one of {names}, got {name!r}")


def _choose(
    name: str,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    spec: LocalAttentionSpec,
) -> Backend:
    check_backend(name)
    refusals = []
    for backend in BACKENDS:
        if name in ("auto", backend.NAME):
            reasons = backend.why_not(q, k, v, rel_row, rel_col, spec)
            if not reasons:
                if name == "auto" and backend is reference and q.device.type == "cpu":
                    compiled.warn_once_if_missing()
                return backend
            refusals.append(f"{backend.NAME}: {'; '.join(reasons)}")
    raise ValueError(f"backend={name!r} cannot run these arguments. {'. '.join(refusals)}")


def validate(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_row: Tensor | None,
    rel_col: Tensor | None,
    num_heads: int,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int],
    scale: float,
    pool: int,
    relu: bool = False,
) -> LocalAttentionSpec:
    """The spec of valid arguments; raises as `local_attention` promises."""
    for name, x in (("q", q), ("k", k), ("v", v), ("rel_row", rel_row), ("rel_col", rel_col)):
        if x is not None or name in ("q", "v"):
            check_tensor(name, x, "q", q)

    spec = LocalAttentionSpec.validated(
        num_heads=num_heads,
        kernel_size=kernel_size,
        dilation=dilation,
        scale=scale,
        pool=pool,
        relu=relu,
    )
    if q.ndim != 4 or q.shape[1] == 0 or q.shape[2] == 0 or q.shape[3] == 0:
        raise ValueError(f"q: expected (B, C, H, W) with C, H, W ≥ 1, got {tuple(q.shape)}")
    if k is not None and k.shape != q.shape:
        raise ValueError(f"k: expected q's shape {tuple(q.shape)}, got {tuple(k.shape)}")
    if v.ndim != 4 or (v.shape[0], v.shape[2:]) != (q.shape[0], q.shape[2:]) or v.shape[1] == 0:
        expected = f"({q.shape[0]}, channels, {q.shape[2]}, {q.shape[3]})"
        raise ValueError(f"v: expected {expected} to go with q, got {tuple(v.shape)}")
    for name, x in (("q", q), ("v", v)):
        if x.shape[1] % num_heads:
            raise ValueError(
                f"num_heads: expected a divisor of {name}'s {x.shape[1]} channels, got {num_heads}"
            )
    width = q.shape[1] // num_heads
    kh, kw = spec.kernel_size
    for name, x, taps in (("rel_row", rel_row, kh), ("rel_col", rel_col, kw)):
        if x is None:
            continue
        if width % 2:
            raise ValueError(
                f"{name}: relative embeddings split each head's width in two halves and need it even, "
                f"got {width} (q's {q.shape[1]} channels over num_heads={num_heads})"
            )
        if x.shape != (num_heads, taps, width // 2):
            raise ValueError(
                f"{name}: expected (num_heads, extent, D/2) = {(num_heads, taps, width // 2)}, "
                f"got {tuple(x.shape)}"
            )
    if k is None and rel_row is None and rel_col is None:
        raise ValueError("k: None leaves no logit without rel_row or rel_col; give k or an embedding")
    return spec
