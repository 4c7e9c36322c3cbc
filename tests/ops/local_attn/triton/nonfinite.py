"""The checks of `test_nonfinite.py` that meet each mask of the Triton kernels, one set of arguments each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import test_nonfinite as tests
from ..runners import Runner

CHECKS: dict[str, Callable[[Runner], None]] = {
    "surroundings": lambda r: tests.test_surroundings_are_never_read(r, (3, 5), 1, None),
    "surroundings, pooled": lambda r: tests.test_surroundings_are_never_read(r, (7, 4), 2, "k"),
    "large logits": lambda r: tests.test_large_logits(r, 1),
    "equal logits": lambda r: tests.test_equal_logits(r, -1e4),
    "v": lambda r: tests.test_v(r, torch.inf, (6, 7), 2),
    "v beside a wide window": lambda r: tests.test_v_beside_a_wide_window(r, 9, 1),
    "k": lambda r: tests.test_nan_in_k(r, (0, 0), 2),
    "infinity in k": tests.test_infinity_in_k,
    "q": lambda r: tests.test_q(r, torch.nan, (1, 3), 1),
    "rel_row": lambda r: tests.test_nan_in_rel_row(r, 0),
    "rel_col": lambda r: tests.test_nan_in_rel_col(r, 4),
    "gradient": lambda r: tests.test_nan_in_the_upstream_gradient(r, (0, 0)),
}
