"""Every backend against the oracle in seeded random cases; the seed is the test's index.

`SASA_SWEEP_CASES=5000 python -m pytest tests/ops/test_sweep.py` (`make sweep`) runs more of the same series.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial

import pytest
import torch

import sasa
from sasa.ops import support

from .cases import LAYOUTS, Case, judge
from .runners import DEVICES

NUM_CASES = int(os.environ.get("SASA_SWEEP_CASES", "300"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_case(seed: int, device: str) -> None:
    """Outputs, and gradients in every second case; a backend that cannot run it has to say so."""
    case = Case.draw(seed)
    args = case.tensors(device)
    for backend, reasons in support(*args, **case.options()).items():
        op = partial(sasa.local_attention, backend=backend)
        if reasons:
            with pytest.raises(ValueError, match=f"backend='{backend}'") as refusal:
                op(*args, **case.options())
            assert all(reason in str(refusal.value) for reason in reasons)
            continue
        errors = judge(op, case, device=device, gradients=seed % 2 == 0)
        wrong = {name: error for name, error in errors.items() if not error <= 1}
        assert not wrong, f"{backend} on {device}: error / allowed error = {wrong} in {case}"


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
        seen["value width unlike width"] += case.width != case.value_width
        seen.update([case.dtype, ("heads", case.heads), *enumerate(case.layouts)])
    dtypes = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    layouts = {(index, layout) for index in range(3) for layout in LAYOUTS}
    assert {("heads", n) for n in (1, 2, 3, 4)} | dtypes | layouts <= set(seen)
    assert min(seen.values()) >= 5, seen
