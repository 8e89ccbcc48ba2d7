"""Calling the command in this process: a second less than `command_line.run`, for each call."""

from __future__ import annotations

import contextlib
import io
import sys
from subprocess import CompletedProcess
from unittest import mock

from ctedge.cli import main


def call(*arguments) -> CompletedProcess[str]:
    """What `ctedge` with these arguments answers."""
    command = ["ctedge", *map(str, arguments)]
    said, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return CompletedProcess(command, code, said.getvalue(), errors.getvalue())
