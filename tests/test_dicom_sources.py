"""What a scan may be given as: folders, files, streams, data sets; and what lies beside it."""

from __future__ import annotations

import importlib
import io
import os
import struct

import numpy as np
import pydicom
import pytest

from ctedge import CTEdgeError, IrregularSeries, ScanNotFound, UnreadableScan, read_scan
from ctedge.readers import read_slices
from ctedge.slice_input import slice_of_scan
from ctedge.spec import SLICE_STUDY
from dicom_factory import WAYS, edit, enhanced, hu_of, las, oriented, save, slices, write_series

gather = importlib.import_module("ctedge.readers.dicom.gather")


hu = hu_of(5, 8, 10)


def streams(paths):
    return [io.BytesIO(path.read_bytes()) for path in paths]


SOURCES = {
    "a folder": lambda folder, paths: folder,
    "a folder as text": lambda folder, paths: str(folder),
    "paths": lambda folder, paths: paths,
    "paths as text, in a tuple": lambda folder, paths: tuple(map(str, reversed(paths))),
    "streams": lambda folder, paths: streams(paths),
    "data sets": lambda folder, paths: [pydicom.dcmread(path) for path in paths],
    "a mixture": lambda folder, paths: [
        paths[0],
        *streams(paths[1:3]),
        *map(pydicom.dcmread, paths[3:]),
    ],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_the_same_scan(tmp_path, hu, kind):
    paths = write_series(tmp_path, hu)
    scan = read_scan(SOURCES[kind](tmp_path, paths))
    np.testing.assert_array_equal(scan.voxels, las(hu))
    assert scan.excluded == ()


def test_a_single_file_a_stream_or_a_data_set(tmp_path, hu):
    path = save(tmp_path / "enhanced.dcm", enhanced(hu))
    for source in (path, str(path), io.BytesIO(path.read_bytes()), enhanced(hu)):
        np.testing.assert_array_equal(read_scan(source).voxels, las(hu))
    with path.open("rb") as stream:
        scan = read_scan(stream)
    np.testing.assert_array_equal(scan.voxels, las(hu))  # the stream is closed by now


def test_one_file_of_a_series_is_no_series(tmp_path, hu):
    with pytest.raises(IrregularSeries, match="single slice") as caught:
        read_scan(write_series(tmp_path, hu)[0])
    assert "a model for slices" in caught.value.fix


@pytest.mark.parametrize("way", WAYS)
def test_a_slice_alone_is_that_slice_of_its_scan(tmp_path, hu, way):
    pixels, geometry = oriented(hu, *WAYS[way])
    paths = write_series(tmp_path, pixels, **geometry)
    whole = read_slices(tmp_path)
    assert whole.shape == read_scan(tmp_path).shape
    for source in (paths[1], io.BytesIO(paths[1].read_bytes()), pydicom.dcmread(paths[1])):
        alone = read_slices(source)
        grows = geometry["orientation"][0] * geometry["orientation"][4]  # or both are 0
        grows -= geometry["orientation"][1] * geometry["orientation"][3]
        place = 1 if grows > 0 else len(paths) - 2
        np.testing.assert_array_equal(alone.voxels[:, :, 0], whole.voxels[:, :, place])
        np.testing.assert_allclose(alone.affine @ [3, 2, 0, 1], whole.affine @ [3, 2, place, 1])
        assert alone.spacing_mm == pytest.approx((*whole.spacing_mm[:2], 1.0))
        shown = slice_of_scan(alone, 0, SLICE_STUDY).volume
        expected = slice_of_scan(whole, place, SLICE_STUDY).volume
        np.testing.assert_allclose(shown, expected, atol=1e-6)  # sums in another order


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "not axial"),
        ({"orientation": (0.5, 0, 0, 0, 1, 0)}, "do not say how they lie"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "no CT slice"),
        ({"orientation": (1, 0, 0, 0, 0.8, 0.6)}, "oblique"),
    ],
)
def test_a_slice_alone_that_is_none(hu, elements, message):
    with pytest.raises(CTEdgeError, match=message):
        read_slices(slices(hu[:1], **elements)[0])


def test_what_is_there_and_is_no_file_is_not_called_missing(tmp_path, hu):
    folder = write_series(tmp_path / "series", hu)[0].parent
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableScan, match="a folder in a list of files"):
        read_scan([folder])
    with pytest.raises(UnreadableScan, match="neither a file nor a folder"):
        read_scan([tmp_path / "pipe"])


@pytest.mark.parametrize("source", [[], [3], 7, None, [io.StringIO("text")], [b"bytes"]])
def test_what_is_no_source(source):
    with pytest.raises(CTEdgeError) as caught:
        read_scan(source)
    assert caught.value.fix


def test_a_file_that_is_not_there(tmp_path, hu):
    paths = write_series(tmp_path, hu)
    with pytest.raises(ScanNotFound, match="no such file"):
        read_scan([*paths, tmp_path / "missing.dcm"])


def test_a_stream_without_end_is_refused(tmp_path, hu, monkeypatch):
    monkeypatch.setattr(gather, "MAX_STREAM_BYTES", 100)
    with pytest.raises(UnreadableScan, match="does not end"):
        read_scan(streams(write_series(tmp_path, hu)))


def test_a_data_set_that_does_not_say_its_encoding(hu):
    made = slices(hu)
    for one in made:
        del one.file_meta
    with pytest.raises(UnreadableScan, match="TransferSyntaxUID"):
        read_scan(made)


# Folders


def test_folders_inside_folders(tmp_path, hu):
    paths = write_series(tmp_path / "study" / "series", hu)
    (tmp_path / "study" / "empty").mkdir()
    for number, path in enumerate(paths):  # one slice a folder, as some archives export
        (path.parent / str(number)).mkdir()
        path.rename(path.parent / str(number) / "image")
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.voxels, las(hu))
    assert scan.excluded == ()


