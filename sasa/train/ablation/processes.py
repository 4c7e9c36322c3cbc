"""Training runs in processes of their own, so that a failed run does not affect the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sasa.train.classification.config import TrainConfig
from sasa.train.run_folder import CHECKPOINTS, CONFIG_FILE, RESULTS_FILE

LOG = "log.txt"


class Outcome(NamedTuple):
    """The outcome of a run: results, an error, or neither if the time was over.

    Attributes:
        folder: The run folder.
        results: The content of results.json.
        error: The error, in one line.
    """

    folder: Path
    results: dict[str, Any] | None = None
    error: str | None = None


def finished(folder: Path) -> dict[str, Any] | None:
    """The results of a finished run, or None."""
    path = folder / RESULTS_FILE
    return json.loads(path.read_text()) if path.is_file() else None


def run_all(
    configs: Sequence[TrainConfig],
    *,
    jobs: int,
    deadline: float | None,
    on_start: Callable[[Path], None],
    on_end: Callable[[Outcome], None],
) -> None:
    """Train or resume runs concurrently; they share the threads of torch.

    The output of a run is written to log.txt in its folder, and its checkpoints are removed when it is
    finished. If this process is interrupted or killed, the active runs stop too, and continue from their last
    epoch next time.

    Args:
        configs: The configurations of the runs that are not finished.
        jobs: Number of concurrent processes, at least 1.
        deadline: Value of time.monotonic() at which the active runs are stopped, and no more are started;
            None means never.
        on_start: Called with the folder of a run when it starts.
        on_end: Called with the outcome of a run when it ends.
    """
    context = _context()
    threads = max(1, torch.get_num_threads() // jobs)
    waiting = list(reversed(configs))
    running: dict[int, tuple[BaseProcess, Connection, Path]] = {}
    try:
        while waiting or running:
            if stopped := deadline is not None and time.monotonic() >= deadline:
                waiting.clear()
                for process, _, _ in running.values():
                    _kill(process)
            while waiting and len(running) < jobs:
                config = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(config, threads, sender))  # type: ignore[attr-defined]
                on_start(config.folder)
                process.start()
                sender.close()
                running[process.sentinel] = (process, receiver, config.folder)
            timeout = None if stopped or deadline is None else max(0.0, deadline - time.monotonic())
            for sentinel in wait(list(running), timeout) if running else ():
                process, receiver, folder = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                on_end(_outcome(process, receiver, folder, stopped=stopped))
    finally:
        for process, _, _ in running.values():
            _kill(process)
            process.join()


def _kill(process: BaseProcess) -> None:
    """End a run and its loader processes, which would not notice it if they have just started."""
    assert process.pid is not None
    # The process does not lead a group yet, or is a zombie, whose group macOS protects.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _context() -> BaseContext:
    """On Linux, processes are forked from one that has imported everything and computed nothing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sasa.train.run", "sasa.train.classification.task"])
    return context


def _outcome(process: BaseProcess, receiver: Connection, folder: Path, *, stopped: bool) -> Outcome:
    try:
        message = receiver.recv()
    except EOFError:
        message = None
    receiver.close()
    results = finished(folder)
    if results is not None:
        return Outcome(folder, results=results)
    if message is None and stopped:
        return Outcome(folder)
    code = process.exitcode or 0
    ended = f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Outcome(folder, error=message or ended)


def _child(config: TrainConfig, threads: int, sender: Connection) -> None:
    """Train in this process; an error is sent as one line."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    os.setpgid(0, 0)  # for _kill and _end_with
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    # The loader processes of the run should start in the default way.
    multiprocessing.set_start_method(None, force=True)
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(threads)
    try:
        from sasa.train import resume, train

        if (folder / CONFIG_FILE).exists():
            resume(folder)
        else:
            train(config)
        # Three checkpoints with weights, moving average and momentum are far larger than the weights.
        shutil.rmtree(folder / CHECKPOINTS)
    except Exception as error:
        traceback.print_exc()
        sender.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
        sys.exit(1)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)
