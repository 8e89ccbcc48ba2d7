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
from deidentify_factory import ct, item, write

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(check)

SLICES = 3


@pytest.fixture
def clean_folder(tmp_path: Path) -> Path:
    """The folder of a de-identified series."""
    for number in range(SLICES):
        described = {"SeriesDescription": "CHEST 1.25mm Mrs Whitfield", "PatientSex": "F"}
        write(tmp_path / "in" / f"{number}.dcm", ct(number + 1, **described))
    deidentify_folder(tmp_path / "in", tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    return folder


def edit(folder: Path, **changes: object) -> Path:
    """Change the first slice of a folder."""
    path = sorted(folder.iterdir())[0]
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return write(path, dataset)


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
    write(path, dataset)
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
