"""State dicts as other tools write them: in wrappers, and with the prefixes of wrapped networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Keys under which training scripts save a state dict, in timm's order: the moving average first."""
COMPILED_PREFIX = "_orig_mod."
"""What torch.compile adds to names, also within a name."""
_PREFIXES = ("module.", "model.")  # of DataParallel and moving averages, and of LightningModules


def unwrap_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name in the content of a file of torch.save.

    Args:
        content: A state dict, or a dict with a state dict under one of WRAPPERS.
        path: The file, for the error message.

    Raises:
        ValueError: There is something else in it.
    """
    place = ""
    if isinstance(content, Mapping):
        for key in WRAPPERS:
            if isinstance(content.get(key), Mapping):
                content, place = content[key], f" under {key!r}"
                break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected tensors by name, got a {type(content).__name__}{place}")
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise ValueError(
                f"{path}: expected tensors by name, got a {type(value).__name__} named {name!r}{place}; give "
                f"a state dict, or a dict with one under {', '.join(WRAPPERS)}"
            )
    return dict(content)


def without_prefixes(state: Mapping[str, Tensor], ours: Collection[str] = ()) -> dict[str, Tensor]:
    """A state dict without the prefixes that wrapped networks add to all names.

    Args:
        state: Tensors by name.
        ours: Names of the network, of which no prefix is removed.
    """
    found = {name.replace(COMPILED_PREFIX, ""): value for name, value in state.items()}
    if len(found) < len(state):
        return dict(state)  # two tensors of one name: they are no prefixes
    if all(name.startswith("module.") or name == "n_averaged" for name in found):
        found.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel
    while found and found.keys().isdisjoint(ours):
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def unwrap_network(network: nn.Module) -> nn.Module:
    """The network that torch.compile, DataParallel or a moving average holds as its only child."""
    while (children := dict(network.named_children())).keys() in ({"module"}, {"_orig_mod"}):
        (network,) = children.values()
    return network
