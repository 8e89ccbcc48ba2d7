"""docs/scaling.md: its table can be read, its commands exist, its code runs."""

from __future__ import annotations

import re
import shlex

import pytest

from conftest import REPOSITORY
from ctedge.batch.results import ANSWERS, columns_of, write_results
from ctedge.batch.table import read_table
from ctedge.batch.workers import described, lost

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text()
FENCES = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def table(tmp_path):
    (text,) = [code for kind, code in FENCES if kind == "csv"]
    (tmp_path / "scans.csv").write_text(text)
    return read_table(tmp_path / "scans.csv")


def test_its_commands_are_those_of_the_command_line():
    import typer

    from ctedge.cli import app

    command = typer.main.get_command(app).get_command(None, "batch")
    options = {option for parameter in command.params for option in parameter.opts}
    lines = [line for kind, code in FENCES if kind == "sh" for line in code.splitlines()]
    ours = [line for line in lines if line.startswith("ctedge batch")]
    assert len(ours) == 4
    for line in ours:
        words = shlex.split(line, comments=True)
        assert {word for word in words if word.startswith("-")} <= options, line


def test_its_list_of_columns_is_whole(table):
    named = set(re.findall(r"`(\w+)`", PAGE.partition("| column |")[2].partition("```")[0]))
    assert {"id", "scan", *table.columns, *named} >= {
        column for task in ANSWERS for column in columns_of(task)
    }


def test_its_code_reads_results(table, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    outcomes = [{"error": described(lost())} for _ in table.rows]
    write_results(tmp_path / "results.parquet", table, outcomes, task="classifier", asked={})
    monkeypatch.chdir(tmp_path)
    (code,) = [code for kind, code in FENCES if kind == "python"]
    exec(compile(code, "scaling.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "p001 None WorkerLost\np002 None WorkerLost\n"
