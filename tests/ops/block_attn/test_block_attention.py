"""Attention inside blocks: every backend and capability against loops, and what torch does with the op."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sasa.ops import block_attention, block_attention_statistics, cpu_extension, support
from sasa.ops.standard_operations import standard_operations

from ..kernels import needs_kernels
from . import oracle
from .cases import Case, judge

CASES = int(os.environ.get("SASA_SWEEP_CASES", "40"))
BACKENDS = ["reference", *["cpu"] * cpu_extension.is_available()]
STEM = Case(size=(10, 13), heads=4, head_dim=16)  # the shape that has kernels of its own
ODD = Case(size=(7, 8), batch=1, channels=2, heads=3, head_dim=5, block_size=3, seed=1)


def arguments(case: Case, **changes: Any) -> list[Tensor]:
    """x, and qk_weight, rel_weight and v_weight that want gradients."""
    x, *learned = Case(**{**vars(case), **changes}).arguments()
    return [x, *(a.detach().requires_grad_() for a in learned)]


def contiguous(case: Case) -> list[Tensor]:
    """What the compiled op itself takes."""
    return [a.detach().contiguous().requires_grad_(a.requires_grad) for a in arguments(case)]


def results(args: list[Tensor], block_size: int, backend: str = "cpu") -> list[Tensor]:
    """Outputs, maxima and statistics, and the gradients of each of them."""
    out = block_attention(*args, block_size=block_size, backend=backend)
    statistics = block_attention_statistics(*args, block_size=block_size, backend=backend)
    total = statistics[0].double().square().sum() + statistics[1].sum() + statistics[2].square().sum()
    return [
        out,
        *statistics,
        *torch.autograd.grad(out.double().square().sum(), args[1:]),
        *torch.autograd.grad(total, args[1:]),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(CASES))
def test_sweep(backend: str, seed: int) -> None:
    case = Case.draw(seed)
    wrong = {name: factor for name, factor in judge(case, backend).items() if not factor <= 1}
    assert not wrong, case


@pytest.mark.parametrize("seed", range(CASES))
def test_sweep_of_exports(seed: int) -> None:
    """What exports take, whatever backend is asked for."""
    case = Case.draw(seed)
    with standard_operations():
        wrong = {name: factor for name, factor in judge(case, "reference").items() if not factor <= 1}
    assert not wrong, case


@needs_kernels
@pytest.mark.parametrize("seed", range(max(8, CASES // 5)))
@pytest.mark.parametrize("capability", cpu_extension.capabilities())
def test_every_capability(monkeypatch: pytest.MonkeyPatch, capability: str, seed: int) -> None:
    monkeypatch.setenv("SASA_CPU_CAPABILITY", capability)
    for case in (Case.draw(10_000 + seed), Case(**{**vars(STEM), "seed": seed, "layout": "channels_last"})):
        wrong = {name: factor for name, factor in judge(case, "cpu").items() if not factor <= 1}
        assert not wrong, case


@needs_kernels
def test_unknown_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SASA_CPU_CAPABILITY", "avx1024")
    with pytest.raises(RuntimeError, match=r"SASA_CPU_CAPABILITY: .*got avx1024"):
        block_attention(*STEM.arguments(), block_size=4, backend="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("max_pool", [None, False, True])
def test_gradients_are_the_derivatives(backend: str, max_pool: bool | None) -> None:
    """max_pool=None: with statistics. The first and the second derivative against finite differences."""
    args = arguments(ODD, dtype=torch.float64, size=(4, 5), heads=2, head_dim=2, magnitude=0.5)

    def run(*learned: Tensor) -> Any:
        if max_pool is None:
            return block_attention_statistics(args[0], *learned, block_size=3, backend=backend)
        return block_attention(args[0], *learned, block_size=3, max_pool=max_pool, backend=backend)

    torch.autograd.gradcheck(run, args[1:])
    torch.autograd.gradgradcheck(run, args[1:])


def test_gradient_of_the_image_is_the_derivative() -> None:
    args = arguments(ODD, dtype=torch.float64, size=(4, 5), heads=2, head_dim=2)
    args[0].requires_grad_()
    torch.autograd.gradcheck(lambda *a: block_attention(*a, block_size=3), args)


@needs_kernels
@pytest.mark.parametrize("case", [STEM, ODD], ids=["stem", "odd"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_maximum_is_that_of_the_outputs_to_the_bit(case: Case, dtype: torch.dtype, layout: str) -> None:
    args = arguments(case, dtype=dtype, layout=layout)
    out = block_attention(*args, block_size=case.block_size, backend="cpu")
    pooled = block_attention(*args, block_size=case.block_size, max_pool=True, backend="cpu")
    assert torch.equal(pooled, F.max_pool2d(out, case.block_size, ceil_mode=True))
    assert torch.equal(
        pooled, block_attention_statistics(*args, block_size=case.block_size, backend="cpu")[0]
    )
    kept = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert out.is_contiguous(memory_format=kept)
    assert pooled.is_contiguous(memory_format=kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_maxima_give_the_gradient_to_the_first(backend: str) -> None:
    check_equal_maxima_give_the_gradient_to_the_first(backend, torch.float64)


def check_equal_maxima_give_the_gradient_to_the_first(
    backend: str, dtype: torch.dtype, device: str = "cpu"
) -> None:
    x = torch.ones(1, 1, 2, 3, dtype=dtype, device=device)
    qk_weight, rel_weight = x.new_zeros(1, 1, 1), x.new_zeros(1, 1, 4, 4).requires_grad_()
    v_weight = x.new_ones(4, 1, 1).requires_grad_()
    out = block_attention(x, qk_weight, rel_weight, v_weight, block_size=2, max_pool=True, backend=backend)
    grads = torch.autograd.grad(out.sum(), (rel_weight, v_weight))
    assert grads[1].flatten().tolist() == [0.75, 0.25, 0.75, 0.25]


@needs_kernels
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_variance_of_outputs_far_from_zero(mean: float) -> None:
    check_variance_of_outputs_far_from_zero("cpu", mean, (4, 2, 40, 44))


def check_variance_of_outputs_far_from_zero(
    backend: str, mean: float, shape: tuple[int, ...], device: str = "cpu"
) -> None:
    """Sums of blocks in float32 would lose all digits."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    x[:, 1] = 1
    v_weight = torch.cat((x.new_ones(16, 16, 1), x.new_full((16, 16, 1), mean)), 2)
    zeros = x.new_zeros(2, 2, 2), x.new_zeros(2, 2, 16, 16)
    _, got_mean, got_var = block_attention_statistics(x, *zeros, v_weight, block_size=4, backend=backend)
    exact = block_attention(
        x.double(), *(z.double() for z in zeros), v_weight.double(), block_size=4, backend="reference"
    )
    # Float32 holds outputs near 1000 to 3e-5, and their deviation is 0.26; measured 2e-5 and 3e-5 in 7,040
    # pixels. What rounding does to the variance averages out.
    few = max(1.0, (4 * 40 * 44 / x[:, 0].numel()) ** 0.5)
    assert (got_mean - exact.mean((0, 2, 3))).abs().max() < 1e-7 * (1 + mean)
    assert (got_var / exact.var((0, 2, 3), correction=0) - 1).abs().max() < (1e-6 + 1e-7 * mean) * few


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@needs_kernels
@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 90, 88), (5, 30, 33)], ids=str)
def test_threads_do_not_change_a_bit(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    args = arguments(STEM, dtype=dtype, batch=size[0], size=size[1:])
    runs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        runs.append(results(args, 4))
    for run in runs[1:]:
        assert all(torch.equal(x, y) for x, y in zip(run, runs[0], strict=True))


@needs_kernels
@pytest.mark.parametrize("capability", cpu_extension.capabilities())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (5, 6), (9, 12)], ids=str)
def test_not_a_number_passes(
    monkeypatch: pytest.MonkeyPatch, capability: str, value: float, place: tuple[int, int]
) -> None:
    """In a full and in partial blocks; no other block is touched."""
    monkeypatch.setenv("SASA_CPU_CAPABILITY", capability)
    check_not_a_number_passes("cpu", STEM, value, place)


