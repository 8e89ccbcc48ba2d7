"""README's commands and code are run, so that they cannot drift."""

from __future__ import annotations

import re
import shlex

import nibabel as nib
import pytest

from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
TRAINING = (REPOSITORY / "training" / "README.md").read_text()
READING = (REPOSITORY / "docs" / "reading-dicom.md").read_text()
QUALITY = (REPOSITORY / "docs" / "quality.md").read_text()


def shell_lines(text):
    fences = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    return [line for kind, code in fences if kind == "sh" for line in code.splitlines()]


FENCES = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = shell_lines(README)


def test_it_opens_with_one_line_each_for_the_demo_and_the_tests():
    assert SHELL[0].endswith(".venv/bin/ctedge demo")
    assert SHELL[1].endswith(".venv/bin/python -m pytest -n auto")


def test_ci_runs_the_test_command_and_nothing_else():
    script = (REPOSITORY / ".ci" / "run").read_text()
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', SHELL[1]]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys, chest, las_affine):
    nib.save(nib.Nifti1Image(chest, las_affine), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    (code,) = [text for kind, text in FENCES if kind == "python"]
    assert len(code.strip().splitlines()) <= 10
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert re.search(r"(onnxruntime|openvino)-cpu-\w+", capsys.readouterr().out)


COMMANDS = [
    line.partition("#")[0].strip()
    for line in (*SHELL, *shell_lines(TRAINING))
    if line.startswith("ctedge ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command):
    import typer

    from ctedge.cli import app

    words = shlex.split(command)[1:]
    here = typer.main.get_command(app)
    context = here.make_context("ctedge", ["doctor"], resilient_parsing=True)
    while hasattr(here, "get_command"):
        name = words.pop(0)
        found = here.get_command(context, name)
        assert found is not None, name
        here = found
    options = {option for parameter in here.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        (".", README),
        ("training", TRAINING),
        ("examples", (REPOSITORY / "examples" / "README.md").read_text()),
        *(("docs", page.read_text()) for page in sorted((REPOSITORY / "docs").glob("*.md"))),
    ],
    ids=lambda value: value[:40].splitlines()[0],
)
def test_links_lead_somewhere(folder, text):
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (REPOSITORY / folder / target).exists(), target


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README + TRAINING + READING + QUALITY


def test_the_table_of_qualities_holds_what_it_has_to(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import figures

    for row in figures.read("quality")["rows"]:
        for how in ("predict_red", "assess_red"):
            flagged = max(row[how].values(), default=0)
            assert flagged == (0 if row["fit"] else row["count"]), row["scan"]
