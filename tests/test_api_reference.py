"""docs/api.md is what the code says, so that no public name or parameter changes unnoticed."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path
from types import GenericAlias

import pytest

import sasa

ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "api_reference.py"))


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == TOOL["render"](), "run `make api`, and look at what it changes"


@pytest.mark.parametrize("module", TOOL["MODULES"])
def test_every_public_name_has_a_docstring(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    for name in found.__all__:
        value = getattr(found, name)
        if not callable(value) or isinstance(value, GenericAlias):
            continue
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), f"{name} has a generated docstring"


@pytest.mark.parametrize("name", ["LocalSelfAttention2d", "AttentionStem"])
def test_public_methods_have_docstrings(name: str) -> None:
    methods = {key: value for key, value in vars(getattr(sasa, name)).items() if key[0] != "_"}
    undocumented = {key for key, value in methods.items() if callable(value) and not value.__doc__}
    assert undocumented <= {"forward", "extra_repr"}


def test_dir_shows_what_is_public() -> None:
    assert set(dir(sasa)) == set(sasa.__all__)


def test_version() -> None:
    assert all(part.isdigit() for part in sasa.__version__.split(".")[:2])


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'sasa' has no attribute 'attention'"):
        sasa.attention  # noqa: B018
