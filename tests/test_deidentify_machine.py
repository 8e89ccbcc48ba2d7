"""Failures of the machine, not of a file: nothing is left out, or given up for good, for them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import typer
from typer.testing import CliRunner

from ctedge import OutputError, UnreadableScan
from ctedge.cli.dicom_anonymize import anonymize
from ctedge.deidentify import attributes, check_folder, deidentify_folder
from ctedge.errors import DatasetError
from ctedge.phantom import write_studies
from ctedge_training.hrct.studies import read_studies
from deidentify_factory import KEY, ct
from dicom_factory import save
from folders import contents

SLICES = 3
SLICE_THICKNESS, THICKNESS_MM = 0x00180050, 1.5
NO_MEMORY = "there was too little memory for it"
UNREAD = f"it could not be read: {os.strerror(errno.EIO)}"

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(anonymize)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Slices in two folders; and a key, so that each run of them writes the same."""
    for number in range(1, SLICES + 1):
        place = tmp_path / "in" / ("one" if number == 1 else "two")
        save(place / f"{number}.dcm", ct(number, SliceThickness=THICKNESS_MM + number))
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "in"


def broken(*_args: object) -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def fail(
    patch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    *,
    where: Callable[..., bool],
    error: Callable[[], Exception] = broken,
    once: bool = False,
) -> None:
    """Let `owner.name` fail where `where(*arguments)` holds: each time, or the first."""
    real, failed = getattr(owner, name), []

    def failing(*args, **named):
        if where(*args) and not (once and failed):
            failed.append(name)
            raise error()
        return real(*args, **named)

    patch.setattr(owner, name, failing)


def hide(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder fail when it is listed, as one without permission would: also for root."""

    def denied() -> OSError:
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def is_hidden(place: object = ".") -> bool:
        return Path(str(place)) == folder

    fail(patch, os, "scandir", where=is_hidden, error=denied)


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path, monkeypatch, series):
    hide(monkeypatch, series / "two")
    with pytest.raises(UnreadableScan, match="two: the folder cannot be listed") as caught:
        deidentify_folder(series, tmp_path / "out")
    assert caught.value.found == os.strerror(errno.EACCES)
    assert list(tmp_path.glob("out*")) == []


def test_a_folder_that_cannot_be_listed_is_not_checked_as_clean(tmp_path, monkeypatch, series):
    deidentify_folder(series, tmp_path / "out")
    leak = save(tmp_path / "out" / "leak" / "a.dcm", ct(9))
    hide(monkeypatch, leak.parent)
    with pytest.raises(UnreadableScan, match="leak: the folder cannot be listed"):
        check_folder(tmp_path / "out")


def test_links_are_not_overlooked_in_an_output_that_cannot_be_listed(tmp_path, monkeypatch, series):
    deidentify_folder(series, tmp_path / "out")
    (inside,) = (tmp_path / "out").iterdir()
    hide(monkeypatch, inside)
    with pytest.raises(OutputError, match=f"{inside.name}: the folder cannot be listed"):
        deidentify_folder(series, tmp_path / "out")


def test_studies_without_a_row_are_not_overlooked(tmp_path, monkeypatch):
    write_studies(tmp_path, count=2, seed=3, shape=(16, 16, 4))
    (tmp_path / "more").mkdir()
    assert len(read_studies(tmp_path)) == 2
    hide(monkeypatch, tmp_path / "more")
    with pytest.raises(DatasetError, match="more: the folder cannot be looked into"):
        read_studies(tmp_path)


def is_second(path: object, *_rest: object) -> bool:
    return Path(str(path)).name == "2.dcm"


def is_encoded_second(_stream: object, dataset: pydicom.Dataset, *_rest: object) -> bool:
    return dataset.InstanceNumber == 2


def is_second_thickness(dataset: pydicom.Dataset, key: object, *_rest: object) -> bool:
    return key == SLICE_THICKNESS and dataset.get("InstanceNumber") == 2


def is_thickness_of_second(text: str) -> bool:
    return text == f"{THICKNESS_MM + 2}"


#: What fails over the second slice: an attribute of what, when, and with what.
FAILURES = {
    "looked at": (Path, "lstat", {"where": is_second}, UNREAD),
    "opened": (Path, "open", {"where": is_second}, UNREAD),
    "read": (pydicom.filereader, "read_file_meta_info", {"where": is_second}, UNREAD),
    "read, no memory": (
        pydicom.filereader,
        "read_file_meta_info",
        {"where": is_second, "error": MemoryError},
        NO_MEMORY,
    ),
    "encoded, no memory": (
        pydicom,
        "dcmwrite",
        {"where": is_encoded_second, "error": MemoryError},
        NO_MEMORY,
    ),
    "searched for names, no memory": (
        pydicom.Dataset,
        "__getitem__",
        {"where": is_second_thickness, "error": MemoryError, "once": True},
        NO_MEMORY,
    ),
    "cleaned, no memory": (
        attributes,
        "is_number",
        {"where": is_thickness_of_second, "error": MemoryError},
        NO_MEMORY,
    ),
}


@pytest.mark.parametrize(("owner", "name", "how", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_file_that_the_machine_fails_at_is_named_and_tried_again(
    tmp_path, monkeypatch, series, owner, name, how, reason
):
    key = ["--key-file", str(tmp_path / "key")]
    deidentify_folder(series, tmp_path / "whole", key_file=tmp_path / "key")
    arguments = [str(series), str(tmp_path / "out"), "--workers", "1", *key]
    with monkeypatch.context() as patch:
        fail(patch, owner, name, **how)
        answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert f"damaged: two/2.dcm: {reason}" in answer.output
    assert f"{SLICES - 1} written, 0 refused, 1 damaged" in answer.output
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_file_that_was_done_and_cannot_be_looked_at_ends_nothing(tmp_path, monkeypatch, series):
    deidentify_folder(series, tmp_path / "out")
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        fail(patch, Path, "lstat", where=is_second)
        summary = deidentify_folder(series, tmp_path / "out")
    assert [one.reasons for one in summary.of("damaged")] == [[UNREAD]]
    assert set(contents(tmp_path / "out")) == {one.output for one in summary.of("written")}
    assert len(deidentify_folder(series, tmp_path / "out").of("written")) == SLICES
    assert contents(tmp_path / "out") == before


def test_a_check_names_a_file_that_cannot_be_read(tmp_path, monkeypatch, series):
    deidentify_folder(series, tmp_path / "out")
    save(tmp_path / "out" / "2.dcm", ct(2))
    fail(monkeypatch, Path, "open", where=is_second)
    found = {(one.kind, one.where, one.what) for one in check_folder(tmp_path / "out")}
    assert ("unreadable", "2.dcm", UNREAD) in found


def test_damage_is_still_given_up_for_good(tmp_path, series):
    """Its error is an `OSError` of pydicom's or Python's own at most, and that has no number."""
    totals = []

    def begin(total):
        totals.append(total)
        return lambda: None

    whole = (series / "two" / "2.dcm").read_bytes()
    for cut in (140, 300, 700):
        (series / f"{cut}.dcm").write_bytes(whole[:cut])
    for _ in range(2):
        summary = deidentify_folder(series, tmp_path / "out", begin=begin)
        assert len(summary.of("damaged")) == 3
    assert totals == [SLICES + 3, 0]
