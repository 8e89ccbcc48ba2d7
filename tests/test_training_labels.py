"""The label file: what is read, and every way it can be unsound."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge_training.datasets.labels import check_trainable, read_labels
from ctedge_training.learning.settings import parse_sizes, spec_on_grid
from ctedge_training.tasks import CLASSIFIER, SEVERITY

HEADER = "path,label,score,split\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.nii", "b.nii", "c.nii", "d.nii"):
        (data / name).write_bytes(name.encode())
    (tmp_path / "outside.nii").write_bytes(b"outside")
    return data


def write(folder: Path, text: str) -> None:
    (folder / "labels.csv").write_text(text, encoding="utf-8")


def test_rows_keep_their_order_and_take_the_column_of_the_task(folder: Path) -> None:
    write(folder, HEADER + "b.nii,abnormal,37.5,train\na.nii,normal,0,validation\n")
    classes, scores = read_labels(folder, CLASSIFIER), read_labels(folder, SEVERITY)
    assert [(s.name, s.answer, s.split) for s in classes] == [
        ("b.nii", 1.0, "train"),
        ("a.nii", 0.0, "validation"),
    ]
    assert [s.answer for s in scores] == [37.5, 0.0]
    assert classes[0].path == (folder / "b.nii").resolve()


def test_a_task_does_not_need_the_column_of_the_other(folder: Path) -> None:
    write(folder, "split,path,label\ntrain,a.nii,normal\n")
    assert read_labels(folder, CLASSIFIER)[0].answer == 0.0


def test_a_byte_order_mark_and_spaces_are_no_harm(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(
        b"\xef\xbb\xbf" + HEADER.encode() + b"a.nii , normal, 0 ,train\r\n"
    )
    assert read_labels(folder, CLASSIFIER)[0].split == "train"


def test_another_label_file_still_names_paths_in_the_data_folder(folder: Path) -> None:
    other = folder.parent / "other.csv"
    other.write_text(HEADER + "a.nii,normal,0,train\n", encoding="utf-8")
    assert read_labels(folder, CLASSIFIER, labels=other)[0].path.name == "a.nii"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing column path, label, split"),
        ("path,score,split\na.nii,3,train\n", "missing column label"),
        (HEADER + "a.nii,ill,3,train\n", "unknown label"),
        (HEADER + "a.nii,normal,3,training\n", "unknown split"),
        (HEADER + "a.nii,normal,3,train\nb.nii,normal,3,train\na.nii,normal,3,test\n", "twice"),
        (HEADER + "a.nii,normal,3,train\n./a.nii,normal,3,train\n", "twice"),
        (HEADER + "missing.nii,normal,3,train\n", "no such scan"),
        (HEADER + "../outside.nii,normal,3,train\n", "leads out of the data folder"),
        (HEADER + "/etc/hostname,normal,3,train\n", "leads out of the data folder"),
        (HEADER + ",normal,3,train\n", "leads out of the data folder"),
        (HEADER + "a.nii,normal,3\n", "wrong number of fields"),
        (HEADER + "a.nii,normal,3,train,extra\n", "wrong number of fields"),
        (HEADER + '"a.nii,normal,3,train\n', "cannot be read"),
        (HEADER, "no scan in the table"),
        (HEADER + "a.nii,,3,train\n", "line 2: unknown label"),
        (HEADER + "a.nii,normal,101,train\n", "line 2: unreadable score"),
        (HEADER.replace("\n", ",slice\n") + "a.nii,normal,3,train,4\n", "line 2: unusable slice"),
        (HEADER.replace("\n", ",label\n") + "a.nii,normal,3,train,normal\n", "stands twice"),
        (
            HEADER.replace("\n", ",patient\n")
            + "a.nii,normal,3,train,p\nb.nii,normal,3,test, p \n",
            "the patient 'p' stands in two splits\n  found:    .*; 1 such patient\n",
        ),
    ],
)
def test_an_unsound_label_file_is_refused(folder: Path, text: str, message: str) -> None:
    write(folder, text)
    with pytest.raises(DatasetError, match=message):
        read_labels(folder, CLASSIFIER)


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "-0.1", "100.5"])
def test_an_unreadable_score_is_refused(folder: Path, score: str) -> None:
    write(folder, HEADER + f"a.nii,normal,{score},train\n")
    with pytest.raises(DatasetError, match="line 2: unreadable score"):
        read_labels(folder, SEVERITY)


def test_a_missing_or_binary_label_file_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no label file"):
        read_labels(folder, CLASSIFIER)
    (folder / "labels.csv").write_bytes(b"path,label,split\n\xff\xfe,normal,train\n")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_labels(folder, CLASSIFIER)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.nii").symlink_to(folder.parent / "outside.nii")
    write(folder, HEADER + "link.nii,normal,3,train\n")
    with pytest.raises(DatasetError, match="leads out"):
        read_labels(folder, CLASSIFIER)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "train", "train", "train"), "'validation' is empty"),
        (("validation", "validation", "test", "test"), "'train' is empty"),
        (("train", "validation", "validation", "test"), "one class only in the split 'train'"),
        (("train", "train", "validation", "test"), "1 scan with the same answer"),
        (("train", "train", "validation", "test"), "one class only in the split 'validation'"),
    ],
)
def test_what_no_training_can_start_from(
    folder: Path, splits: tuple[str, ...], message: str
) -> None:
    names = ("a.nii,normal,0", "b.nii,abnormal,50", "c.nii,normal,0", "d.nii,abnormal,9")
    write(folder, HEADER + "".join(f"{n},{s}\n" for n, s in zip(names, splits, strict=True)))
    samples = read_labels(folder, CLASSIFIER)
    with pytest.raises(DatasetError, match=message):
        check_trainable(samples, folder / "labels.csv")


def test_a_grid_is_three_sizes_and_renames_the_spec() -> None:
    assert parse_sizes("94x94x46", least=46) == (94, 94, 46)
    for text in (
        "94x94",
        "94x94x-1",
        "a x b x c",
        "94,94,46",
        "94x94x45",
        "94x94x9999",
        "9²x94x94",
    ):
        with pytest.raises(ValueError, match="3 sizes"):
            parse_sizes(text, least=46)
    spec = spec_on_grid(CLASSIFIER.spec, (94, 94, 46))
    assert (spec.name, spec.shape, spec.axes) == ("keras-example-94x94x46", (94, 94, 46), "PLS")
    assert spec_on_grid(CLASSIFIER.spec, None) is CLASSIFIER.spec
    assert spec_on_grid(CLASSIFIER.spec, CLASSIFIER.spec.shape) is CLASSIFIER.spec
