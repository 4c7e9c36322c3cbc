"""`import sasa` in a fresh interpreter: silent, light, and useful where only torch is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def without(*packages: str) -> str:
    """Code before that of a test, by which these packages cannot be found."""
    return f"""
import sys
import torch
absent = {set(packages)}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


TORCH_ALONE = without("timm", "torchvision", "lightning", "torchmetrics", "matplotlib", "PIL")


def test_silent_and_light() -> None:
    result = run(
        """
        import sys, warnings
        import torch, torch.utils.flop_counter  # where our formulas are registered; it looks for triton
        before = set(sys.modules)
        warnings.simplefilter("error")
        import sasa
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        foreign = new - {"sasa", "torch"} - sys.stdlib_module_names
        sys.exit(f"brought in {sorted(foreign)}" if foreign else 0)
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_works_where_torch_alone_is_installed() -> None:
    result = run(
        TORCH_ALONE
        + textwrap.dedent(
            """
            from sasa.ops import local_attention
            q = torch.randn(1, 8, 5, 5)
            assert local_attention(q, q, q, num_heads=2, kernel_size=3).shape == q.shape
            import sasa
            x = torch.randn(1, 3, 9, 9)
            assert sasa.LocalSelfAttention2d(3, 16, stride=2)(x).shape == (1, 16, 5, 5)
            assert sasa.AttentionStem()(x).shape == (1, 64, 3, 3)
            assert "timm" not in sys.modules
            try:
                sasa.create_model("sasa_resnet26")
            except ImportError as error:
                print(error)
            """
        )
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "timm" in result.stdout


def test_models_come_when_asked_for_and_register_with_timm() -> None:
    result = run(
        """
        import sasa
        assert {"create_model", "cost"} <= set(dir(sasa))
        import timm
        assert not timm.list_models("sasa*")
        import sasa.models
        assert len(timm.list_models("sasa*")) == 18
        assert sasa.create_model is sasa.models.create_model
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["data", "detection", "models", "report", "train"])
def test_subpackages_come_when_asked_for(name: str) -> None:
    result = run(f"import sys, sasa; assert sasa.{name} is sys.modules['sasa.{name}']")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_module_is_hidden_by_a_name_of_its_package() -> None:
    """`import a.b.c as m` binds what the attributes of a lead to, which has to be the module a.b.c."""
    result = run(
        """
        import importlib, operator, pkgutil
        from importlib.util import find_spec
        import sasa
        for _, name, _ in pkgutil.walk_packages(sasa.__path__, "sasa."):
            if name.endswith(("._cpu", ".__main__")) or (".triton." in name and find_spec("triton") is None):
                continue
            module = importlib.import_module(name)
            found = operator.attrgetter(name.removeprefix("sasa."))(sasa)
            assert found is module, f"{name} is hidden by {found}"
        """
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["ablate table5 --dry_run", "train --optimizer.epochs 1", "eval"])
def test_commands_say_what_to_install(command: str) -> None:
    """Where training's packages are absent, jsonargparse and Lightning among them."""
    base = without("jsonargparse", "lightning", "torchmetrics", "matplotlib")
    result = run(base + f"from sasa.cli import main\nsys.exit(main({command.split()!r}))\n")
    assert result.returncode == 2
    assert re.search(
        r"needs the package '\w+': pip install \"\.\[train\]\" in a clone of sasa", result.stderr
    )