def test_other_files_are_left_out_and_named(tmp_path, hu):
    write_series(tmp_path, hu)
    (tmp_path / "README.txt").write_text("deflated is 1.2.840.10008.1.2.1.99")
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").write_bytes(bytes(5000))
    (tmp_path / "short").write_bytes(b"x" * 130)
    (tmp_path / "sub").mkdir()
    names = ("README.txt", "empty", "short", "zeros")
    assert read_scan(tmp_path).excluded == tuple(f"{name}: not DICOM" for name in names)


def test_links_are_not_followed_and_named(tmp_path, hu):
    folder, outside = tmp_path / "series", tmp_path / "outside"
    write_series(folder, hu)
    other = write_series(outside, hu)
    (folder / "file").symlink_to(other[0])
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    scan = read_scan(folder)
    np.testing.assert_array_equal(scan.voxels, las(hu))
    names = ("file", "folder", "loop", "nowhere")
    assert scan.excluded == tuple(f"{name}: a symbolic link, not followed" for name in names)


def test_a_folder_that_is_a_link_itself_was_named_by_the_user(tmp_path, hu):
    write_series(tmp_path / "series", hu)
    (tmp_path / "link").symlink_to(tmp_path / "series")
    assert read_scan(tmp_path / "link").shape == (10, 8, 5)


def test_a_pipe_is_not_opened(tmp_path, hu):
    write_series(tmp_path, hu)
    os.mkfifo(tmp_path / "pipe")
    assert read_scan(tmp_path).excluded == ("pipe: a device, pipe or socket, not opened",)


def test_folders_far_down_are_not_looked_into(tmp_path, hu):
    write_series(tmp_path, hu)
    deep = tmp_path.joinpath(*["d"] * (gather.MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    (reason,) = read_scan(tmp_path).excluded
    assert "folders deep, not looked into" in reason


def test_far_too_many_files(tmp_path, hu, monkeypatch):
    monkeypatch.setattr(gather, "MAX_FILES", 3)
    write_series(tmp_path, hu)
    with pytest.raises(UnreadableScan, match="too many files"):
        read_scan(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, hu):
    path = write_series(tmp_path, hu)[2]
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UnreadableScan):
        read_scan(tmp_path)


# What is no CT slice

LEFT_OUT = {
    "a scout": ({"ImageType": ("DERIVED", "LOCALIZER")}, "a scout (ImageType LOCALIZER)"),
    "another modality": ({"Modality": "MR"}, "Modality MR, no CT"),
    "a dose screen": ({"ImageType": ("DERIVED", "SECONDARY", "DOSE_INFO")}, "a dose screen"),
    "a screen save": ({"ImageType": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, "a screen save"),
    "a capture": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture"),
    "a report": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "Basic Text SR"),
    "a segmentation": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "Segmentation Storage"),
    "other units": ({"RescaleType": "ED"}, "its values are ED, not HU"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_no_ct_slice_is_left_out_and_named(tmp_path, hu, case):
    elements, reason = LEFT_OUT[case]
    write_series(tmp_path, hu)
    save(tmp_path / "odd.dcm", slices(hu[:1], **elements)[0])
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.voxels, las(hu))
    (named,) = scan.excluded
    assert named.startswith("odd.dcm: ")
    assert reason in named


def test_a_scout_alone_is_no_scan(tmp_path, hu):
    write_series(tmp_path, hu, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    with pytest.raises(IrregularSeries, match=r"(?s)no CT slice.*a scout"):
        read_scan(tmp_path)


def test_a_dicomdir_is_left_out_and_its_references_are_not_followed(tmp_path, hu):
    folder = tmp_path / "disc"
    write_series(folder.parent / "OUTSIDE", hu)
    paths = write_series(folder, hu)
    directory = pydicom.dcmread(paths[0])
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    record = pydicom.Dataset()
    record.ReferencedFileID = ["OUTSIDE", "000"]
    directory.DirectoryRecordSequence = [record]
    directory.save_as(folder / "DICOMDIR")
    (reason,) = read_scan(folder).excluded
    assert reason == "DICOMDIR: a DICOMDIR, whose references are not followed"
    with pytest.raises(IrregularSeries, match="no CT slice"):
        read_scan(folder / "DICOMDIR")


def test_messages_and_reasons_name_no_patient(tmp_path, hu):
    paths = write_series(tmp_path, hu)
    edit(paths[0], ImageType=["DERIVED", "LOCALIZER"])
    scan = read_scan(tmp_path)
    paths[2].unlink()
    with pytest.raises(IrregularSeries) as caught:
        read_scan(tmp_path)
    said = str(caught.value) + " ".join(scan.excluded)
    assert "Whitfield" not in said
    assert "0042317" not in said


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "RescaleSlope"])
def test_values_that_slipped_into_other_elements_are_not_quoted(tmp_path, hu, keyword):
    path = write_series(tmp_path, hu)[1]
    data = path.read_bytes()
    place = data.index(struct.pack("<HH", *divmod(pydicom.tag.Tag(keyword), 1 << 16)), 300)
    (length,) = struct.unpack_from("<H", data, place + 6)
    name = b"Whitfield^Eleanor"[:length].ljust(length)
    path.write_bytes(data[: place + 8] + name + data[place + 8 + length :])
    with pytest.raises(CTEdgeError) as caught:
        read_scan(tmp_path)
    assert "001.dcm" in str(caught.value)
    assert "Wh" not in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.nii")
    with pytest.raises(UnreadableScan, match="neither a file nor a folder"):
        read_scan(tmp_path / "scan.nii")
