"""The command `ctedge`: its own commands, and whatever the entry-point group adds.

What runs for `--help` imports only typer at the top, so that `ctedge --help` stays quick; and of
the commands only that one is imported and taken apart which was asked for.
Exit codes: 0 ok, 1 one of our errors, 2 wrong usage, 3 a gate failed, 130 Ctrl-C,
143 SIGTERM (batch).
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import gc
import importlib
import io
import os
import sys
from inspect import getdoc  # `inspect` is a command here
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

import ctedge
from ctedge.__main__ import INTERRUPTED as INTERRUPTED
from ctedge.__main__ import say_interrupted
from ctedge.cli.group import Group
from ctedge.errors import CTEdgeError

#: Our own, in the order of the help: each a function in the module of its name, or a group there.
COMMANDS = ("demo", "predict", "batch", "assess", "inspect", "doctor", "bench", "dicom")

#: Other packages add commands to `ctedge` through this group; each entry names a typer app.
COMMAND_GROUP = "ctedge.commands"

_PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
}


class _Commands(Group):
    """Our own commands, then those of the entry-point group, loaded when they are asked for."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # which typer would answer with the exit code alone
            say_interrupted()
            raise typer.Exit(INTERRUPTED) from None

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *sorted(_added())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            # None of them multiplies matrices in NumPy; beside a runtime, the threads that OpenBLAS
            # starts for that, and keeps spinning, cost as much as importing NumPy.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            return _built(cmd_name)
        if cmd_name in _added():
            return typer.main.get_command(_added()[cmd_name].load())
        # A slip of the keyboard: typer looks here for what may have been meant.
        self.commands.update({name: _outline(name) for name in COMMANDS})
        return None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # Names and first sentences: to take apart their options would take longer than all else.
        outlines = {name: _outline(name) for name in self.list_commands(ctx)}
        TyperGroup(commands=outlines).format_commands(ctx, formatter)


@functools.cache
def _added() -> dict[str, Any]:
    """The entry points of the group, by name."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


def _own(name: str) -> Any:
    """The function, or the typer app, of one of our own commands."""
    module = importlib.import_module(f"ctedge.cli.{name}")
    return getattr(module, "app", None) or getattr(module, name)


def _built(name: str) -> Any:
    found = _own(name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(**_PLAIN)
        found.command(name)(function)
    return typer.main.get_command(found)


def _outline(name: str) -> Any:
    """A command for the list of commands: what it says of itself, without options or commands."""
    found = _own(name) if name in COMMANDS else _added()[name].load()
    if not isinstance(found, typer.Typer):
        return TyperCommand(name, help=getdoc(found))
    if found.registered_callback is not None:
        found = copy.copy(found)
        found.registered_commands, found.registered_groups = [], []
    return typer.main.get_command(found)


app = typer.Typer(cls=_Commands, no_args_is_help=True, **_PLAIN)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ctedge {ctedge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """3D lung-CT models beside the scanner. Research software, not a medical device."""


def main() -> None:
    """Run the command line; every failure of ours ends in a message and its exit code."""
    # Before it ends, the interpreter walks through all that its modules hold, to look for cycles,
    # several times: a sixth of a second for memory that the system takes back anyway.
    atexit.register(gc.freeze)
    if sys.stdout is None:  # closed: what is printed would be lost in silence
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        # A name or a bar that the terminal's encoding lacks must not cost the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="ctedge")
    except CTEdgeError as error:
        _end(error, error.exit_code)
    except MemoryError:
        _end(CTEdgeError("not enough memory", fix="free memory"), 1)
    except OSError as error:
        fix = "check permissions, free disk space, and where standard output goes"
        _end(CTEdgeError(str(error), fix=fix), 1)


def _end(error: CTEdgeError, exit_code: int) -> NoReturn:
    with contextlib.suppress(OSError):
        typer.echo(f"error: {error}", err=True)
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would try again, and say so in its words
        sys.stdout = None
    sys.exit(exit_code)