def check_not_a_number_passes(
    backend: str, case: Case, value: float, place: tuple[int, int], device: str = "cpu"
) -> None:
    args = [a.detach().to(device).requires_grad_(a.requires_grad) for a in arguments(case)]
    args[0][(1, 1, *place)] = value
    got, want = results(args, case.block_size, backend), results(args, case.block_size, "reference")
    for x, y in zip(got[:4], want, strict=False):
        assert torch.equal(x.isnan(), y.isnan())
    for x, y in zip(got[4:], want[4:], strict=True):
        # In gradients the reference has some more of them: at positions that a partial block does not have.
        assert x.isnan().any()
        assert (x.isnan() <= y.isnan()).all()
    assert got[0].isnan().any()
    assert not got[0][0].isnan().any()


@needs_kernels
@pytest.mark.parametrize("query", [0, 7, 15])
def test_one_row_of_weights_that_is_not_a_number_is_the_maximum(query: int) -> None:
    check_one_row_of_weights("cpu", STEM, query)


def check_one_row_of_weights(backend: str, case: Case, query: int, device: str = "cpu") -> None:
    args = [a.detach().to(device) for a in arguments(case)]
    rel_weight = args[2].clone()
    rel_weight[0, 0, query, 3] = torch.nan
    out = block_attention(args[0], args[1], rel_weight, args[3], block_size=4, max_pool=True, backend=backend)
    assert out[:, : case.head_dim, 0, 0].isnan().all()
    assert not out[:, case.head_dim :].isnan().any()


