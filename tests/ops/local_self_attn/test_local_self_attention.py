"""Projections and attention in one kernel: the same as a convolution and then the op."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sasa import LocalSelfAttention2d
from sasa.ops import cpu_extension, local_attention, local_self_attention

from ..kernels import needs_kernels, use_capability

# The error allowed in float32, in units of that of a float32 convolution before the float32 reference.
# Measured over 500 cases on each capability: at most 6.9.
FACTOR = 16.0

KERNEL = "sasa::local_self_attention"


@pytest.fixture(params=cpu_extension.capabilities() or [pytest.param("", marks=needs_kernels)])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    use_capability(monkeypatch, name)
    return name


class Recorder(TorchDispatchMode):
    """Keeps the names of the ops that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def called(function: Callable[[], Any]) -> list[str]:
    """Names of the ops that a call runs."""
    with Recorder() as recorder:
        function()
    return recorder.names


def draw(seed: int, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor | None], dict[str, Any]]:
    """Arguments of one random call."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    heads, width = rng.choice([1, 2, 3, 8]), rng.choice([2, 4, 6, 8, 16, 20])
    kernel = rng.choice([(3, 3), (5, 5), (7, 7), (7, 7), (3, 9)])
    content = rng.random() < 0.8
    position = not content or rng.random() < 0.7
    batch, channels = rng.choice([0, 1, 1, 2, 3]), rng.choice([1, 3, 8, 17, 64])
    height, columns = rng.randint(1, 20), rng.choice([1, 5, 7, 13, 14, 15, 28, 29, 56, 100])
    x = torch.randn(batch, channels, height, columns, generator=generator, dtype=torch.float64)
    layout = rng.choice(["contiguous", "channels_last", "sliced", "transposed"])
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.mT.contiguous().mT
    outputs = (3 if content else 2) * heads * width
    weight = torch.randn(outputs, channels, 1, 1, generator=generator, dtype=torch.float64) * channels**-0.5
    if rng.random() < 0.5:
        weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    bias = torch.randn(outputs, generator=generator, dtype=torch.float64) if rng.random() < 0.5 else None
    rels = [
        torch.randn(heads, taps, width // 2, generator=generator, dtype=torch.float64) if position else None
        for taps in kernel
    ]
    tensors = [None if t is None else t.to(dtype) for t in (x, weight, bias, *rels)]
    if layout == "sliced":
        tensors[0] = torch.cat([tensors[0]] * 2, dim=1)[:, :channels]  # type: ignore[list-item]
    return tensors, {
        "num_heads": heads,
        "kernel_size": kernel,
        "dilation": rng.choice([1, 1, 1, 2]),
        "scale": rng.choice([1.0, width**-0.5]),
        "pool": rng.choice([1, 1, 2]),
        "content": content,
        "relu": rng.random() < 0.3,
    }


def composition(tensors: list[Tensor | None], *, content: bool, **options: Any) -> Tensor:
    """A convolution, then the reference."""
    x, weight, bias, *rels = tensors
    assert x is not None
    assert weight is not None
    q, *k, v = F.conv2d(x, weight, bias).chunk(3 if content else 2, dim=1)
    return local_attention(q, k[0] if content else None, v, *rels, **options, backend="reference")


def doubled(tensors: list[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.double() for t in tensors]


@pytest.mark.parametrize("part", range(4))
def test_sweep(capability: str, part: int) -> None:
    for seed in range(40 * part, 40 * part + 40):
        tensors, options = draw(seed)
        want = composition(doubled(tensors), **options)
        plain = composition(tensors, **options)
        with torch.no_grad():
            out = local_self_attention(*tensors, **options, backend="fused_cpu")  # type: ignore[arg-type]
        assert out.dtype == torch.float32
        assert out.shape == want.shape
        if want.numel():
            unit = max((plain - want).abs().max().item(), 2.0**-24 * want.abs().max().item())
            assert (out - want).abs().max().item() <= FACTOR * unit, (seed, options)


def test_float64(capability: str) -> None:
    for seed in range(1000, 1030):
        tensors, options = draw(seed, torch.float64)
        with torch.no_grad():
            out = local_self_attention(*tensors, **options, backend="fused_cpu")  # type: ignore[arg-type]
        torch.testing.assert_close(out, composition(tensors, **options), rtol=0, atol=1e-12)


needs_bfloat16 = pytest.mark.skipif(
    not cpu_extension.multiplies_bfloat16(), reason="the machine has no AVX512_BF16 (or nothing was compiled)"
)


@needs_bfloat16
def test_bfloat16() -> None:
    """Closer than a bfloat16 convolution, which rounds q, k and v, or within the rounding of the result."""
    for seed in range(2000, 2060):
        tensors, options = draw(seed, torch.bfloat16)
        want = composition(doubled(tensors), **options)
        plain = composition(tensors, **options)
        with torch.no_grad():
            assert KERNEL in called(lambda args=tensors, o=options: local_self_attention(*args, **o))
            out = local_self_attention(*tensors, **options)  # type: ignore[arg-type]
        assert out.dtype == torch.bfloat16
        if want.numel():
            error = (plain - want).abs().max().item()
            assert (out - want).abs().max().item() <= max(error, 2.0**-8 * want.abs().max().item()), seed


def test_many_heads_in_groups(capability: str) -> None:
    """Wide heads on a wide map: the packed rows of all do not fit the cache together."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 24, 9, 60), torch.randn(3 * 512, 24, 1, 1) * 0.1
    rels = [torch.randn(8, 7, 32) * 0.1 for _ in range(2)]
    tensors = [x, weight, None, *rels]
    want = composition(doubled(tensors), num_heads=8, content=True)
    plain = composition(tensors, num_heads=8, content=True)
    with torch.no_grad():
        out = local_self_attention(x, weight, None, *rels, num_heads=8)
    assert (out - want).abs().max() <= FACTOR * (plain - want).abs().max()


