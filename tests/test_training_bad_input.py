"""What a user or a stranger gets wrong: each its own error, before anything is lost or filled."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ctedge.errors import DatasetError, InvalidBundle, OutputError
from ctedge.progress import Reporter
from ctedge.spec import KERAS_EXAMPLE
from ctedge_training.cli import app
from ctedge_training.datasets import index, split_file
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.source import Source
from ctedge_training.datasets.store import store_array
from ctedge_training.hrct import hdf5_checks
from ctedge_training.hrct.hdf5 import read_hdf5, write_hdf5
from ctedge_training.recipes import names
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES, TASKS
from ctedge_training.train import check_folder, train

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

STEERS = "scan\x1b[2J.nii.gz"
SPEC = dataclasses.replace(KERAS_EXAMPLE, name="keras-example-8x6x5", shape=(8, 6, 5))


def network(units: int) -> Any:
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    made.compile(optimizer="adam", loss="mse")
    made.optimizer.build(made.trainable_variables)
    return made


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"model_0000.npy") + 160] ^= 1
    path.write_bytes(data)


def an_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


@pytest.mark.parametrize(
    "harm",
    [
        flipped,
        an_array,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(pickle.dumps({"progress": 1})),
        lambda path: np.savez(path, progress=np.frombuffer(b"{", np.uint8)),
        lambda path: np.savez(path, model_0000=np.zeros(3)),
    ],
    ids=["flipped", "array", "cut", "pickle", "no-json", "no-progress"],
)
def test_a_damaged_checkpoint_cannot_be_resumed(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    from ctedge_training.learning import checkpoint

    path, small = tmp_path / "checkpoint.npz", network(2)
    checkpoint.save_checkpoint(path, small, checkpoint.Progress(identity={}))
    assert checkpoint.load_progress(path).epoch == 0
    with pytest.raises(OutputError, match="nothing to resume"):
        checkpoint.restore(path, network(4))
    harm(path)

    def resume() -> None:
        checkpoint.load_progress(path)
        checkpoint.restore(path, small)

    with pytest.raises(OutputError, match=r"a damaged checkpoint\.npz"):
        resume()


def test_killed_before_the_first_checkpoint_is_no_dead_end(tmp_path: Path) -> None:
    out, lines = tmp_path / "run", list[str]()
    out.mkdir()
    (out / ".partial-0123.npz").write_bytes(b"half")
    check_folder(out, resume=False)
    said = Reporter(say=lines.append, bars=False)
    with pytest.raises(DatasetError, match="no folder"):  # that is, it goes on to the data
        train(CLASSIFIER, Source(folder=tmp_path / "none"), out, resume=True, reporter=said)
    assert "starting anew" in lines[0]
    (out / "history.csv").write_text("epoch\n")
    with pytest.raises(OutputError, match="already exists"):
        check_folder(out, resume=False)


def test_a_missing_start_is_refused_before_the_scans_are_prepared(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match=r"none\.h5 cannot be read"):
        train(SLICES, Source(folder=tmp_path), tmp_path / "run", imagenet=tmp_path / "none.h5")


def test_no_folder_and_no_label_file_are_two_things(tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "none", "no folder"), (tmp_path, "nothing at")):
        with pytest.raises(DatasetError, match=message):
            Source(folder=folder).samples(CLASSIFIER, Reporter.silent())


def test_phantoms_do_not_replace_the_table_of_real_scans(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label,score,split\nmine.nii.gz,normal,0,train\n")
    again = ["phantoms", str(tmp_path), "--count", "1", "--shape", "8x8x8", "--workers", "1"]
    result = CliRunner().invoke(app, again)
    assert isinstance(result.exception, OutputError)
    assert "mine.nii.gz" in str(result.exception)
    assert table.read_text().endswith("mine.nii.gz,normal,0,train\n")
    table.unlink()
    for _ in range(2):  # its own table is one that it may write again
        done = CliRunner().invoke(app, again)
        assert done.exit_code == 0
        assert "1 synthetic scan written" in " ".join(done.output.split())


@pytest.mark.parametrize("column", ["path", "patient"])
def test_a_name_that_steers_a_terminal_is_refused(tmp_path: Path, column: str) -> None:
    (tmp_path / STEERS).touch()
    (tmp_path / "a.nii").touch()
    row = {"path": "a.nii", "patient": "p"} | {column: STEERS}
    text = f"path,patient,label,split\n{row['path']},{row['patient']},normal,train\n"
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=f"line 2: a control character in the column {column}"):
        Source(folder=tmp_path).samples(CLASSIFIER, Reporter.silent())


@pytest.mark.parametrize(("name", "patient"), [(STEERS, "p"), ("a", "p\x9b1m")])
def test_such_a_name_in_a_store_is_refused(tmp_path: Path, name: str, patient: str) -> None:
    sample = Sample(
        name=name,
        path=Path("a"),
        answer=1.0,
        split="train",
        patient=patient,
        truth={"label": 1.0},
    )
    volume = store_array(sample, np.zeros(SPEC.shape, np.float32), tmp_path)
    index.write_index(tmp_path, SPEC, [volume], CLASSIFIER.labels)
    with pytest.raises(DatasetError, match=r"volume 1: (name|patient) is "):
        index.read_index(tmp_path, CLASSIFIER)


@pytest.mark.parametrize("columns", [5, 6], ids=["earlier", "now"])
def test_a_scan_that_was_learnt_tests_nothing_in_any_dress(tmp_path: Path, columns: int) -> None:
    """Compressed again, its bytes are others; what is prepared from it is not."""
    sample = Sample(name="a", path=Path("a"), answer=1.0, split="train")
    values = np.full(SPEC.shape, 0.5, np.float32)
    learnt = dataclasses.replace(store_array(sample, values, tmp_path), scan_sha256="1" * 64)
    lines = split_file.split_table([learnt]).splitlines()
    text = "".join(",".join(line.split(",")[:columns]) + "\n" for line in lines)
    (tmp_path / split_file.SPLIT_FILE).write_text(text)
    with pytest.raises(DatasetError, match="has learnt from"):
        split_file.refuse_learnt(tmp_path, [learnt])
    again = dataclasses.replace(learnt, scan_sha256="2" * 64)
    if columns == 5:
        split_file.refuse_learnt(tmp_path, [again])
        return
    with pytest.raises(DatasetError, match="has learnt from"):
        split_file.refuse_learnt(tmp_path, [again])
    other = dataclasses.replace(again, stored_sha256="3" * 64)
    split_file.refuse_learnt(tmp_path, [other])


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    volumes = np.zeros((2, *SPEC.shape), np.float32)
    return write_hdf5(
        tmp_path / "training.h5", volumes, [0, 1], [0.0, 9.0], spec=SPEC, names=["a", "b"]
    )


def test_such_a_name_in_an_hdf5_file_is_refused(hdf5: Path) -> None:
    with h5py.File(hdf5, "r+") as file:
        file["names"][0] = STEERS
    with pytest.raises(DatasetError, match="control character"):
        read_hdf5(hdf5)


@pytest.mark.parametrize("name", ["images", "labels", "names"])
def test_a_small_hdf5_file_cannot_fill_the_memory(hdf5: Path, name: str) -> None:
    """Datasets that were never written cost no bytes, and say any size."""
    rows = hdf5_checks.MOST_ROWS + 1
    with h5py.File(hdf5, "r+") as file:
        kinds = {key: file[key].dtype for key in ("images", "labels", "scores", "names")}
        for key in kinds:
            del file[key]
        # Either too many rows in all of them, or two rows in a chunk of half a million volumes.
        for key, dtype in kinds.items():
            inner = SPEC.shape if key == "images" else ()
            count = rows if name == "names" else 2
            wide = name == key != "names"
            chunk = (1 << 21 if wide else 1, *inner)
            file.create_dataset(key, (count, *inner), dtype, chunks=chunk, maxshape=(None, *inner))
    with pytest.raises(DatasetError, match="is larger than such a file is"):
        read_hdf5(hdf5)


@pytest.mark.parametrize("task", [CLASSIFIER, SEVERITY], ids=lambda task: task.name)
def test_the_help_names_the_presets_of_the_task_and_no_other(task: object) -> None:
    name = next(key for key, known in TASKS.items() if known is task)
    text = " ".join(CliRunner().invoke(app, [name, "--help"]).output.split())
    listed = re.search(r"Named training: (.*?)\. The options", text)
    assert listed is not None
    found = [part.split(" ")[0] for part in listed[1].split(", ")]
    assert found == list(names(TASKS[name]))


@pytest.mark.parametrize("words", [[], ["data"]])
def test_the_list_of_commands_says_whole_sentences(words: list[str]) -> None:
    said = CliRunner().invoke(app, [*words, "--help"]).output
    assert "..." not in said.partition("Commands:")[2]