@needs_kernels
@pytest.mark.parametrize("magnitude", [30.0, 1000.0])
def test_large_logits(magnitude: float) -> None:
    """They overflow no exponential."""
    args = arguments(STEM, magnitude=magnitude)
    got = block_attention(*args, block_size=4, backend="cpu")
    want = block_attention(*(a.double() for a in args), block_size=4, backend="reference")
    assert got.isfinite().all()
    # A softmax of such logits picks one key; which one is a matter of the last digit only in few places.
    wrong = (got - want).abs() > 1e-4 * want.abs().max()
    assert wrong.float().mean() < 0.01


def test_loops_agree_on_an_image_of_one_pixel() -> None:
    x, qk_weight, rel_weight, v_weight = (a.double() for a in ODD.arguments())
    x = x[:, :, :1, :1]
    want = torch.einsum("oc,bchw->bohw", v_weight[0], x)
    assert torch.allclose(block_attention(x, qk_weight, rel_weight, v_weight, block_size=3), want)
    got = oracle.block_attention(*(a.numpy() for a in (x, qk_weight, rel_weight, v_weight)), 3)
    np.testing.assert_allclose(got, want.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_images(backend: str) -> None:
    args = arguments(STEM, batch=0)
    out = block_attention(*args, block_size=4, backend=backend)
    assert out.shape == (0, 64, 10, 13)
    grads = torch.autograd.grad(out.sum(), args[1:])
    assert all((g == 0).all() for g in grads)
    assert block_attention(*args, block_size=4, max_pool=True, backend=backend).shape == (0, 64, 3, 4)


@needs_kernels
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # opcheck's own doing
@pytest.mark.parametrize("case", [STEM, ODD], ids=["stem", "odd"])
def test_opcheck(case: Case) -> None:
    x, *learned = contiguous(case)
    ops = torch.ops.sasa
    for channels_last in (False, True):
        for pool in (False, True):
            torch.library.opcheck(ops.block_attention, (x, *learned, case.block_size, pool, channels_last))
        statistics = (x, *learned, case.block_size, channels_last)
        torch.library.opcheck(ops.block_attention_statistics, statistics)
    out = ops.block_attention(x, *learned, case.block_size, False, False).detach()
    maximum, mean, var = (
        y.detach() for y in ops.block_attention_statistics(x, *learned, case.block_size, False)
    )
    backward, fixed = ops.block_attention_backward, [a.detach() for a in learned]
    torch.library.opcheck(backward, (out, None, None, None, x, *fixed, case.block_size, False))
    torch.library.opcheck(backward, (maximum, var, mean, mean.clone(), x, *fixed, case.block_size, True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles(backend: str) -> None:
    """The kernels for any size at once, which takes the reference a minute."""

    def step(*args: Tensor) -> tuple[Tensor, ...]:
        out = block_attention(*args, block_size=4, backend=backend)
        return out, *block_attention_statistics(*args, block_size=4, backend=backend)

    compiled_step = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=backend == "cpu")
    for size in ((10, 13), (9, 8))[: 1 + (backend == "cpu")]:
        args = arguments(STEM, size=size)
        got, want = compiled_step(*args), step(*args)
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y)
        grads = [torch.autograd.grad(sum(y.sum() for y in ys), args[1:]) for ys in (got, want)]  # type: ignore[arg-type]
        for x, y in zip(*grads, strict=True):
            torch.testing.assert_close(x, y)


@needs_kernels
def test_flop_counter() -> None:
    """Squares 3 and 2 high, 3 and 1 wide."""
    args = Case(size=(5, 4), batch=2, channels=3, heads=2, head_dim=4, block_size=3).arguments()
    x, *learned = args[0], *(a.requires_grad_() for a in args[1:])
    pixels, pairs, outputs = 2 * 5 * 4, 2 * (9 + 4) * (9 + 1), 2 * 4
    # A pixel: its key through both heads' qk_weight, its value. A pair: two products of 3, a sum, softmax.
    plain = pixels * (2 * 2 * 9 + 2 * 3 * outputs) + pairs * (2 * (2 * 2 * 3 + 1 + 5) + 2 * outputs)
    pooled = plain + pixels * outputs
    for wanted, call in (
        (plain, lambda: block_attention(x, *learned, block_size=3, backend="cpu")),
        (pooled, lambda: block_attention(x, *learned, block_size=3, backend="cpu", max_pool=True)),
        (
            pooled + 4 * pixels * outputs,
            lambda: sum(
                y.sum() for y in block_attention_statistics(x, *learned, block_size=3, backend="cpu")
            ),
        ),
    ):
        with FlopCounterMode(display=False) as counter:
            out = call()
            assert counter.get_total_flops() == wanted
            out.sum().backward()
        assert counter.get_total_flops() == 3 * wanted


@needs_kernels
def test_exports() -> None:
    class Module(torch.nn.Module):
        def forward(self, *args: Tensor) -> Tensor:
            return block_attention(*args, block_size=4, max_pool=True, backend="cpu")

    args = STEM.arguments()
    exported = torch.export.export(Module(), args)
    assert torch.equal(exported.module()(*args), Module()(*args))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast(backend: str) -> None:
    args = arguments(STEM)
    with torch.autocast("cpu", torch.bfloat16):
        out = block_attention(*args, block_size=4, backend=backend)
        maximum, mean, _ = block_attention_statistics(*args, block_size=4, backend=backend)
        double = block_attention(*(a.double() for a in args), block_size=4, backend=backend)
    assert (out.dtype, maximum.dtype, mean.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert double.dtype == torch.float64
    assert torch.equal(out, block_attention(args[0].bfloat16(), *args[1:], block_size=4, backend=backend))


@needs_kernels
def test_less_precise_arguments_are_widened() -> None:
    args = STEM.arguments()
    narrow = [args[0].bfloat16(), *(a.bfloat16() for a in args[1:])]
    wide = [narrow[0], *(a.float() for a in narrow[1:])]
    got, want = (block_attention(*a, block_size=4, backend="cpu") for a in (narrow, wide))
    assert torch.equal(got, want)


@needs_kernels
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x, *a: (x.half(), *a), "x is torch.float16, not all of one of"),
        (lambda x, f, r, m: (x, f, r.double(), m), "rel_weight is torch.float64, wider than"),
        (lambda x, *a: (x.clone().requires_grad_(), *a), "a gradient of x is wanted"),
    ],
)
def test_why_the_kernels_cannot(change: Callable[..., Any], reason: str) -> None:
    args = change(*STEM.arguments())
    for op in (block_attention, block_attention_statistics):
        with pytest.raises(ValueError, match=rf"backend: expected one .*, got 'cpu' \(cpu: {reason}"):
            op(*args, block_size=4, backend="cpu")
        op(*args, block_size=4)  # auto takes the reference


