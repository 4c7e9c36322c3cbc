"""The `sasa` command: each module here is a command, and each subpackage a group of commands.

A command has HELP (one line), add_arguments(parser) and run(args), which imports what it needs. A command
with OWN_PARSER = True gets all its arguments as the list args.arguments instead. A group has HELP and
COMMANDS.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from sasa.errors import did_you_mean

COMMANDS = (
    "train",
    "ablate",
    "report",
    "compare",
    "eval",
    "predict",
    "export",
    "push",
    "attention",
    "detect",
    "tables",
    "models",
    "version",
)
HELP = "Stand-alone local self-attention for vision."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after "sasa"; None means those of the process.

    Returns:
        The exit code: 0, 2 for an error, which is printed on stderr in one line (after its traceback with
        --debug), 1 if some images could not be read, or 130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("sasa: %(levelname)s: %(message)s"))
    logger = logging.getLogger("sasa")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        _run(arguments, sys.modules[__name__])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except KeyboardInterrupt:
        print("sasa: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = " ".join(str(error).split()) or type(error).__name__
        # Unexpected errors are printed with their type, which is useful in a bug report.
        expected = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError))
        prefix = "" if expected else f"{type(error).__name__}: "
        hint = "" if expected or debug else " (sasa --debug shows the traceback)"
        print(f"sasa: error: {prefix}{message}{hint}", file=sys.stderr)
        return 2
    finally:
        logger.removeHandler(handler)
    return 0


def exit_if_broken(broken: Sequence[str], count: int) -> None:
    """End a command with exit code 1 and a list on stderr if some of its images could not be read.

    Args:
        broken: The errors, each with the name of the file.
        count: The number of all images.
    """
    if broken:
        print(f"sasa: error: {len(broken)} of {count} images cannot be read:", file=sys.stderr)
        for error in broken:
            print(f"  {' '.join(error.split())}", file=sys.stderr)
        raise SystemExit(1)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are exceptions, so that all errors are printed in one place."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_args(args, namespace)
        self.check_unknown(unknown)
        if unknown:
            self.error(f"{unknown[0]}: unexpected argument")
        return known

    def check_unknown(self, arguments: Sequence[str]) -> None:
        """Raise ValueError if an argument looks like a misspelled option of this parser."""
        options = [option for action in self._actions for option in action.option_strings]
        for argument in arguments:
            name = argument.partition("=")[0]
            if hint := did_you_mean(name, options, cutoff=0.75):
                raise ValueError(f"{name}: unknown option{hint}")


def _run(arguments: list[str], group: ModuleType) -> None:
    prog = group.__name__.replace(".cli", "").replace(".", " ")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(group, prog))
        return
    name, rest = arguments[0], arguments[1:]
    if name not in group.COMMANDS:
        hint = did_you_mean(name, group.COMMANDS, otherwise=f"commands are {', '.join(group.COMMANDS)}")
        raise ValueError(f"unknown command {name!r}{hint}")
    command = _command(f"{group.__name__}.{name}")
    if hasattr(command, "COMMANDS"):
        _run(rest, command)
        return
    if getattr(command, "OWN_PARSER", False):
        command.run(argparse.Namespace(arguments=rest))
        return
    parser = Parser(prog=f"{prog} {name}", description=command.HELP, allow_abbrev=False)
    command.add_arguments(parser)
    command.run(parser.parse_args(rest))


def _command(name: str) -> ModuleType:
    return importlib.import_module(name)


def _overview(group: ModuleType, prog: str) -> str:
    width = max(map(len, group.COMMANDS))
    helps = {name: _command(f"{group.__name__}.{name}").HELP for name in group.COMMANDS}
    lines = [f"  {name:<{width}}  {text}" for name, text in helps.items()]
    return "\n".join(
        [
            f"usage: {prog} COMMAND [ARGUMENTS] [--debug]",
            "",
            group.HELP,
            "",
            "commands:",
            *lines,
            "",
            f"{prog} COMMAND --help shows the arguments of a command; --debug shows tracebacks.",
        ]
    )
