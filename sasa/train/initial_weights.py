"""Errors of the weights that a network starts from by its own options, such as pretrained ones of timm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sasa.models.options import INITIAL_WEIGHTS
from sasa.train.torch_files import LOAD_ERRORS

_ERRORS: tuple[type[Exception], ...] = (OSError, *LOAD_ERRORS)


@contextmanager
def initial_weights_of(key: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn an error of timm, which may have no text, into one that names the key of the initial weights.

    Args:
        key: The key of the options.
        options: The options of a network. Without initial weights among them, errors pass unchanged.
    """
    given = [f"{name}: {options[name]}" for name in INITIAL_WEIGHTS if options.get(name)]
    try:
        yield
    except _ERRORS as error:
        if not given or isinstance(error, TypeError):  # an unknown option
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{key}: expected weights to start from ({', '.join(given)}), got an error: {reason}"
        raise (OSError if isinstance(error, OSError) else ValueError)(message) from error
