"""`ctedge export triton` in this process: what it says, and what it refuses."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ctedge.errors import CTEdgeError
from ctedge_export.cli import app


def export(*arguments: object) -> str:
    """What the command says; its error raised."""
    answer = CliRunner().invoke(app, ["triton", *map(str, arguments)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.output


def refused(kind: type[CTEdgeError], *arguments: object) -> CTEdgeError:
    """The error of exactly that kind, which says what to do."""
    with pytest.raises(kind) as caught:
        export(*arguments)
    assert type(caught.value) is kind
    assert caught.value.fix
    return caught.value
