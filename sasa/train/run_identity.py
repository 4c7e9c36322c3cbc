"""What a resumed run shares with its checkpoint: network, optimizer, classes and images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from sasa.data.layout import quoted
from sasa.train.checkpoints import read_checkpoint
from sasa.train.config import RunConfig
from sasa.train.config_files import leaves, plain
from sasa.train.console import is_first_process
from sasa.train.fingerprint import fingerprint
from sasa.train.loaders import RunData
from sasa.train.run_folder import CONFIG_FILE

_PARTS = ("training", "validation", "test")

_logger = logging.getLogger(__name__)


class RunIdentity(Callback):
    """Stores the identity of a run in its checkpoints, and compares it when the run is resumed.

    The identity consists of the settings that determine the names and shapes of what a checkpoint contains,
    the classes, and for each part of the data the number of images and a fingerprint of their names and
    labels. Names are relative to the data, which may be moved.
    """

    def __init__(self, config: RunConfig, data: RunData) -> None:
        """Determine the identity.

        Args:
            config: The configuration.
            data: The images.
        """
        self._config = config
        self._identity: dict[str, Any] = {
            "settings": _settings(config),
            "classes": list(data.training.classes),
            "images": {part: fingerprint(data.contents(getattr(data, part))) for part in _PARTS},
        }

    def state_dict(self) -> dict[str, Any]:
        return self._identity

    def check(self, checkpoint: Path, *, accept_images: bool) -> None:
        """Compare this run with the one that wrote a checkpoint; other images are logged.

        Args:
            checkpoint: The checkpoint.
            accept_images: Log other images as information instead of a warning.

        Raises:
            ValueError: Settings or classes differ.
        """
        stored = read_checkpoint(checkpoint)["callbacks"].get(type(self).__qualname__)
        if stored is None:
            _logger.warning(
                "%s: expected the classes and images of the run, got a checkpoint without them; whether the "
                "data are the same was not checked",
                checkpoint,
            )
            return
        self._check_settings(stored["settings"], checkpoint)
        self._check_classes(stored["classes"], checkpoint)
        if (changes := _changes(stored["images"], self._identity["images"])) and is_first_process():
            accepted = "" if accept_images else "; --accept_images states that this is intended"
            level = logging.INFO if accept_images else logging.WARNING
            text = "%s: the images are not those of %s: %s%s"
            _logger.log(level, text, self._source, checkpoint, "; ".join(changes), accepted)

    @property
    def _source(self) -> str:
        return str(plain(self._config)["data"]["source"])

    def _check_settings(self, stored: dict[str, Any], checkpoint: Path) -> None:
        settings = self._identity["settings"]
        for key in sorted(stored.keys() | settings.keys()):
            if stored.get(key) != settings.get(key):
                raise ValueError(
                    f"{self._config.folder / CONFIG_FILE}: {key}: expected {stored.get(key)!r}, as in "
                    f"{checkpoint}, got {settings.get(key)!r}; restore it, or start a new run"
                )

    def _check_classes(self, stored: list[str], checkpoint: Path) -> None:
        classes = self._identity["classes"]
        if classes == stored:
            return
        missing, new = (
            [name for name in these if name not in those]
            for these, those in ((stored, classes), (classes, stored))
        )
        parts = [f"without {quoted(missing)}"] if missing else []
        parts += [f"with {quoted(new)}"] if new else []
        raise ValueError(
            f"{self._source}: expected the {len(stored)} classes of {checkpoint}, got {len(classes)} classes "
            f"{' and '.join(parts) or 'in another order'}; restore them, or start a new run"
        )


def _settings(config: RunConfig) -> dict[str, Any]:
    """The settings that determine what a checkpoint contains, by their dotted keys."""
    content = plain(config)
    model = {key: value for key, value in content["model"].items() if key != "weights"}
    return {
        **leaves(model, "model."),
        "data.in_chans": content["data"].get("in_chans"),
        "optimizer.name": config.optimizer.name,
        "optimizer.ema_decay": "0" if config.optimizer.ema_decay == 0 else "more than 0",
    }


def _changes(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What changed in each part of the data, in words."""
    changes = []
    for part in _PARTS:
        before, now = stored[part], current[part]
        if before["count"] != now["count"]:
            changes.append(f"{part}: expected {before['count']}, got {now['count']}")
        elif before["digest"] != now["digest"]:
            changes.append(f"{part}: {now['count']} as before, but with other names or labels")
    return changes
