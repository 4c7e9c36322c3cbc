"""Workers of a sweep, started by torchrun; each takes a share of the runs."""

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
    """This worker among all workers.

    Attributes:
        rank: Number of this worker, from 0; worker 0 writes the tables.
        count: Number of workers.
    """

    rank: int = 0
    count: int = 1

    def share(self, runs: Sequence[T]) -> Sequence[T]:
        """Every count-th run of a list that is the same in all workers; the order by seed is kept."""
        return runs[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """The values of all workers; each waits for the others."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]


@contextmanager
def torchrun_workers() -> Iterator[Workers]:
    """Yield the workers that torchrun started, or a single one without torchrun.

    Within the context, the environment has no ranks of torchrun, so each run is a single process. On a
    machine with several GPUs, its worker i can use GPU i only, starting again from the first if there are
    more workers than GPUs.
    """
    if not torch.distributed.is_torchelastic_launched():
        yield Workers()
        return
    workers = Workers(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    # One group for all sweeps of these processes, since torchrun's store keeps addresses of former groups.
    if not torch.distributed.is_initialized():
        # A worker may still have runs long after another is done.
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
    """The GPUs that torch can use on this machine, named as in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return names.split(",")[:count]
