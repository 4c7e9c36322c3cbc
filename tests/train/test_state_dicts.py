from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sasa.train.state_dicts import WRAPPERS, unwrap_network, unwrap_state_dict, without_prefixes

STATE = {"fc.weight": torch.ones(2, 1), "fc.bias": torch.zeros(2)}


@pytest.mark.parametrize("key", WRAPPERS)
def test_wrappers(key: str) -> None:
    assert unwrap_state_dict({key: STATE, "epoch": 3, "optimizer": {}}, Path("x")) == STATE


def test_without_a_wrapper() -> None:
    assert unwrap_state_dict(STATE, Path("x")) == STATE


def test_the_moving_average_comes_first() -> None:
    average = {"fc.weight": torch.zeros(1)}
    assert unwrap_state_dict({"state_dict": STATE, "state_dict_ema": average}, Path("x")) == average


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(1), "x.pth: expected tensors by name, got a Tensor"),
        (
            {"weights": STATE},
            "x.pth: expected tensors by name, got a dict named 'weights'; give a state dict",
        ),
        ({"model": {"a": 1}}, "got a int named 'a' under 'model'"),
        ({0: torch.zeros(1)}, "got a Tensor named 0"),
    ],
)
def test_other_contents(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unwrap_state_dict(content, Path("x.pth"))


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in STATE.items()}


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod."],
)
def test_prefixes(prefix: str) -> None:
    assert without_prefixes(prefixed(prefix), STATE) == STATE
    assert without_prefixes(prefixed(prefix)) == STATE


def test_a_part_that_was_compiled() -> None:
    assert without_prefixes({"a._orig_mod.b": STATE["fc.bias"]}) == {"a.b": STATE["fc.bias"]}


def test_names_of_the_network_are_no_prefixes() -> None:
    ours = prefixed("model.")
    assert without_prefixes(ours, ours) == ours
    assert without_prefixes(prefixed("module.model."), ours) == ours


def test_what_not_all_names_have_is_no_prefix() -> None:
    state = {**prefixed("model."), "loss.weight": torch.zeros(1)}
    assert without_prefixes(state, STATE) == state


def test_two_tensors_of_one_name_stay_two() -> None:
    state = {**STATE, **prefixed("_orig_mod.")}
    assert without_prefixes(state, STATE) == state


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_wrapped_networks(wrap: Any) -> None:
    network = nn.Sequential(nn.Linear(1, 2))
    assert unwrap_network(wrap(network)).state_dict().keys() == network.state_dict().keys()
    assert unwrap_network(wrap(nn.DataParallel(network))).state_dict().keys() == network.state_dict().keys()
    assert unwrap_network(network) is network
    assert without_prefixes(AveragedModel(network).state_dict()).keys() == network.state_dict().keys()
