"""Print docs/api.md: all public names with signatures and the first paragraphs of their docstrings.

python tools/api_reference.py > docs/api.md    # make api
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import GenericAlias
from typing import Any

import sasa

MODULES = (
    "sasa.ops",
    "sasa.layers",
    "sasa.models",
    "sasa.detection",
    "sasa.data",
    "sasa.data.detection",
    "sasa.train",
    "sasa.deploy",
    "sasa.report",
)
HEADER = """# API reference

Generated from the docstrings by `make api`; do not edit. `help(NAME)` shows the full documentation of a name.
"""
WIDTH = 100


def render() -> str:
    """Return the whole page."""
    lines = [HEADER, *_names_of_sasa(), *(line for name in MODULES for line in _module(name))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _names_of_sasa() -> list[str]:
    """Return the list of names that `sasa` exports, with links to their descriptions."""
    lines = [
        "## sasa",
        "",
        _summary(sasa),
        "",
        "`sasa` itself offers the names that most programs need:",
        "",
    ]
    for name in sorted(set(sasa.__all__) - {"__version__"}):
        value = getattr(sasa, name)
        home = next(module for module in MODULES if _exports(module, name, value))
        lines.append(f"- `sasa.{name}`: [`{home}.{name}`](#{f'{home}{name}'.lower().replace('.', '')})")
    return [*lines, "- `sasa.__version__`: the version, a string", ""]


def _module(name: str) -> list[str]:
    module = importlib.import_module(name)
    lines = [f"## {name}", "", _summary(module), ""]
    for public in module.__all__:
        lines += _entry(name, public, getattr(module, public))
    return lines


def _entry(module: str, name: str, value: Any) -> list[str]:
    lines = [f"### {module}.{name}", ""]
    if isinstance(value, GenericAlias):
        return [*lines, f"The type `{_annotation(value)}`.", ""]
    if not callable(value):
        return [*lines, "A constant.", ""]
    if isinstance(value, type) and issubclass(value, Exception):
        return [*lines, f"An exception, derived from `{value.__mro__[1].__name__}`. {_summary(value)}", ""]
    lines += ["```python", *_signature(value, name), "```", "", _summary(value), ""]
    if isinstance(value, type):
        bases = [base for base in reversed(value.__mro__) if base.__module__.startswith("sasa.")]
        methods = {key: x for base in bases for key, x in vars(base).items() if key[0] != "_"}
        methods = {key: method for key, method in methods.items() if inspect.isfunction(method)}
        for key, method in sorted(methods.items()):
            call = " ".join(_signature(method, key, width=10**6))
            lines.append(f"- `{call}`" + (f": {_summary(method)}" if method.__doc__ else ""))
        lines += [""] * bool(methods)
    return lines


def _exports(module: str, name: str, value: Any) -> bool:
    found = importlib.import_module(module)
    return name in found.__all__ and getattr(found, name) is value


def _summary(value: Any) -> str:
    """Return the first paragraph of a docstring in one line."""
    doc = inspect.getdoc(value) or ""
    return " ".join(doc.partition("\n\n")[0].split()).removesuffix("::")


def _signature(value: Any, name: str, *, width: int = WIDTH) -> list[str]:
    """Return a call with its parameters: in one line if it fits, otherwise one line per parameter."""
    signature = inspect.signature(value)
    parts, keyword_only = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            keyword_only = True
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        parts.append(_parameter(parameter))
    returns = signature.return_annotation
    arrow = "" if isinstance(value, type) or returns is signature.empty else f" -> {_annotation(returns)}"
    line = f"{name}({', '.join(parts)}){arrow}"
    if len(line) <= width:
        return [line]
    return [f"{name}(", *(f"    {part}," for part in parts), f"){arrow}"]


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    typed = parameter.annotation is not parameter.empty
    if typed:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = repr(parameter.default).replace("'", '"')
        default = "..." if default.startswith("<") else default
        text += f" = {default}" if typed else f"={default}"
    return text


def _annotation(annotation: Any) -> str:
    """Return an annotation without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


if __name__ == "__main__":
    print(render(), end="")
