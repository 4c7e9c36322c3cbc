"""Every relative link in a Markdown file leads to a file, and every anchor to a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_OURS = {".venv", "build", "dist", "runs", ".pytest_cache"}
GENERATED = ROOT / "docs" / "results"  # by `sasa report`

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if path.relative_to(ROOT).parts[0] not in NOT_OURS and GENERATED not in path.parents
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """The text without code blocks, fenced or indented after an empty line, and without code in lines."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?<=\n\n)(?: {4,}[^\n]*\n)+", "", text)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(path), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = sum(
            other == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", other) is not None for other in found
        )
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def broken(path: Path) -> Iterator[str]:
    """The links that lead nowhere."""
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        if not goal.exists():
            yield f"{target}: no such file"
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    assert list(broken(path)) == []


def test_the_pages_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/op.md"} <= names


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Two words, `code`\n\n## Two words\n\n## Two words\n")
    page.write_text(
        "# Here\n[a](#here) [b](other.md#two-words-code) [c](other.md#two-words-1) [d](https://x.org/#y)\n"
        "[e](#there) [f](other.md#three) ![g](none.png) `[h](no.md)`\n\n    [i](no.md)\n"
        "\n```\n[j](no.md)\n```\n"
    )
    assert [line.partition(":")[0] for line in broken(page)] == ["#there", "other.md#three", "none.png"]
