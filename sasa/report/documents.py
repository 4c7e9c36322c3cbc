"""A report of headings, paragraphs, tables and pictures, as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #111; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ccc; }
th { border-bottom: 2px solid #111; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
figure { margin: 1.5em 0; break-inside: avoid; }
figcaption { font-size: 90%; }
h2 { margin-top: 2.5em; border-top: 1px solid #111; padding-top: .5em; }
@media print { body { max-width: none; margin: 0; } h2 { break-before: page; } }
"""
_MIME = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 or 2."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of text; the first column is left-aligned, the others right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture file with a caption."""

    path: Path
    caption: str


Block = Heading | Paragraph | Table | Picture


def as_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The report as Markdown, with links to the pictures relative to the folder."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def as_html(blocks: Sequence[Block]) -> str:
    """The report as a single HTML page that contains the pictures."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{html.escape(title)}</title>',
            f"<style>\n{_STYLE}</style></head>",
            "<body>",
            *map(_html, blocks),
            "</body>",
            "</html>\n",
        ]
    )


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Picture):
        return f"![{block.caption}]({block.path.relative_to(folder).as_posix()})"
    rules = [":---"] + ["---:"] * (len(block.header) - 1)
    lines = [block.header, rules, *([cell.replace("|", "\\|") for cell in row] for row in block.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Picture):
        content = base64.b64encode(block.path.read_bytes()).decode()
        caption = html.escape(block.caption)
        source = f"data:{_MIME[block.path.suffix]};base64,{content}"
        return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "\n".join(line(row, "td") for row in block.rows)
    return f"<table>\n<thead>{line(block.header, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
