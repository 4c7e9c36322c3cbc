"""The documentation site, built by `make site`."""

from __future__ import annotations

import os
import re

from sphinx.application import Sphinx

import sasa

project = "sasa"
author = "the authors of sasa"
version = release = sasa.__version__

extensions = ["myst_nb"]
exclude_patterns = ["README.md"]
root_doc = "index"
myst_heading_anchors = 4
# Two threads of a notebook wait for each other where fewer cores are free.
os.environ.setdefault("OMP_NUM_THREADS", "1")
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# A browser would need a script of another host for mermaid's diagram, which is shown as text.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_title = "sasa"
html_copy_source = False

# Links to pages and folders outside of docs/, which are not part of the site. Other files can be downloaded.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?:[^)#]*\.md(?:#[^)]*)?|(?:[^)./]+/?)+)\)")


def setup(app: Sphinx) -> None:
    """Leave the text of these links only."""
    app.connect("source-read", _without_links_outside)


def _without_links_outside(app: Sphinx, name: str, content: list[str]) -> None:
    if "/" not in name:
        content[0] = _OUTSIDE.sub(r"\1", content[0])
