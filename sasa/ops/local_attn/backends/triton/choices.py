"""Measured choices of a kernel's form, which replace those of the table of `tiles.py`: none by default.

`tuning.tune_local_attention` measures them and writes them to a file, `tuning.load_tuning` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

KERNELS = ("forward", "queries", "keys")


class Choice(NamedTuple):
    """What one kernel is launched with; its tile follows."""

    dot: bool  # products on tensor cores
    warps: int  # of a program


@dataclass(frozen=True)
class Machine:
    """What a measurement holds for."""

    device: str  # its name
    triton: str  # version

    @classmethod
    def current(cls) -> Machine:
        """The current CUDA device and the Triton that is installed."""
        import torch
        import triton

        return cls(torch.cuda.get_device_name(), triton.__version__)


# In use, by `launch.Maps.key`. What is not here is the table's.
CHOICES: dict[str, Choice] = {}


def write(file: str | PathLike[str], choices: Mapping[str, Choice], machine: Machine) -> None:
    """As JSON, sorted."""
    kernels = {key: choice._asdict() for key, choice in sorted(choices.items())}
    text = json.dumps({"device": machine.device, "triton": machine.triton, "kernels": kernels}, indent=1)
    Path(file).write_text(text + "\n", encoding="utf-8")


def read(file: str | PathLike[str], machine: Machine) -> dict[str, Choice]:
    """What `write` wrote.

    Raises:
        ValueError: The file is of another machine, or is none of `write`'s.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        measured = Machine(found["device"], found["triton"])
        choices = {key: _choice(**one) for key, one in found["kernels"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"file: expected what tune_local_attention writes, got {str(file)!r} ({error!r}); tune again"
        ) from error
    if measured != machine:
        raise ValueError(
            f"file: expected choices for {machine.device} with Triton {machine.triton}, got {str(file)!r} "
            f"for {measured.device} with Triton {measured.triton}; tune into another file"
        )
    return choices


def _choice(*, dot: Any, warps: Any) -> Choice:
    if not isinstance(dot, bool) or type(warps) is not int or warps not in (1, 2, 4, 8):
        raise ValueError(f"dot {dot!r}, warps {warps!r}")
    return Choice(dot, warps)
