"""A canary in every identifying attribute, at every depth, in every encoding: none survives."""

from __future__ import annotations

import itertools
import json
import warnings
import zlib

import pydicom
import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ctedge.deidentify import Options, deidentify_folder
from ctedge.deidentify.actions import basic_table
from deidentify_factory import ct
from dicom_factory import save

#: Sequences that stay, one within the other: the depth is what counts.
CHAIN = (
    "SharedFunctionalGroupsSequence",
    "CTAcquisitionDetailsSequence",
    "DerivationImageSequence",
    "SourceImageSequence",
    "PixelMeasuresSequence",
    "PlanePositionSequence",
)
#: Kept by the options because they are numbers or times, so that no canary can be told in them.
KEPT_BY_OPTIONS = {"PatientAge", "PatientSize", "PatientWeight", "PregnancyStatus"}
#: Not of a dataset: command and file meta elements.
FIRST_TAG = 0x00080000


class Planter:
    """Plants canaries, each once, and remembers the bytes of each."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.numbers = itertools.count(1)
        self.planted: list[bytes] = []

    def value(self, vr: str) -> object:
        n = next(self.numbers)
        text = f"CANARY{n:06d}"
        match vr:
            case "DA" | "DT":
                # One day for all: another day's canary, moved back, would look like this one.
                text = "17031224" + (f"112233.{n:06d}" if vr == "DT" else "")
            case "TM":
                text = f"2359{n % 60:02d}.{n:06d}"
            case "UI":
                text = f"1.2.840.{10008 if n % 2 else 99999}.77.{n}.778899"
            case "AS":
                text = f"{n % 1000:03d}W"
            case "DS" | "IS":
                text = str(770_000_000 + n)
            case "UR":
                text = f"http://{text}.example"
            case "PN":
                text = f"{text}^GIVEN"
            case "US":
                return 7
            case "OB" | "OW" | "UN":
                self.planted.append(text.encode())
                return text.encode()
        # An age of three digits and a letter is met everywhere: its removal is asserted elsewhere.
        if vr != "AS":
            self.planted.append(text.encode())
        return text

    def plant(self, dataset: Dataset) -> None:
        for tag in basic_table():
            if tag < FIRST_TAG:
                continue
            keyword, vr = keyword_for_tag(tag), "LO"
            if dictionary_has_tag(tag):
                vr = dictionary_VR(tag).split(" or ")[0]
            if self.options.characteristics and keyword in KEPT_BY_OPTIONS:
                continue
            if self.options.dates and vr == "TM" and "Birth" not in keyword:
                continue
            if keyword in {"SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", *CHAIN}:
                continue
            dataset.add(DataElement(tag, vr, self.sequence() if vr == "SQ" else self.value(vr)))
        for group in (0x0009, 0x0029):
            block = dataset.private_block(group, f"CANARY{next(self.numbers):06d}", create=True)
            block.add_new(1, "LO", self.value("LO"))
            block.add_new(2, "SQ", self.sequence())
        for tag, vr in ((0x60003000, "OB"), (0x60004000, "LT"), (0x50003000, "OW")):
            dataset.add(DataElement(tag, vr, self.value(vr)))
        # No attribute of the table, and free text all the same.
        for keyword in ("ContentDescription", "StackID", "DimensionDescriptionLabel"):
            vr = dictionary_VR(keyword)
            setattr(dataset, keyword, self.value(vr))

    def sequence(self) -> list[Dataset]:
        inner = Dataset()
        inner.PatientComments, inner.CodeValue = self.value("LT"), self.value("SH")
        inner.CodingSchemeDesignator, inner.CodeMeaning = "99CANARY", self.value("LO")
        return [inner]


def planted_slice(options: Options, syntax: str) -> tuple[object, Planter]:
    planter = Planter(options)
    dataset = ct()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that are none, on purpose
        planter.plant(dataset)
        place: Dataset = dataset
        for name in CHAIN:
            below = Dataset()
            below.SliceThickness = 1.25
            planter.plant(below)
            setattr(place, name, [below])
            place = below
    dataset.preamble = planter.value("OB").ljust(128, b"\x01")
    meta = dataset.file_meta
    meta.TransferSyntaxUID = syntax
    meta.SourceApplicationEntityTitle = planter.value("AE")
    meta.SendingApplicationEntityTitle = planter.value("AE")
    meta.ImplementationVersionName = planter.value("SH")
    meta.PrivateInformationCreatorUID = planter.value("UI")
    meta.PrivateInformation = planter.value("OB")
    return dataset, planter


def plain(data: bytes, syntax: str) -> bytes:
    if syntax != DeflatedExplicitVRLittleEndian:
        return data
    start = 144 + int.from_bytes(data[140:144], "little")
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("syntax", "all_options"),
    [
        (ExplicitVRLittleEndian, True),
        (ExplicitVRLittleEndian, False),
        (ImplicitVRLittleEndian, True),
        (ExplicitVRBigEndian, True),
        (DeflatedExplicitVRLittleEndian, True),
    ],
    ids=lambda value: getattr(value, "keyword", "options" if value is True else "basic"),
)
def test_no_canary_survives(tmp_path, syntax, all_options):
    options = Options(dates=all_options, characteristics=all_options, descriptors=all_options)
    dataset, planter = planted_slice(options, syntax)
    name = "CANARY-IN-THE-NAME.dcm"
    before = plain(save(tmp_path / "in" / name, dataset).read_bytes(), syntax)
    assert len(planter.planted) > 3000
    # The search finds what is there: without this, finding nothing would mean nothing.
    assert [canary for canary in planter.planted if canary not in before] == []

    summary = deidentify_folder(tmp_path / "in", tmp_path / "out", options=options)

    (one,) = summary.outcomes
    assert one.state == "written", one.reasons
    written = tmp_path / "out" / one.output
    after = plain(written.read_bytes(), syntax)
    for text in (after, summary.record.read_bytes(), str(one.output).encode()):
        assert [canary for canary in planter.planted if canary in text] == []
        assert b"canary" not in text.lower()
        assert "canary".encode("utf-16-le") not in text.lower()
    place = pydicom.dcmread(written)
    assert not place.group_dataset(0x0009)
    for name in CHAIN:  # the sequences were walked, not thrown away
        place = place[name].value[0]
        assert place.SliceThickness == 1.25


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Wěngélian^Zoë"),
        ("ISO_IR 100", "Brüggemann^Jérôme"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("GB18030", "王小东^东"),
        ("ISO_IR 144", "Щукин^Ждан"),
    ],
    ids=str,
)
def test_names_in_other_alphabets_leave_no_byte(tmp_path, charset, name):
    dataset = ct(SpecificCharacterSet=charset, PatientName=name, PatientComments=name)
    dataset.SeriesDescription = f"CHEST {name.split('^')[0]}"
    path = save(tmp_path / "in" / "a.dcm", dataset)
    raw = pydicom.dcmread(path).get_item("PatientName").value.strip()
    assert raw in path.read_bytes()
    summary = deidentify_folder(tmp_path / "in", tmp_path / "out")
    (one,) = summary.outcomes
    after = (tmp_path / "out" / one.output).read_bytes()
    assert raw not in after
    assert raw.split(b"^")[0].split(b"=")[-1] not in after
    again = pydicom.dcmread(tmp_path / "out" / one.output)
    assert "SpecificCharacterSet" not in again  # what is left is ASCII
    assert again.SeriesDescription == "CHEST"


def test_the_record_tells_what_was_done_and_to_what(tmp_path):
    dataset, _ = planted_slice(Options(), ExplicitVRLittleEndian)
    save(tmp_path / "in" / "a.dcm", dataset)
    summary = deidentify_folder(tmp_path / "in", tmp_path / "out")
    record = json.loads(summary.record.read_text())
    depths = len(CHAIN) + 1
    assert record["files"] == {"written": 1, "refused": 0, "passed over": 0, "damaged": 0}
    assert record["actions"]["MilitaryRank"] == {"removed": depths}
    assert record["actions"]["StudyDate"] == {"shifted": depths}
    assert record["actions"]["PatientName"] == {"replaced by a pseudonym": depths}
    assert record["actions"]["AccessionNumber"] == {"emptied": depths}
    assert record["actions"]["DeviceSerialNumber"] == {"replaced by a dummy": depths}
    assert record["actions"]["curves and overlays"] == {"removed": 3 * depths}
    methods = [method["code"] for method in record["profile"]["methods"]]
    assert methods == ["113100", "113105", "113107", "113108"]
