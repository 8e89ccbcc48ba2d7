"""How a scan that failed is told: as a line of JSON, or on standard error."""

from __future__ import annotations

import json

import typer

from ctedge.errors import CTEdgeError


def say_error(path: str, error: CTEdgeError, *, as_json: bool) -> None:
    """Tell it; what colours a terminal is imported only where it is needed."""
    if as_json:
        typer.echo(json.dumps({"source": path, "error": error.as_dict()}))
    else:
        from ctedge.cli.output import print_error

        print_error(error)
