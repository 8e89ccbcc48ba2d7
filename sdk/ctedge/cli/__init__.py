"""The command `ctedge`: its own commands, and whatever the entry-point group adds.

What runs for `--help` imports only typer at the top, so that `ctedge --help` stays quick; and of
the commands only that one is imported and taken apart which was asked for.
Exit codes: 0 ok, 1 one of our errors, 2 wrong usage, 3 a gate failed, 130 Ctrl-C.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import ctedge
from ctedge.errors import CTEdgeError

#: Our own, in the order of the help: each a function in the module of its name, or a group there.
COMMANDS = ("demo", "predict", "batch", "assess", "inspect", "doctor", "bench", "dicom")

#: Other packages add commands to `ctedge` through this group; each entry names a typer app.
COMMAND_GROUP = "ctedge.commands"

_INTERRUPTED = 130

_PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
}


class _Commands(TyperGroup):
    """Our own commands, then those of the entry-point group, loaded when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        from importlib.metadata import entry_points

        added = {entry.name for entry in entry_points(group=COMMAND_GROUP)}
        return [*COMMANDS, *sorted(added)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            # None of them multiplies matrices in NumPy; beside a runtime, the threads that OpenBLAS
            # starts for that, and keeps spinning, cost as much as importing NumPy.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            return _own(cmd_name)
        from importlib.metadata import entry_points

        for entry in entry_points(group=COMMAND_GROUP, name=cmd_name):
            return typer.main.get_command(entry.load())
        # A slip of the keyboard: typer looks here for what may have been meant.
        self.commands.update({name: _own(name) for name in COMMANDS})
        return None


def _own(name: str) -> Any:
    module = importlib.import_module(f"ctedge.cli.{name}")
    found = getattr(module, "app", None)
    if found is None:
        found = typer.Typer(**_PLAIN)
        found.command(name)(getattr(module, name))
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
    for stream in (sys.stdout, sys.stderr):
        # A name or a bar that the terminal's encoding lacks must not cost the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="ctedge")
    except CTEdgeError as error:
        _end(error, error.exit_code)
    except (OSError, MemoryError) as error:
        what = "not enough memory" if isinstance(error, MemoryError) else str(error)
        _end(CTEdgeError(what, fix="check permissions, free disk space and free memory"), 1)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            typer.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)


def _end(error: CTEdgeError, exit_code: int) -> NoReturn:
    with contextlib.suppress(OSError):
        typer.echo(f"error: {error}", err=True)
    sys.exit(exit_code)
