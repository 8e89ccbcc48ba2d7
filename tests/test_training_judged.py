"""A finished training is judged, by its folder; what is spoilt or was learnt from is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("keras")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from ctedge.errors import (
    BundleNotFound,
    DatasetError,
    DigestMismatch,
    InvalidBundle,
    OutputError,
)
from ctedge.progress import Reporter
from ctedge_training.cli import app
from ctedge_training.datasets.source import Source
from ctedge_training.judging.evaluate import evaluate
from ctedge_training.run import Run
from folders import contents
from training_factory import SPLITS, finished_run, noisy_scans, write_noisy_scans


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_scans(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.getbasetemp())


def broken_json(folder: Path) -> None:
    (folder / "model.json").write_text("{")


def newer_schema(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**document, "schema_version": 99}))


def other_network(folder: Path) -> None:
    (folder / "model.keras").write_bytes(b"other")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (broken_json, InvalidBundle),
        (newer_schema, InvalidBundle),
        (other_network, DigestMismatch),
    ],
)
def test_a_spoilt_run_is_refused(
    trained: Run, tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    for path in trained.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Run.open(tmp_path)
    spoil(tmp_path)
    with pytest.raises(error):
        Run.open(tmp_path)


def test_evaluate_on_the_command_line(trained: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    arguments = ["evaluate", str(trained.folder), "--data", str(data), "-o", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--split", "test", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "95 % bootstrap" in result.output
    assert {path.name for path in out.iterdir()} >= {
        "report.json",
        "report.html",
        "predictions.csv",
    }
    metrics = evaluate(trained.folder, Source(folder=data))
    expected = trained.document["metrics"]
    assert metrics["counts"] == expected["counts"]
    assert metrics["auc"] == expected["auc"]
    with pytest.raises(DatasetError, match="no scan in the split"):
        evaluate(trained.folder, Source(folder=data), split="nowhere")


@pytest.mark.parametrize("workers", [1, 2])
def test_data_that_can_hold_no_cache_needs_one_elsewhere(
    trained: Run, tmp_path: Path, workers: int
) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_noisy_scans(data, SPLITS)
    (data / ".ctedge-cache").touch()  # no folder can be made there, not even by root
    with pytest.raises(OutputError, match="cannot write") as caught:
        evaluate(trained.folder, Source(folder=data, workers=workers))
    assert "--cache" in str(caught.value.fix)
    assert evaluate(trained.folder, Source(folder=data, cache=elsewhere))["count"] == 3
    with pytest.raises(OutputError, match="choose another output folder"):
        evaluate(trained.folder, Source(folder=data, cache=data / ".ctedge-cache"))


def test_a_report_takes_the_place_of_an_earlier_one(
    trained: Run, data: Path, tmp_path: Path
) -> None:
    source, out, lines = Source(folder=data), tmp_path / "report", list[str]()
    out.mkdir()  # an empty one is as good as none
    evaluate(trained.folder, source, out=out)
    (out / "gradcam.png").write_bytes(b"of a run on slices")
    said = Reporter(say=lines.append, bars=False)
    evaluate(trained.folder, source, split="validation", out=out, reporter=said)
    assert f"{out}: the report that it holds will be replaced" in lines
    assert sorted(path.name for path in out.iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]
    document = json.loads((out / "report.json").read_text())
    assert document["data"]["splits"] == {"validation": 3}
    assert (out / "predictions.csv").read_text().count("validation") == 3


OWN_REPORT = json.dumps({"headline": "Research software, not a medical device"})


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ({"report.json": "[1, 2]"}, "report.json"),
        ({"report.json": "no JSON", "report.html": "mine"}, "report.html, report.json"),
        ({"predictions.csv": "mine"}, "predictions.csv"),
        ({"report.json": OWN_REPORT, "notes.txt": "mine"}, "notes.txt"),
        ({"report.json": OWN_REPORT, "gradcam.png/mine": ""}, "gradcam.png"),
        ({"a": "", "b": "", "c": "", "d": "", "report.json": OWN_REPORT}, "a, b, c and 1 more"),
    ],
)
def test_a_report_never_replaces_anything_else(
    tmp_path: Path, held: dict[str, str], named: str
) -> None:
    """And it is said before anything is read: here there is neither a run nor a scan."""
    for name, text in held.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="holds something else than a report") as caught:
        evaluate(tmp_path / "run", Source(folder=tmp_path / "data"), out=tmp_path)
    assert caught.value.found == named
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    source = Source(folder=tmp_path / "data")
    with pytest.raises(OutputError, match="cannot write") as caught:
        evaluate(tmp_path / "run", source, out=tmp_path / "taken" / "new" / "report")
    assert "nothing was judged yet" in str(caught.value.fix)
    with pytest.raises(BundleNotFound):  # what comes next
        evaluate(tmp_path / "run", source, out=tmp_path / "new" / "report")
    assert list(contents(tmp_path)) == ["taken"]
    assert not (tmp_path / "new").exists()


def test_a_run_is_no_place_for_its_report(trained: Run, data: Path) -> None:
    before = contents(trained.folder)
    arguments = ["evaluate", str(trained.folder), "--data", str(data), "-o", str(trained.folder)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, OutputError)
    assert contents(trained.folder) == before
    with pytest.raises(OutputError, match="is no folder"):
        evaluate(trained.folder, Source(folder=data), out=trained.folder / "model.json")


def test_classes_in_another_order_are_not_judged(trained: Run, tmp_path: Path) -> None:
    for label in trained.document["labels"]:
        (tmp_path / label).mkdir()
        (tmp_path / label / "one.nii.gz").touch()
    reverse = tuple(reversed(trained.document["labels"]))
    source = Source(folder=tmp_path, classes=reverse, shares={"test": 1.0})
    with pytest.raises(DatasetError, match="another order"):
        evaluate(trained.folder, source)


def test_what_was_learnt_does_not_test(trained: Run, data: Path, tmp_path: Path) -> None:
    rows = (data / "labels.csv").read_text()
    other = tmp_path / "other.csv"
    other.write_text(rows.replace(",train", ",test"))
    with pytest.raises(DatasetError, match="has learnt from") as caught:
        evaluate(trained.folder, Source(folder=data, labels=other))
    assert "5 of 8" in str(caught.value)
    other.write_text(rows.replace(",test", ",validation"))
    assert evaluate(trained.folder, Source(folder=data, labels=other), split="validation")
