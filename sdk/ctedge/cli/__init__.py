"""The command `ctedge`: its own commands, and whatever the entry-point group adds.

What runs for `--help` imports only typer at the top, so that `ctedge --help` stays quick.
Exit codes: 0 ok, 1 one of our errors, 2 wrong usage, 3 a gate failed, 130 Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import sys
from importlib.metadata import entry_points
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import ctedge
from ctedge.cli import dicom
from ctedge.cli.assess import assess
from ctedge.cli.batch import batch
from ctedge.cli.bench import bench
from ctedge.cli.demo import demo
from ctedge.cli.doctor import doctor
from ctedge.cli.inspect import inspect
from ctedge.cli.predict import predict
from ctedge.errors import CTEdgeError

#: Other packages add commands to `ctedge` through this group; each entry names a typer app.
COMMAND_GROUP = "ctedge.commands"

_INTERRUPTED = 130


class _Commands(TyperGroup):
    """Our own commands, then those of the entry-point group, loaded when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        added = {entry.name for entry in entry_points(group=COMMAND_GROUP)}
        return [*super().list_commands(ctx), *sorted(added)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for entry in entry_points(group=COMMAND_GROUP, name=cmd_name):
            return typer.main.get_command(entry.load())
        return None


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


for _command in (demo, predict, batch, assess, inspect, doctor, bench):
    app.command()(_command)
app.add_typer(dicom.app, name="dicom")


def main() -> None:
    """Run the command line; every failure of ours ends in a message and its exit code."""
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
