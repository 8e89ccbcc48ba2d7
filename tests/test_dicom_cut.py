"""A file that was cut off is an error, wherever it was cut: a scan is never silently shorter."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ctedge import CTEdgeError, UnreadableScan, read_scan
from dicom_factory import edit, enhanced, save, write_series


@pytest.fixture
def paths(tmp_path, rng):
    """A series of 20 slices; without its last one, the others still lie evenly."""
    return write_series(tmp_path, rng.integers(-1000, 1200, (20, 8, 10)).astype(np.int16))


@pytest.mark.parametrize("kept", [0, 1, 131, 132, 140, 200, 300, 400, 500, 600, 700, 800, 900])
def test_a_last_slice_that_was_cut_off_is_named(paths, kept):
    paths[-1].write_bytes(paths[-1].read_bytes()[:kept])
    for source in (paths[0].parent, paths):
        with pytest.raises(UnreadableScan, match=r"019\.dcm: the DICOM file is damaged"):
            read_scan(source)


def test_a_last_slice_of_zeros_is_named(paths):
    paths[-1].write_bytes(bytes(paths[-1].stat().st_size))
    with pytest.raises(UnreadableScan, match=r"019\.dcm(?s:.*)zeros in the place"):
        read_scan(paths[0].parent)


@pytest.mark.parametrize("elements", [{"Modality": None}, {"Rows": None}])
def test_a_ct_file_that_lost_what_makes_it_one_is_named(paths, elements):
    edit(paths[-1], **elements)
    with pytest.raises(UnreadableScan, match=r"019\.dcm: the DICOM file is damaged"):
        read_scan(paths[0].parent)


def test_a_file_that_goes_on_as_another_class_is_named(paths):
    ct = b"1.2.840.10008.5.1.4.1.1.2\0"
    data = paths[-1].read_bytes()
    paths[-1].write_bytes(data[:300] + data[300:].replace(ct, ct.replace(b"2\0", b"7\0")))
    with pytest.raises(UnreadableScan, match=r"019\.dcm(?s:.*)goes on as another class"):
        read_scan(paths[0].parent)


@pytest.mark.parametrize("kept", [100, 500, -7], ids=["no DICOM", "a header", "pixels"])
def test_a_damaged_file_is_named_with_its_folder_as_given(paths, kept, monkeypatch):
    """Of several scans on one command line, each has a file of this name."""
    paths[-1].write_bytes(paths[-1].read_bytes()[:kept])
    folder = paths[0].parent
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UnreadableScan) as caught:
        read_scan(folder.name)
    assert caught.value.what == f"{folder.name}/019.dcm: the DICOM file is damaged"


@pytest.mark.parametrize("name", ["IM{:04d}", "1.2.840.{}", "{}.ima"])
@pytest.mark.parametrize("kept", [0, 131])
def test_slices_of_other_names(paths, name, kept):
    for number, path in enumerate(paths):
        path.rename(path.with_name(name.format(number)))
    last = paths[-1].with_name(name.format(19))
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(UnreadableScan, match=f"{kept} bytes"):
        read_scan(last.parent)


def test_empty_files_that_are_not_named_as_slices_are_left_out(paths, tmp_path):
    for name in (".done", "lock", "notes.txt"):
        (tmp_path / name).touch()
    scan = read_scan(tmp_path)
    assert scan.shape[2] == 20
    assert scan.excluded == (".done: not DICOM", "lock: not DICOM", "notes.txt: not DICOM")


def test_the_slices_that_remain_are_read_once_the_damaged_one_is_gone(paths, tmp_path):
    whole = read_scan(tmp_path).voxels
    paths[-1].unlink()
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, whole[:, :, :-1])


def three_slices(folder, rng, kind):
    """Files of three slices, or one of three frames; the last file is to be cut."""
    hu = rng.integers(-1000, 1200, (3, 8, 10)).astype(np.int16)
    if kind == "enhanced":
        return [save(folder / "000.dcm", enhanced(hu))]
    return write_series(folder, hu, syntax=kind, RescaleType="HU")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "kind",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        "enhanced",
    ],
)
def test_wherever_a_file_is_cut_the_scan_is_whole_or_a_user_is_told_why_not(tmp_path, rng, kind):
    paths = three_slices(tmp_path, rng, kind)
    whole = paths[-1].read_bytes()
    voxels = read_scan(paths).voxels
    refused = []
    for kept in range(0, len(whole), STEP):
        paths[-1].write_bytes(whole[:kept])
        try:
            np.testing.assert_array_equal(read_scan(paths).voxels, voxels)
        except CTEdgeError as error:
            refused.append(kept)
            found = error.in_one_line().partition(" (")[2]
            assert " " in found, (kept, found)  # words, and not the name of an error alone
            assert not CODE.search(found), (kept, found)
    assert refused == [*range(0, len(refused) * STEP, STEP)]
    assert len(whole) - refused[-1] <= PADDING + STEP


#: What Python and pydicom say to programmers.
CODE = re.compile(r"\berror\b|unpack|OSError|EOFError|Exception|None")

#: Bytes behind the pixels, which nobody misses: a delimiter, and one that makes a length even.
PADDING = 9

#: Bytes from one cut to the next; each byte takes a minute, and finds no more.
STEP = 11
