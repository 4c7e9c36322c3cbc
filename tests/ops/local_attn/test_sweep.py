"""Every backend against the oracle in seeded random cases; the seed is the test's index.

`make sweep` sets SASA_SWEEP_CASES=5000, which runs more of the same series, and a fifth as many larger cases.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial

import pytest
import torch

import sasa
from sasa.ops import support

from ..kernels import DEVICES, capabilities, use_capability
from ..layouts import LAYOUTS
from .cases import Case, judge

NUM_CASES = int(os.environ.get("SASA_SWEEP_CASES", "300"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_case(seed: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, and gradients in every second case; a backend that cannot run it has to say so."""
    case = Case.draw(seed)
    args = case.tensors(device)
    for backend, reasons in support(sasa.local_attention, *args, **case.options()).items():
        op = partial(sasa.local_attention, backend=backend)
        if reasons:
            with pytest.raises(ValueError, match=f"^backend: expected .*, got '{backend}'") as refusal:
                op(*args, **case.options())
            assert all(reason in str(refusal.value) for reason in reasons)
            continue
        for capability in capabilities(backend):
            use_capability(monkeypatch, capability)
            errors = judge(op, case, device=device, gradients=seed % 2 == 0)
            wrong = {name: error for name, error in errors.items() if not error <= 1}
            assert not wrong, f"{backend} {capability} on {device}: error / allowed error = {wrong} in {case}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(NUM_CASES // 5))
def test_larger_case(seed: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients of every backend but the reference, whose float64 is the judge."""
    case = Case.draw_large(seed)
    for backend, reasons in support(sasa.local_attention, *case.tensors(device), **case.options()).items():
        for capability in () if reasons or backend == "reference" else capabilities(backend):
            use_capability(monkeypatch, capability)
            op = partial(sasa.local_attention, backend=backend)
            errors = judge(op, case, device=device, gradients=True, large=True)
            wrong = {name: error for name, error in errors.items() if not error <= 1}
            assert not wrong, f"{backend} {capability} on {device}: error / allowed error = {wrong} in {case}"


def test_cases_cover_what_they_should() -> None:
    """Each kind of case is among the first 200, where it could go wrong alone, at least five times."""
    seen: Counter[object] = Counter()
    for seed in range(200):
        case = Case.draw(seed)
        sides = list(zip(case.size, case.kernel, case.dilation, strict=True))
        seen["empty batch"] += case.batch == 0
        seen["no k"] += "k" not in case.given
        seen["k alone"] += case.given == ("k",)
        seen["one embedding"] += ("rel_row" in case.given) != ("rel_col" in case.given)
        seen["rectangular map, window and dilation"] += all(
            pair[0] != pair[1] for pair in (case.size, case.kernel, case.dilation)
        )
        seen["window larger than the map"] += all(k // 2 * d >= size for size, k, d in sides)
        seen["window inside the map"] += all(1 < k // 2 * d * 2 + 1 <= size for size, k, d in sides)
        seen["one row or column"] += 1 in case.size
        seen["odd blocks"] += case.pool == 2 and case.size[0] % 2 == 1 and case.size[1] % 2 == 1
        seen["relu"] += case.relu
        seen["relu after pool"] += case.relu and case.pool == 2
        seen["zero scale"] += case.scale == 0
        seen["embeddings of another dtype"] += case.dtype != case.rel_dtype
        seen["value width unlike width"] += case.head_dim != case.value_head_dim
        seen.update([case.dtype, ("heads", case.heads), *enumerate(case.layouts)])
    dtypes = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    layouts = {(index, layout) for index in range(3) for layout in LAYOUTS}
    assert {("heads", n) for n in (1, 2, 3, 4)} | dtypes | layouts <= set(seen)
    assert min(seen.values()) >= 5, seen


def test_larger_cases_cover_what_they_should() -> None:
    """Each kind among the first 60 at least three times."""
    seen: Counter[object] = Counter()
    for seed in range(60):
        case = Case.draw_large(seed)
        height, width = case.size
        (kh, kw), (dh, dw) = case.kernel, case.dilation
        strip = (3 + (kh - 1) * dh) * (width + (kw - 1) * dw) * (case.head_dim + case.value_head_dim) * 4
        seen["several vectors of 16 and a part of one"] += width > 32 and width % 16 != 0
        seen["strips that share no row"] += height > 2 * (3 + (kh - 1) * dh)
        seen["heads that do not share a cache"] += case.heads > 1 and case.heads * strip > 400 * 1024
        seen["heads that share a cache"] += case.heads > 1 and 2 * strip < 400 * 1024
        seen["odd blocks"] += case.pool == 2 and height % 2 == 1 and width % 2 == 1
        seen["pooled, not dilated"] += case.pool == 2 and case.dilation == (1, 1)
        seen["pooled, dilated"] += case.pool == 2 and case.dilation != (1, 1)
        seen["window larger than the map in one axis"] += (kh - 1) * dh >= height or (kw - 1) * dw >= width
        seen["channels-last throughout"] += case.layouts == ("channels_last",) * 3
        seen.update([case.dtype, *(("k", side) for side in case.kernel), ("D", case.head_dim)])
        seen.update([("Dv", case.value_head_dim), *enumerate(case.layouts), case.given])
    assert len([key for key in seen if isinstance(key, tuple) and key[0] == "Dv"]) == 9
    assert min(seen.values()) >= 3, seen
