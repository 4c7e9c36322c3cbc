"""Imports inside sasa point one way, and the core needs torch alone; read off the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "sasa"

# Each room and the rooms that it may import, inside functions too.
HOUSE: dict[str, set[str]] = {
    "errors": set(),
    "ops": {"errors"},
    "layers": {"errors", "ops"},
    "models": {"errors", "ops", "layers"},
    "detection": {"errors", "ops", "layers", "models"},
    "data": {"errors"},
    "report": {"errors"},
    "train": {"errors", "ops", "layers", "models", "detection", "data"},
    "deploy": {"errors", "ops", "layers", "models", "detection", "data", "train"},
    "cli": {"errors", "ops", "layers", "models", "detection", "data", "report", "train", "deploy"},
}
# What these rooms may import beside the standard library when they are imported themselves.
NEEDS = {
    "ops": {"torch"},
    "layers": {"torch"},
    "models": {"torch", "timm"},
    "detection": {"torch", "timm", "torchvision", "numpy"},  # timm needs torchvision, which needs numpy
}

FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path, root: Path = ROOT) -> str:
    """The folder of sasa/ that the file is in, or its own name at the top; "" for sasa itself."""
    name = path.relative_to(root).parts[0].removesuffix(".py")
    return "" if name in ("__init__", "__main__") else name


def imports(path: Path, root: Path = ROOT, *, at_once: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports; at_once: only what runs on its own import."""
    package = ["sasa", *path.relative_to(root).parent.parts]
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), at_once=at_once):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*source, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def walk(node: ast.AST, *, at_once: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if at_once and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if at_once and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from walk(child, at_once=at_once)


def wrong_arrows(root: Path) -> list[str]:
    """Imports from a room into one that it may not know, as "file:line: room imports name"."""
    rooms = {room_of(path, root) for path in root.rglob("*.py")} | set(HOUSE)
    wrong = []
    for path in sorted(root.rglob("*.py")):
        room = room_of(path, root)
        if room not in HOUSE:
            continue
        for line, name in imports(path, root):
            parts = name.split(".")
            if parts[0] != "sasa" or len(parts) < 2:
                continue
            target = parts[1] if parts[1] in rooms else ORIGIN.get(parts[1], "")
            if target not in HOUSE[room] | {room, ""}:
                wrong.append(f"{path.relative_to(root)}:{line}: {room} imports {name}")
    return wrong


# The room of each name that sasa itself offers, so that `from sasa import create_model` is an arrow too.
ORIGIN = {
    "local_attention": "ops",
    "AttentionStem": "layers",
    "LocalSelfAttention2d": "layers",
    "fuse": "layers",
    "replace_convolutions": "layers",
    "cost": "models",
    "create_model": "models",
    "export": "deploy",
}


def test_arrows_point_one_way() -> None:
    assert wrong_arrows(ROOT) == []


def test_every_room_is_in_the_house() -> None:
    rooms = {room_of(path) for path in FILES} - {""}
    assert rooms <= set(HOUSE), "a new room: say in HOUSE what it may import"
    assert {"ops", "layers", "models", "data", "train"} <= rooms


def test_the_house_has_no_circle() -> None:
    done: set[str] = set()
    while ready := {room for room, below in HOUSE.items() if room not in done and below <= done}:
        done |= ready
    assert done == set(HOUSE)
    assert not any("cli" in below for below in HOUSE.values())


def test_origins_are_complete() -> None:
    import sasa

    assert set(ORIGIN) == set(sasa.__all__) - {"__version__"}


@pytest.mark.parametrize("room", NEEDS)
def test_core_needs_little(room: str) -> None:
    allowed = NEEDS[room] | {"sasa"} | sys.stdlib_module_names
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        if room_of(path) == room and "triton" not in path.relative_to(ROOT).parts
        for line, name in imports(path, at_once=True)
        if name.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_sasa_itself_brings_in_no_model_until_asked() -> None:
    names = [name for _, name in imports(ROOT / "__init__.py", at_once=True)]
    assert {name.split(".")[1] for name in names if name.startswith("sasa.")} == {"ops", "layers"}


@pytest.mark.parametrize(
    ("file", "source", "arrow"),
    [
        ("ops/a.py", "from sasa.layers import AttentionStem", "ops imports sasa.layers.AttentionStem"),
        ("ops/a/b.py", "from ...models import cost", "ops imports sasa.models.cost"),
        ("layers/a.py", "def f():\n    import sasa.models.flops", "layers imports sasa.models.flops"),
        ("layers/a.py", "from sasa import create_model", "layers imports sasa.create_model"),
        ("data/a.py", "from sasa import layers", "data imports sasa.layers"),
        ("data/a.py", "from .. import ops", "data imports sasa.ops"),
        ("report/a.py", "import sasa.models", "report imports sasa.models"),
        ("report/a.py", "import sasa.train.run", "report imports sasa.train.run"),
        ("train/a.py", "from sasa.cli.main import run", "train imports sasa.cli.main.run"),
        ("detection/a.py", "from sasa.train import run", "detection imports sasa.train.run"),
    ],
)
def test_wrong_arrow_is_found(tmp_path: Path, file: str, source: str, arrow: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    line = source.count("\n") + 1
    assert wrong_arrows(tmp_path) == [f"{file}:{line}: {arrow}"]


def test_right_arrows_are_fine(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    source = "import sasa\nfrom sasa import create_model\nfrom sasa.data import x\nfrom . import y\n"
    (tmp_path / "train" / "a.py").write_text(source, encoding="utf-8")
    assert wrong_arrows(tmp_path) == []


def test_the_tests_mirror_the_package() -> None:
    """Folder by folder; a backend's tests need no folder `backends` around them."""
    tests = Path(__file__).parent
    outside = {"benchmarks", "studies", "__pycache__"}
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    folders = {folder for folder in folders if not outside & set(folder.parts)}
    assert len(folders) > 12
    absent = [
        str(folder)
        for folder in sorted(folders)
        if not (ROOT / folder).is_dir() and not (ROOT / folder.parent / "backends" / folder.name).is_dir()
    ]
    assert absent == []
