"""`ctedge dicom list`: every series and what is known of it; nothing steers the terminal."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys

import pytest

from command_here import call
from dicom_factory import CHEST, edit, hu_of, save, slices, splice, uid_of, unknown, write_series
from patience import PATIENCE_S

#: A sequence of undefined length that begins, and nothing that ends it.
ITEM_WITHOUT_END = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)

#: Names a window, and turns what follows red.
STEERING = "\x1b]0;PWN\x07\x1b[31mRED"


hu = hu_of(20, 16, 16)


def listed(folder) -> dict:
    result = call("dicom", "list", folder, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_list_says_what_is_fit_and_why_not(tmp_path, hu):
    write_series(
        tmp_path / "chest", hu, BodyPartExamined="CHEST", ConvolutionKernel="B60f", **CHEST
    )
    write_series(tmp_path / "gap", hu, **CHEST)[5].unlink()
    write_series(tmp_path / "prone", hu, orientation=(-1, 0, 0, 0, -1, 0), **CHEST)
    edit(save(tmp_path / "scout.dcm", slices(hu[:1])[0]), ImageType=("ORIGINAL", "LOCALIZER"))
    found = listed(tmp_path)
    assert found["excluded"] == ["scout.dcm: a scout (ImageType LOCALIZER)"]
    chest, gap, prone = found["series"]
    assert chest["fit"]
    assert (chest["modality"], chest["files"], chest["slices"]) == ("CT", 20, 20)
    assert (chest["spacing_mm"], chest["size"]) == ([16.0, 16.0, 10.0], [16, 16])
    assert (chest["orientation"], prone["orientation"]) == ("LPS", "RAS")
    assert (chest["kernel"], chest["body_part"]) == ("B60f", "CHEST")
    assert chest["syntax"] == ["Explicit VR Little Endian"]
    assert chest["series"] == uid_of(tmp_path / "chest")
    assert not gap["fit"]
    assert "evenly" in gap["problem"]
    assert (gap["slices"], gap["spacing_mm"], gap["size"]) == (19, [16.0, 16.0, 10.0], [16, 16])
    assert gap["orientation"] == "LPS"
    assert "19 slices of 16 x 16, 16 x 16 x 10 mm, LPS" in call("dicom", "list", tmp_path).stdout


def test_the_list_names_no_patient(tmp_path, hu):
    write_series(tmp_path / "a", hu, **CHEST)
    write_series(tmp_path / "b", hu[:1])
    result = call("dicom", "list", tmp_path)
    assert result.returncode == 0
    assert "not fit" in result.stdout
    for said in (result.stdout, json.dumps(listed(tmp_path))):
        assert "Whitfield" not in said
        assert "0042317" not in said


def test_a_damaged_file_is_a_row_and_the_list_goes_on(tmp_path, hu):
    write_series(tmp_path / "chest", hu, **CHEST)
    for name in ("a.dcm", "z.dcm"):
        save(tmp_path / name, slices(hu[:1])[0])
        splice(tmp_path / name, ITEM_WITHOUT_END)
    cut = write_series(tmp_path / "cut", hu, **CHEST)[3]
    cut.write_bytes(cut.read_bytes()[:-7])
    chest, short, *damaged = listed(tmp_path)["series"]
    assert chest["fit"]
    assert not short["fit"]
    assert "cut/003.dcm: the DICOM file is damaged" in short["problem"]
    assert [row["file"] for row in damaged] == ["a.dcm", "z.dcm"]
    for row in damaged:
        assert (row["fit"], row["series"]) == (False, None)
        assert row["problem"].startswith("the DICOM file is damaged")
        assert row.keys() == chest.keys()
    said = call("dicom", "list", tmp_path).stdout
    assert "a.dcm  damaged" in said
    assert "  the DICOM file is damaged" in said


def test_damaged_files_alone_are_listed(tmp_path, hu):
    splice(save(tmp_path / "a.dcm", slices(hu[:1])[0]), ITEM_WITHOUT_END)
    (row,) = listed(tmp_path)["series"]
    assert not row["fit"]


def test_what_cannot_be_decoded_is_not_fit(tmp_path, hu):
    unknown(write_series(tmp_path, hu, **CHEST))
    (row,) = listed(tmp_path)["series"]
    assert not row["fit"]
    assert "nothing installed decodes these pixels: transfer syntax MPEG2" in row["problem"]
    assert row["slices"] == 20


def test_progress_is_shown_on_a_terminal_only(tmp_path, hu):
    write_series(tmp_path, hu, **CHEST)
    assert call("dicom", "list", tmp_path).stderr == ""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ctedge", "dicom", "list", str(tmp_path), "--json"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=PATIENCE_S
    )
    os.close(theirs)
    assert b"reading headers" in os.read(ours, 65536)
    os.close(ours)
    assert json.loads(done.stdout)["series"][0]["fit"]


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()])
def test_a_folder_with_nothing_to_list(tmp_path, make):
    make(tmp_path / "folder")
    result = call("dicom", "list", tmp_path / "folder")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_what_is_known_of_unlike_slices_is_said(tmp_path, hu):
    edit(write_series(tmp_path, hu, **CHEST)[3], PixelSpacing=[9.0, 9.0])
    (row,) = listed(tmp_path)["series"]
    assert (row["slices"], row["spacing_mm"], row["orientation"]) == (20, None, "LPS")
    assert "PixelSpacing" in row["problem"]


def test_series_of_other_modalities_are_rows(tmp_path, hu):
    write_series(tmp_path / "chest", hu, **CHEST)
    write_series(tmp_path / "head", hu[:3], Modality="MR")
    found = listed(tmp_path)
    _, head = found["series"]
    assert (head["modality"], head["files"], head["fit"]) == ("MR", 3, False)
    assert head["series"] == uid_of(tmp_path / "head")
    assert len(found["excluded"]) == 3
    (head,) = listed(tmp_path / "head")["series"]
    assert head["problem"] == "no CT"
    assert "MR, 3 files" in call("dicom", "list", tmp_path / "head").stdout


def test_a_series_uid_of_two_studies_is_named_with_its_study(tmp_path, hu):
    for study in ("1.2.3", "1.2.5"):
        write_series(tmp_path / study, hu, series="1.9", **(CHEST | {"study": study}))
    assert [row["series"] for row in listed(tmp_path)["series"]] == ["1.2.3/1.9", "1.2.5/1.9"]


def test_nothing_steers_the_terminal(tmp_path, hu):
    paths = write_series(
        tmp_path, hu, ConvolutionKernel=STEERING, BodyPartExamined="A\x1b[2JB", **CHEST
    )
    (tmp_path / "\x1b[41mbad\nfit.txt").write_text("no DICOM")
    save(tmp_path / "\x1b[31mz.dcm", slices(hu[:1], series="1.9")[0])
    splice(tmp_path / "\x1b[31mz.dcm", ITEM_WITHOUT_END)
    paths[0].rename(tmp_path / "\x1b[31ma.dcm")
    said = call("dicom", "list", tmp_path).stdout
    assert "RED" in said
    assert r"\x1b[41mbad\nfit.txt: not DICOM" in said
    assert not any(ord(mark) < 32 for mark in said.replace("\n", ""))


def test_what_is_no_folder_is_said(tmp_path, monkeypatch, hu):
    write_series(tmp_path, hu, **CHEST)
    monkeypatch.chdir(tmp_path)
    empty, device = call("dicom", "list", ""), call("dicom", "list", "/dev/null")
    assert (empty.returncode, device.returncode) == (1, 1)
    assert "the path of the scan is empty" in empty.stderr
    assert "/dev/null: neither a file nor a folder" in device.stderr
