"""The lock of a run folder: one run writes to it at a time."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sasa.train.run_folder import LOCK_FILE

_logger = logging.getLogger(__name__)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is created if it does not exist.

    The operating system releases the lock when the process ends, however it ends. Loader processes do not
    inherit it.

    Args:
        folder: The run folder.

    Raises:
        BlockingIOError: Another process holds the lock; the error names the process.
        OSError: Nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                _logger.warning(
                    "%s: files cannot be locked there (%s); start no second run in it", folder, error
                )
            else:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BlockingIOError(
                    f"run: expected a folder that no other run writes to, got {folder}, to which {holder} "
                    "writes; wait for it, end it, or give another folder"
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
