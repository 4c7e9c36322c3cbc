"""Inference times of networks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

import sasa

Key = TypeVar("Key")

BATCH, ROUNDS, TURN_SECONDS = 32, 7, 0.3
METHOD = (
    f"sasa.fuse, eval, inference_mode, channels-last, batches of {BATCH} random images; the networks take "
    f"turns of at least {TURN_SECONDS} s, for one warm-up round and {ROUNDS} measured rounds; median time "
    f"of a batch, divided by {BATCH}"
)


class Timed(NamedTuple):
    """A network to time.

    Attributes:
        network: The network; it is fused, and moved to the GPU if available.
        size: (C, H, W) of the images.
        precision: "32-true", or "bf16-mixed" or "16-mixed" for autocast.
    """

    network: nn.Module
    size: tuple[int, int, int]
    precision: str = "32-true"


def inference_seconds(networks: Mapping[Key, Timed]) -> dict[Key, float]:
    """Seconds per image of several networks, which take turns so that other load affects all of them alike.

    See METHOD. The device is a GPU if available, or the CPU with torch's number of threads. Times from
    different calls are less comparable.

    Args:
        networks: The networks, by any key.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ready = {}
    for key, (network, size, precision) in networks.items():
        fused = sasa.fuse(network.eval()).to(device).to(memory_format=torch.channels_last)
        images = torch.randn(BATCH, *size, device=device).to(memory_format=torch.channels_last)
        ready[key] = fused, images, precision
    seconds: dict[Key, list[float]] = {key: [] for key in ready}
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            for key, (network, images, precision) in ready.items():
                times = _turn(network, images, precision)
                seconds[key] += times if number else []
    return {key: statistics.median(times) / BATCH for key, times in seconds.items()}


def _turn(network: nn.Module, images: torch.Tensor, precision: str) -> list[float]:
    """Seconds of each batch in one turn."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    times: list[float] = []
    total = 0.0
    with torch.autocast(images.device.type, dtype, enabled=precision != "32-true"):
        while total < TURN_SECONDS:
            _wait_for(images.device)
            start = time.perf_counter()
            network(images)
            _wait_for(images.device)
            times.append(time.perf_counter() - start)
            total += times[-1]
    return times


def inference_machine() -> dict[str, Any]:
    """Device, threads, versions and method of the times."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sasa": sasa.__version__,
        "method": METHOD,
    }


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