def test_same_bits_for_any_threads(capability: str) -> None:
    x = torch.randn(2, 64, 29, 56).to(memory_format=torch.channels_last)
    weight = torch.randn(3 * 64, 64, 1, 1)
    threads = torch.get_num_threads()
    outs = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with torch.no_grad():
                outs.append(local_self_attention(x, weight, num_heads=8, pool=2))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spreads_as_in_the_reference(capability: str, bad: float) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 4, 9, 20), torch.randn(24, 4, 1, 1)
    x[0, 1, 4, 17] = bad
    with torch.no_grad():
        out = local_self_attention(x, weight, num_heads=2, kernel_size=3, backend="fused_cpu")
    want = composition([x, weight, None, None, None], num_heads=2, kernel_size=3, content=True)
    assert torch.equal(out.isfinite(), want.isfinite())


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_registered(seed: int, dtype: torch.dtype) -> None:
    tensors, options = draw(seed, dtype)
    x, weight, bias, *rels = tensors
    assert weight is not None
    parts = 3 if options["content"] else 2
    opcheck(torch.ops.sasa.pack_projection.default, (weight, bias, parts))
    if dtype == torch.bfloat16 and not cpu_extension.multiplies_bfloat16():
        return
    packed = torch.ops.sasa.pack_projection(weight, bias, parts)
    rels = [None if rel is None else rel.to(packed.dtype) for rel in rels]
    kh, kw = options["kernel_size"]
    window = (options["num_heads"], kh, kw, 1, 1, 1.0, options["pool"], options["content"], options["relu"])
    for channels_last in (False, True):
        args = (x, packed, *rels, len(weight) // parts, *window, channels_last)
        opcheck(torch.ops.sasa.local_self_attention.default, args)


@needs_kernels
def test_a_frozen_network_packs_its_weights_once() -> None:
    """Inductor folds what depends on parameters alone."""
    layer = LocalSelfAttention2d(4, 8, 3, num_heads=2).eval()
    torch.compiler.reset()
    with torch.no_grad(), torch._inductor.config.patch(freezing=True):
        run = torch.compile(layer, fullgraph=True)
        want, out = layer(X), run(X)
        with torch.profiler.profile() as profile:
            run(X)
    names = [event.key for event in profile.key_averages()]
    torch.testing.assert_close(out, want, rtol=0, atol=0)
    assert KERNEL in names
    assert "sasa::pack_projection" not in names


@needs_kernels
def test_packed_for_another_call(capability: str) -> None:
    packed = torch.ops.sasa.pack_projection(WEIGHT, None, 3)
    for wrong in (packed.double(), packed[:2], packed[..., :16], packed[:, :, 1:]):
        with pytest.raises(RuntimeError, match="packed: expected sasa::pack_projection's result"):
            torch.ops.sasa.local_self_attention(
                X, wrong, None, None, 8, 2, 3, 3, 1, 1, 1.0, 1, True, False, False
            )


@needs_kernels
def test_flops_are_those_of_the_parts() -> None:
    tensors, options = draw(5)
    with torch.no_grad(), FlopCounterMode(display=False) as fused:
        local_self_attention(*tensors, **options, backend="fused_cpu")  # type: ignore[arg-type]
    x, weight, bias, *rels = tensors
    content = options.pop("content")
    with torch.no_grad(), FlopCounterMode(display=False) as apart:
        q, *k, v = F.conv2d(x, weight, bias).chunk(3 if content else 2, dim=1)  # type: ignore[arg-type]
        local_attention(q, k[0] if content else None, v, *rels, **options, backend="cpu")
    assert fused.get_total_flops() == apart.get_total_flops() > 0


_generator = torch.Generator().manual_seed(0)
X, WEIGHT = (torch.randn(size, generator=_generator) for size in ((1, 4, 5, 6), (24, 4, 1, 1)))


def attend(x: Tensor = X, weight: Tensor = WEIGHT, **options: Any) -> Tensor:
    return local_self_attention(x, weight, num_heads=2, kernel_size=3, **options)


@needs_kernels
@pytest.mark.parametrize("grad", [False, True])
def test_the_kernel_runs_where_no_gradient_is_wanted(grad: bool) -> None:
    weight = WEIGHT.clone().requires_grad_(grad)
    assert (KERNEL in called(lambda: attend(weight=weight))) is not grad
    with torch.no_grad():
        assert KERNEL in called(lambda: attend(weight=weight))


@needs_kernels
def test_a_frozen_layer_takes_the_kernel_with_gradients_on() -> None:
    layer = LocalSelfAttention2d(4, 8, 3, num_heads=2).requires_grad_(False)
    assert KERNEL in called(lambda: layer(X))
    assert KERNEL not in called(lambda: layer(X.clone().requires_grad_()))
    layer.rel_row.requires_grad_()  # type: ignore[union-attr]
    assert KERNEL not in called(lambda: layer(X))


@needs_kernels
@pytest.mark.parametrize("backend", ["fused_cpu", "cpu", "reference"])
def test_a_name_means_one_kernel(backend: str) -> None:
    """For the op and for the layer."""
    layer = LocalSelfAttention2d(4, 8, 3, num_heads=2, backend=backend)
    with torch.no_grad():
        for run in (lambda: attend(backend=backend), lambda: layer(X)):
            names = called(run)
            assert (KERNEL in names) == (backend == "fused_cpu")
            assert ("sasa::local_attention" in names) == (backend == "cpu")
    if backend == "fused_cpu":
        with pytest.raises(ValueError, match=r"\(fused_cpu: a gradient of x or a weight is wanted\)"):
            layer(X)


@needs_kernels
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # in torch.func.jvp
def test_the_kernel_is_not_for_these() -> None:
    with torch.no_grad():
        assert KERNEL not in called(lambda: attend(backend="reference"))
        assert KERNEL not in called(lambda: attend(X.half(), WEIGHT.half()))
        _, tangent = torch.func.jvp(attend, (X,), (X,))
        assert tangent.abs().sum() > 0


@needs_kernels
def test_bfloat16_only_where_the_machine_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = X.bfloat16(), WEIGHT.bfloat16()
    with torch.no_grad():
        assert (KERNEL in called(lambda: attend(x, weight))) is cpu_extension.multiplies_bfloat16()
        want = attend(x, weight)
        monkeypatch.setenv("SASA_CPU_CAPABILITY", "portable")
        assert KERNEL not in called(lambda: attend(x, weight))
        torch.testing.assert_close(attend(x, weight), want, rtol=0, atol=2.0**-6 * want.abs().max().item())
        packed = torch.ops.sasa.pack_projection(weight, None, 3)
        with pytest.raises(RuntimeError, match="x: expected float32 or float64"):
            torch.ops.sasa.local_self_attention(
                x, packed, None, None, 8, 2, 3, 3, 1, 1, 1.0, 1, True, False, False
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_casts_as_for_a_convolution(dtype: torch.dtype) -> None:
    tensors = [X, WEIGHT, torch.ones(24), None, None]
    options = {"num_heads": 2, "kernel_size": 3, "content": True}
    want = composition(tensors, **options)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = attend(X.to(dtype), bias=torch.ones(24))
        plain = composition(tensors, **options)
    assert out.dtype == plain.dtype == torch.bfloat16
    assert (out - want).abs().max() <= max((plain - want).abs().max(), 2.0**-8 * want.abs().max())


def test_gradients_are_those_of_the_parts() -> None:
    tensors = [X.double().requires_grad_(), WEIGHT.double().requires_grad_(), None, None, None]
    options = {"num_heads": 2, "kernel_size": 3}
    given = [t for t in tensors if t is not None]
    got = torch.autograd.grad(local_self_attention(*given, **options).sin().sum(), given)
    want = torch.autograd.grad(composition(tensors, content=True, **options).sin().sum(), given)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("content", [True, False])
def test_wrong_weights(content: bool) -> None:
    for weight in (
        torch.ones(25, 4, 1, 1),
        torch.ones(24, 3, 1, 1),
        torch.ones(24, 4, 3, 3),
        torch.ones(24, 4),
    ):
        with pytest.raises(ValueError, match=r"weight: expected \([23]·N·D, C, 1, 1\)"):
            attend(weight=weight, content=content)


# What is given instead; the exception; the message.
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x_none": ({"x": None}, TypeError, "x: expected a torch.Tensor, got NoneType"),
    "x_list": ({"x": [1.0]}, TypeError, "x: expected a torch.Tensor, got list"),
    "x_int": ({"x": X.long()}, TypeError, "x: expected a floating dtype .*, got torch.int64"),
    "x_sparse": ({"x": X.to_sparse()}, TypeError, "x: expected a floating dtype .* and dense, .*sparse"),
    "x_3d": ({"x": X[0]}, ValueError, r"x: expected \(B, C, H, W\) .*, got \(4, 5, 6\)"),
    "x_no_rows": ({"x": X[:, :, :0]}, ValueError, r"x: expected .* H, W ≥ 1, got \(1, 4, 0, 6\)"),
    "x_no_columns": ({"x": X[..., :0]}, ValueError, r"x: expected .* H, W ≥ 1, got \(1, 4, 5, 0\)"),
    "x_no_channels": ({"x": X[:, :0]}, ValueError, r"x: expected .* with C, .*, got \(1, 0, 5, 6\)"),
    "weight_none": ({"weight": None}, TypeError, "weight: expected a torch.Tensor, got NoneType"),
    "weight_int": (
        {"weight": WEIGHT.long()},
        TypeError,
        "weight: expected a floating dtype .*, got torch.int64",
    ),
    "weight_dtype": ({"weight": WEIGHT.double()}, TypeError, "weight: expected torch.float32 as x .*float64"),
    "weight_device": (
        {"weight": WEIGHT.to("meta")},
        ValueError,
        "weight: expected device cpu as x has, got meta",
    ),
    "weight_no_rows": ({"weight": WEIGHT[:0]}, ValueError, r"weight: expected .*, got \(0, 4, 1, 1\)"),
    "bias_list": ({"bias": [0.0] * 24}, TypeError, "bias: expected a torch.Tensor, got list"),
    "bias_int": (
        {"bias": torch.ones(24).long()},
        TypeError,
        "bias: expected a floating dtype .*, got torch.int64",
    ),
    "bias_dtype": ({"bias": torch.ones(24).half()}, TypeError, "bias: expected torch.float32 as x .*float16"),
    "bias_length": ({"bias": torch.ones(23)}, ValueError, r"bias: expected \(24,\) .*, got \(23,\)"),
    "bias_2d": ({"bias": torch.ones(24, 1)}, ValueError, r"bias: expected \(24,\) .*, got \(24, 1\)"),
    "no_logit": ({"content": False}, ValueError, "content: False leaves no logit without rel_row or rel_col"),
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name: str, backend: str, grad: bool) -> None:
    changes, exception, message = WRONG[name]
    with torch.set_grad_enabled(grad), pytest.raises(exception, match=f"^{message}") as caught:
        attend(**changes, backend=backend)
    assert type(caught.value) is exception


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="backend: expected"):
        attend(backend="gpu")
    with torch.no_grad(), pytest.raises(ValueError, match="rel_row: expected"):
        attend(rel_row=torch.ones(2, 5, 2))
    with torch.no_grad(), pytest.raises(ValueError, match="num_heads: expected a divisor"):
        local_self_attention(X, WEIGHT, num_heads=3)


