"""Files that are broken, or built to do harm: every one ends in a word of ours."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from ctedge import UnreadableScan
from ctedge.deidentify import reading, witnesses
from ctedge.deidentify.instance import deidentify
from ctedge.deidentify.reading import NotForUs, Refused
from ctedge.deidentify.witnesses import MAX_DEPTH
from ctedge.readers.dicom.opening import MAX_ITEMS
from deidentify_factory import RULES, clean, cleaned, ct
from dicom_factory import item, save


def nested(depth: int) -> Dataset:
    place = item(SliceThickness=1.0)
    for _ in range(depth - 1):
        place = item(SharedFunctionalGroupsSequence=[place])
    return place


def test_sequences_are_walked_to_the_limit_and_refused_beyond(tmp_path):
    one = cleaned(tmp_path, ct(SharedFunctionalGroupsSequence=[nested(MAX_DEPTH)]))
    for _ in range(MAX_DEPTH):
        one = one.SharedFunctionalGroupsSequence[0]
    assert one.SliceThickness == 1
    with pytest.raises(UnreadableScan, match="nested too deep"):
        clean(tmp_path, ct(SharedFunctionalGroupsSequence=[nested(MAX_DEPTH + 1)]))


def test_a_tower_of_sequences_does_not_exhaust_the_stack(tmp_path):
    path = save(tmp_path / "a.dcm", ct())
    data = path.read_bytes()
    begin = struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 0xFFFFFFFF)
    begin += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = data.index(bytes.fromhex("e07f1000"))
    path.write_bytes(data[:at] + begin * 5000 + data[at:])
    with pytest.raises(UnreadableScan):
        deidentify(path, RULES)


@pytest.mark.parametrize("deflated", [False, True])
def test_items_are_counted_before_any_is_made(tmp_path, deflated):
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = (
        DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    )
    path = save(tmp_path / "a.dcm", dataset)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * (MAX_ITEMS + 1)
    body = struct.pack("<HH2sHI", 0x0018, 0x9504, b"SQ", 0, len(items)) + items
    if deflated:
        engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = engine.compress(body) + engine.flush()
    path.write_bytes(data[:start] + body)
    with pytest.raises(UnreadableScan, match="sequences without end"):
        deidentify(path, RULES)


def test_a_header_of_too_many_pieces_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_HEADER_READS", 20)
    with pytest.raises(UnreadableScan, match="header without end"):
        clean(tmp_path, ct())
    monkeypatch.undo()
    monkeypatch.setattr(witnesses, "MAX_ELEMENTS", 20)
    with pytest.raises(UnreadableScan, match="attributes without end"):
        clean(tmp_path, ct())


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression "),
        ("1.2.840.10008.1.2.4.100", "MPEG2 "),
        ("1.2.840.10008.1.2.99.123", ""),
    ],
)
def test_a_transfer_syntax_of_the_standard_that_is_not_supported_is_named(tmp_path, syntax, name):
    dataset = ct()
    meta = dataset.file_meta
    meta.TransferSyntaxUID = syntax
    path = tmp_path / "a.dcm"
    with path.open("wb") as stream:
        stream.write(bytes(128) + b"DICM")
        pydicom.filewriter.write_file_meta_info(stream, meta, enforce_standard=False)
    with pytest.raises(Refused) as caught:
        deidentify(path, RULES)
    (reason,) = caught.value.args[0]
    assert reason.startswith(f"the transfer syntax {name}")
    assert reason.endswith(f"({syntax}) is not supported")


def test_a_deflated_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(reading, "_STEP_BYTES", 1 << 18)
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "a.dcm", dataset)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(data[:start] + engine.compress(bytes(64 << 20)) + engine.flush())
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UnreadableScan, match="deflated dataset is too large"):
        deidentify(path, RULES)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_damaged(tmp_path, share):
    path = save(tmp_path / "a.dcm", ct())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableScan):
        deidentify(path, RULES)


@pytest.mark.parametrize("kept", [142, 154], ids=["in a value", "in a length"])
def test_a_header_that_ends_too_soon_is_told_as_that(tmp_path, kept):
    path = save(tmp_path / "a.dcm", ct())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnreadableScan) as caught:
        deidentify(path, RULES)
    assert caught.value.found == "it ends too soon, or a length in it is wrong"


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200), bytes(128) + b"DICM"])
def test_what_is_no_dicom_file_is_passed_over_or_damaged(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises((NotForUs, UnreadableScan)):
        deidentify(path, RULES)


def test_a_private_transfer_syntax_is_refused(tmp_path):
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    with pytest.raises(UnreadableScan, match="transfer syntax"):
        deidentify(path, RULES)


def test_an_attribute_of_a_foreign_vr_is_removed(tmp_path):
    dataset = ct()
    dataset.add_new(0x00180050, "LO", "Whitfield")  # SliceThickness is a DS
    dataset.add_new(0x00080064, "OB", b"Whitfield")  # ConversionType is a CS
    dataset.add_new(0x00100011, "LO", "Whitfield")  # newer than the data dictionary
    dataset.add_new(0x00189999, "LO", "Whitfield")  # of nobody
    dataset.add_new(0xFFFCFFFC, "OB", b"Whitfield")  # padding behind the data
    with pytest.raises(Refused):  # the ConversionType alone is suspicious
        clean(tmp_path, dataset)
    del dataset[0x00080064]
    assert b"Whitfield" not in clean(tmp_path, dataset).data


def test_bytes_behind_a_text_do_not_ride_along(tmp_path):
    path = save(tmp_path / "a.dcm", ct(Manufacturer="ACME" + "Z" * 20, KVP="120.000000000000"))
    data = path.read_bytes().replace(b"Z" * 20, b"\0Mrs Elea Whitfield\0")
    path.write_bytes(data.replace(b"120.000000000000", b"120\0\0Elea Whitfi"))
    answer = deidentify(path, RULES)
    assert b"Elea" not in answer.data


def test_broken_bytes_anywhere_end_in_an_answer_of_ours(tmp_path):
    """A thousandth of the header's bytes, or one, turned at random: 150 times."""
    dataset = ct(SourceImageSequence=[item(ReferencedSOPInstanceUID="1.2.3")], PatientAge="044Y")
    path = save(tmp_path / "a.dcm", dataset)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(12)
    outcomes = set()
    for _ in range(150):
        broken = whole.copy()
        at = rng.integers(132, len(whole) - 128, rng.integers(1, 4))
        broken[at] = rng.integers(0, 256, len(at))
        path.write_bytes(broken.tobytes())
        try:
            pydicom_reads = deidentify(path, RULES)
            outcomes.add("written")
            assert pydicom_reads.data[:132] == bytes(128) + b"DICM"
        except (NotForUs, Refused, UnreadableScan) as error:
            outcomes.add(type(error).__name__)
    assert {"written", "UnreadableScan"} <= outcomes
