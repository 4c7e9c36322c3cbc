"""What the processes of a command print."""

from __future__ import annotations

import logging
import os


def hide_lightning_notices() -> None:
    """Hide Lightning's notices about hardware and its tips; its warnings stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def is_first_process() -> bool:
    """Whether this process is the first of those that torchrun, Lightning or Slurm started."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"
