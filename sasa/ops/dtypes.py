"""Dtypes that the ops take, and those that they compute in."""

from __future__ import annotations

import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def arithmetic_dtype(storage: torch.dtype) -> torch.dtype:
    """The dtype of sums and learned arguments for maps stored in a dtype: at least float32."""
    return torch.promote_types(storage, torch.float32)