class Changes:
    """What people do to a layer's projections."""

    @staticmethod
    def hooked(layer: LocalSelfAttention2d) -> None:
        layer.qkv.register_forward_hook(lambda module, args, out: out * 2)

    @staticmethod
    def parametrized(layer: LocalSelfAttention2d) -> None:
        torch.nn.utils.parametrizations.weight_norm(layer.qkv)

    @staticmethod
    def sequential(layer: LocalSelfAttention2d) -> None:
        layer.qkv = torch.nn.Sequential(layer.qkv, torch.nn.ReLU())  # type: ignore[assignment]

    @staticmethod
    def spatial(layer: LocalSelfAttention2d) -> None:
        layer.qkv = torch.nn.Conv2d(4, 24, 3, padding=1)


@pytest.mark.parametrize(
    "change", [Changes.hooked, Changes.parametrized, Changes.sequential, Changes.spatial]
)
def test_layer_calls_changed_projections(
    change: Callable[[LocalSelfAttention2d], None],
) -> None:
    layer = LocalSelfAttention2d(4, 8, 3, num_heads=2)
    change(layer)
    want = layer(X).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(X), want, rtol=0, atol=2e-6)


@needs_kernels
@pytest.mark.parametrize("position", ["relative", "absolute", "none"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layer_takes_the_kernel_without_gradients(position: str, layout: torch.memory_format) -> None:
    layer = LocalSelfAttention2d(4, 8, 3, 2, num_heads=2, position=position, bias=True)
    x = X.to(memory_format=layout)
    want = layer(x).detach()
    with torch.no_grad():
        assert KERNEL in called(lambda: layer(x))
        out = layer(x)
    assert out.stride() == want.stride()
    torch.testing.assert_close(out, want, rtol=0, atol=2e-6)
