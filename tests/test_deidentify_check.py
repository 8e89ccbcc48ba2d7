"""`ctedge dicom check`: clean folders pass, and everything that should not be is named."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
import typer
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from ctedge import ScanNotFound
from ctedge.cli.dicom_check import check
from ctedge.deidentify import Options, check_folder, deidentify_folder
from deidentify_factory import code, ct
from dicom_factory import item, save

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(check)

SLICES = 3


@pytest.fixture
def clean_folder(tmp_path: Path) -> Path:
    """The folder of a de-identified series."""
    for number in range(SLICES):
        described = {"SeriesDescription": "CHEST 1.25mm Mrs Whitfield", "PatientSex": "F"}
        save(tmp_path / "in" / f"{number}.dcm", ct(number + 1, **described))
    deidentify_folder(tmp_path / "in", tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    return folder


def edit(folder: Path, **changes: object) -> Path:
    """Change the first slice of a folder."""
    path = sorted(folder.iterdir())[0]
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return save(path, dataset)


def said(folder: Path) -> set[tuple[str, str]]:
    return {(finding.kind, finding.what) for finding in check_folder(folder)}


@pytest.mark.parametrize("on", [True, False])
def test_what_was_deidentified_here_passes(tmp_path, clean_folder, on):
    assert check_folder(clean_folder) == ()
    options = Options(dates=on, characteristics=on, descriptors=on)
    deidentify_folder(tmp_path / "in", tmp_path / "again", options=options)
    assert check_folder(tmp_path / "again", workers=2) == ()


def test_a_folder_from_the_scanner_does_not(tmp_path, clean_folder):
    found = said(tmp_path / "in")
    for what in ("PatientName", "PatientID", "StudyDate", "SOPInstanceUID", "SeriesDescription"):
        assert ("identifying", what) in found
    assert ("identifying", "PatientIdentityRemoved is not YES") in found


LEFT = {
    "PatientComments": {"PatientComments": "asthma"},
    "InstitutionName": {"InstitutionName": "St Elsewhere"},
    "SeriesDescription": {"SeriesDescription": "CHEST of Mrs Whitfield"},
    "PatientBirthDate": {"PatientBirthDate": "19510317"},
    "PatientAge": {"PatientAge": "093Y"},
    "OperatorsName": {"SourceImageSequence": [item(OperatorsName="Jo")]},
    "RequestedProcedureID": {"RequestAttributesSequence": [item(RequestedProcedureID="7")]},
}


@pytest.mark.parametrize(("what", "changes"), LEFT.items(), ids=LEFT)
def test_an_attribute_that_was_left_is_named_without_its_value(clean_folder, what, changes):
    path = edit(clean_folder, **changes)
    findings = check_folder(clean_folder)
    expected = "RequestAttributesSequence" if "Request" in what else what
    assert ("identifying", path.name, expected) in {
        (finding.kind, finding.where, finding.what) for finding in findings
    }
    assert not any("Whitfield" in finding.what for finding in findings)


def test_what_was_kept_has_to_be_declared(clean_folder):
    edit(clean_folder, LongitudinalTemporalInformationModified="UNMODIFIED")
    assert ("identifying", "StudyDate") in said(clean_folder)
    edit(clean_folder, PatientIdentityRemoved="NO")
    assert ("identifying", "PatientSex") in said(clean_folder)


def test_private_attributes_overlays_and_file_meta_are_named(clean_folder):
    path = sorted(clean_folder.iterdir())[0]
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "x")
    dataset.add_new(0x60003000, "OW", b"ab")
    dataset.file_meta.SourceApplicationEntityTitle = "WARD7"
    dataset.preamble = b"x" * 128
    save(path, dataset)
    for what in ("private attributes", "curves and overlays", "SourceApplicationEntityTitle"):
        assert ("identifying", what) in said(clean_folder)
    assert any("128 bytes" in what for _, what in said(clean_folder))


def test_images_that_may_show_a_name_are_named(clean_folder):
    edit(clean_folder, BurnedInAnnotation="YES")
    assert said(clean_folder) == {("pixels", "BurnedInAnnotation is YES")}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [0.7, 0.71]),
        ("ImageOrientationPatient", [0.9, 0.1, 0, 0, 1, 0]),
    ],
)
def test_unlike_slices_are_named(clean_folder, keyword, value):
    edit(clean_folder, **{keyword: value})
    assert said(clean_folder) == {("slices", f"the slices of a series differ in {keyword}")}


def test_slices_of_another_size_are_named(clean_folder):
    edit(clean_folder, Rows=4, PixelData=bytes(64))
    assert said(clean_folder) == {("slices", "the slices of a series differ in Rows")}


def test_several_series_patients_and_doubles_in_a_folder_are_named(clean_folder):
    path = edit(clean_folder, SeriesInstanceUID=generate_uid(), PatientID="PX")
    (clean_folder / "double.dcm").write_bytes(path.read_bytes())
    found = said(clean_folder)
    assert ("slices", "2 different SeriesInstanceUID in one folder") in found
    assert ("slices", "2 different PatientID in one folder") in found
    assert ("slices", "SOPInstanceUID repeats") in found


def test_a_reference_number_that_is_not_its_folders_is_named(clean_folder):
    moved = clean_folder.rename(clean_folder.with_name("HRCT-0042"))
    found = said(moved.parent)
    what = f"(0040,0275)[0](0040,0009) is not the folder's name in {SLICES} files"
    assert ("reference", what) in found
    assert {kind for kind, _ in found} == {"reference", "identifying"}
    assert ("identifying", "RequestAttributesSequence") in found


def test_only_the_first_nine_characters_count(clean_folder):
    longer = clean_folder.rename(clean_folder.with_name(f"{clean_folder.name}-axial"))
    assert check_folder(longer) == ()


def test_a_damaged_file_is_named(clean_folder):
    path = sorted(clean_folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:600])
    assert "unreadable" in {kind for kind, _ in said(clean_folder)}


def test_the_command_says_so_by_its_exit_code(tmp_path, clean_folder):
    arguments = [str(clean_folder), "--workers", "1"]
    answer = CliRunner().invoke(app, arguments)
    assert (answer.exit_code, answer.stdout) == (0, "0 findings\n")
    path = edit(clean_folder, PatientComments="asthma since childhood")
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert f"identifying: PatientComments: {path.name}" in answer.stdout
    assert "asthma" not in answer.stdout
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    expected = {"kind": "identifying", "where": path.name, "what": "PatientComments"}
    assert json.loads(answer.stdout) == [expected]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanNotFound, match="no DICOM file"):
        CliRunner().invoke(app, [str(tmp_path / "empty")], catch_exceptions=False)


def said_of(folder: Path, *slices: pydicom.FileDataset) -> set[tuple[str, str]]:
    for number, one in enumerate(slices):
        save(folder / f"{number}.dcm", one)
    return said(folder)


def declared(number: int = 1, **changes: object) -> pydicom.FileDataset:
    """A slice that another program says to have de-identified."""
    methods = [code(value, "DCM", "x") for value in ("113100", "113105", "113107", "113108")]
    said = {"PatientName": "P17", "PatientID": "17", **changes}
    return ct(
        number,
        PatientIdentityRemoved="YES",
        LongitudinalTemporalInformationModified="MODIFIED",
        DeidentificationMethodCodeSequence=methods,
        **said,
    )


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("P17", True),
        ("Whitfield^Eleanor", False),
        ("Whitfield, Eleanor", False),
        ("Eleanor Whitfield", False),
    ],
)
def test_a_persons_name_is_named_whatever_the_file_declares(tmp_path, name, passes):
    found = said_of(tmp_path / "a", declared(PatientName=name))
    assert found == (set() if passes else {("identifying", "PatientName")})


def test_what_this_program_is_said_to_have_done_has_its_form(clean_folder):
    refers = item(ReferencedSOPInstanceUID="1.2.826.0.1.3680043.8.498.1")
    edit(
        clean_folder,
        PatientName="Whitfield",
        PatientID="HOSP-0042317",
        StudyInstanceUID="1.2.826.0.1.3680043.8.498.7",
        SourceImageSequence=[refers],
    )
    found = said(clean_folder)
    for what in ("PatientName", "PatientID", "StudyInstanceUID", "ReferencedSOPInstanceUID"):
        assert ("identifying", what) in found


def test_a_uid_that_the_file_meta_keeps_is_named(clean_folder):
    path = sorted(clean_folder.iterdir())[0]
    old = pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID.encode()
    data = path.read_bytes()
    path.write_bytes(data.replace(old, old[:-1] + (b"1" if old[-1:] != b"1" else b"2"), 1))
    assert said(clean_folder) == {("identifying", "MediaStorageSOPInstanceUID")}


def test_what_is_no_dicom_file_is_named(clean_folder):
    (clean_folder / "0123.pdf").write_bytes(b"%PDF-1.7 Whitfield")
    (clean_folder / "0124.dcm").symlink_to(clean_folder / "0123.pdf")
    assert said(clean_folder) == {
        ("names", "no DICOM file: what it says cannot be checked"),
        ("names", "no regular file: what it says cannot be checked"),
    }


def test_names_of_folders_and_files_are_looked_at(clean_folder):
    out = clean_folder.parent
    (out / "Whitfield").mkdir()
    study = out / "Eleanor Whitfield" / "ct-chest_0042" / "IM0001.dcm"
    save(study, declared())
    save(study.with_name("whitfield.dcm"), declared(2))
    found = {(one.where, one.what) for one in check_folder(out) if one.kind == "names"}
    somebodys = "its name may be somebody's"
    assert found == {
        ("Whitfield", "a folder without a DICOM file"),
        ("Eleanor Whitfield", somebodys),
        ("Eleanor Whitfield/ct-chest_0042/whitfield.dcm", somebodys),
    }


UNLIKE = {
    "the slices of a series differ in Modality": {"Modality": "MR"},
    "the slices of a series differ in ConvolutionKernel": {"ConvolutionKernel": "B70f"},
    "the slices of a series differ in BitsStored": {"BitsStored": 12, "HighBit": 11},
    "the slices of a series differ in PixelRepresentation": {"PixelRepresentation": 1},
    "slices of a series lie at the same position": {"ImagePositionPatient": [0.0, 0.0, 5.0]},
    "slices of a series are missing, or lie unevenly": {"ImagePositionPatient": [0.0, 0.0, 25.0]},
}


@pytest.mark.parametrize(("what", "changes"), UNLIKE.items(), ids=UNLIKE)
def test_slices_that_make_no_scan_are_named(tmp_path, what, changes):
    found = said_of(tmp_path / "a", declared(), declared(2), declared(3, **changes))
    assert ("slices", what) in found
    assert said_of(tmp_path / "b", declared(), declared(2), declared(3)) == set()