@needs_kernels
def test_meta_tensors_have_the_shapes_of_the_kernels() -> None:
    args = [x.to("meta") for x in STEM.arguments()]
    assert support(block_attention, *args, block_size=4)["cpu"] == []
    assert block_attention(*args, block_size=4, max_pool=True).shape == (2, 64, 3, 4)
    out, mean, var = block_attention_statistics(*args, block_size=4)
    assert (out.shape, mean.shape, var.shape) == ((2, 64, 3, 4), (64,), (64,))


@needs_kernels
def test_the_compiled_op_itself_refuses_the_gradient_of_x() -> None:
    x, *learned = contiguous(STEM)
    out = torch.ops.sasa.block_attention(x.requires_grad_(), *learned, 4, False, False)
    with pytest.raises(NotImplementedError, match="no gradient of x"):
        out.sum().backward()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"x": [1.0]}, TypeError, r"x: expected a torch.Tensor, got list"),
        (
            {"qk_weight": torch.ones(4, 3, 3, dtype=torch.int64)},
            TypeError,
            r"qk_weight: expected a floating dtype",
        ),
        ({"rel_weight": torch.ones(1, device="meta")}, ValueError, r"rel_weight: expected device cpu"),
        ({"x": torch.ones(3, 8, 8)}, ValueError, r"x: expected \(B, C, H, W\).*got \(3, 8, 8\)"),
        ({"x": torch.ones(2, 3, 0, 8)}, ValueError, r"x: expected \(B, C, H, W\) with C, H, W ≥ 1"),
        (
            {"qk_weight": torch.ones(4, 3, 2)},
            ValueError,
            r"qk_weight: expected \(N, C, C\).*3, got \(4, 3, 2\)",
        ),
        (
            {"rel_weight": torch.ones(4, 3, 16, 9)},
            ValueError,
            r"rel_weight: .*\(4, 3, 16, 16\), got \(4, 3, 16",
        ),
        ({"v_weight": torch.ones(9, 64, 3)}, ValueError, r"v_weight: .*\(16, O, 3\), got \(9, 64, 3\)"),
        (
            {"v_weight": torch.ones(16, 63, 3)},
            ValueError,
            r"v_weight: expected a multiple of qk_weight's 4 heads",
        ),
        ({"block_size": 0}, ValueError, r"block_size: expected at least 1, got 0"),
        ({"block_size": 4.0}, TypeError, r"block_size: expected an int, got float 4.0"),
        ({"max_pool": 2}, TypeError, r"max_pool: expected a bool, got int 2"),
        (
            {"backend": "cuda"},
            ValueError,
            r"backend: expected 'auto' or one of \['cpu', 'triton', 'reference'\]",
        ),
        ({"backend": None}, TypeError, r"backend: expected 'auto' or one of .*, got NoneType"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    right = dict(zip(("x", "qk_weight", "rel_weight", "v_weight"), STEM.arguments(), strict=True))
    with pytest.raises(kind, match=message):
        block_attention(**{**right, "block_size": 4, **changes})


@needs_kernels
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which torch.func.jvp uses
def test_function_transforms_take_the_reference() -> None:
    """The kernels have no rules for them: a forward-mode tangent would silently be zero."""
    args = tuple(a.detach() for a in arguments(STEM, dtype=torch.float64))
    tangents = tuple(torch.ones_like(a) for a in args)

    def run(*args: Tensor, backend: str = "auto") -> Tensor:
        return block_attention(*args, block_size=4, backend=backend)

    def reference(*args: Tensor) -> Tensor:
        return run(*args, backend="reference")

    for transform in (
        lambda f: torch.func.jvp(f, args, tangents)[1],
        lambda f: torch.func.grad(lambda qk_weight: f(args[0], qk_weight, *args[2:]).sum())(args[1]),
        lambda f: torch.func.vmap(lambda x: f(x[None], *args[1:]))(args[0]),
    ):
        torch.testing.assert_close(transform(run), transform(reference), rtol=0, atol=1e-12)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(args[1], tangents[1])
        assert torch.autograd.forward_ad.unpack_dual(run(args[0], dual, *args[2:])).tangent is not None
        with pytest.raises(ValueError, match="cpu: forward-mode differentiation runs through it"):
            run(args[0], dual, *args[2:], backend="cpu")
    with pytest.raises(ValueError, match=r"cpu: torch.func transforms it"):
        torch.func.vmap(lambda x: run(x[None], *args[1:], backend="cpu"))(args[0])
