"""The processes of a sweep that torchrun started, each of which takes its share of the runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed

T = TypeVar("T")

_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_PREFIXES = ("TORCHELASTIC_", "GROUP_", "ROLE_", "MASTER_")


@dataclass(frozen=True)
class Workers:
    """This worker among all.

    Attributes:
        rank: Its number, from 0; worker 0 takes the results together.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    def share(self, runs: Sequence[T]) -> Sequence[T]:
        """Every count-th of runs, which must be the same in all workers; so an early stop leaves rounds."""
        return runs[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """The values of all workers, of which each waits here for the others."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]


@contextmanager
def torchrun_workers() -> Iterator[Workers]:
    """The workers that torchrun started; one alone where it did not.

    Inside, the environment is without torchrun's ranks, so that a run is one of a single process, and on a
    machine with several GPUs worker i of the machine sees GPU i alone (from the first again where there are
    more workers than GPUs).
    """
    if not torch.distributed.is_torchelastic_launched():
        yield Workers()
        return
    workers = Workers(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    # One group for all sweeps of these processes: torchrun's store keeps the addresses of groups gone.
    if not torch.distributed.is_initialized():
        # A worker may have runs to go long after another has none.
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=365))
    before = dict(os.environ)
    gpus = _gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(os.environ["LOCAL_RANK"]) % len(gpus)]
    for name in before:
        if name in _RANKS or name.startswith(_PREFIXES):
            del os.environ[name]
    try:
        yield workers
    finally:
        os.environ.clear()
        os.environ.update(before)


def _gpus() -> list[str]:
    """The GPUs of this machine that torch sees, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return names.split(",")[:count]
