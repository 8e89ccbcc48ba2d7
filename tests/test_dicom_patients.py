"""Several patients in one folder, or under one series: nobody chooses between them silently."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command_here import call
from ctedge import IrregularSeries, read_scan
from dicom_factory import CHEST, edit, hu_of, las, uid_of, write_series

FIRST = {"PatientID": "HOSP-1", "PatientName": "Lee^Ann", "PatientBirthDate": "19510317"}

#: Whole: four digits may stand in a UID by chance.
DATES = ("19510317", "19510318", "19800101")


hu = hu_of(20, 16, 16)


ANOTHER = {
    "number": {"PatientID": "HOSP-2"},
    "lacking number": {"PatientID": ""},
    "name": {"PatientName": "Lee^Bob"},
    "date of birth": {"PatientBirthDate": "19510318"},
    "all": {"PatientID": "HOSP-2", "PatientName": "Roe^Joe", "PatientBirthDate": "19800101"},
}


@pytest.mark.parametrize("case", ANOTHER)
def test_no_chest_is_chosen_among_patients(tmp_path, hu, case):
    write_series(tmp_path / "a", hu, BodyPartExamined="CHEST", **CHEST, **FIRST)
    write_series(tmp_path / "b", hu[:, :15], **CHEST, **(FIRST | ANOTHER[case]))
    with pytest.raises(IrregularSeries, match="series of several patients") as caught:
        read_scan(tmp_path, select="chest")
    for folder in ("a", "b"):
        assert f"{uid_of(tmp_path / folder)} (20 files)" in caught.value.found
    assert "series=" in caught.value.fix
    said = str(caught.value)
    assert not any(word in said for word in ("HOSP", "Lee", "Ann", "Roe", *DATES))
    scan = read_scan(tmp_path, series=uid_of(tmp_path / "b"), select="chest")
    assert scan.shape == (16, 15, 20)


def test_a_patient_whose_series_is_no_chest_might_have_been_meant(tmp_path, hu):
    write_series(tmp_path / "a", hu, **CHEST, **FIRST)
    write_series(tmp_path / "b", hu, **CHEST, **ANOTHER["all"])[9].unlink()
    with pytest.raises(IrregularSeries, match="series of several patients"):
        read_scan(tmp_path, select="chest")


THE_SAME = {
    "in capitals": {"PatientName": "LEE^ANN"},
    "between the parts": {"PatientName": "Lee, Ann^^"},
    "in other letters, too": {"PatientName": "Lee^Ann=李^安"},
    "left out": {"PatientName": "", "PatientBirthDate": ""},
}


@pytest.mark.parametrize("case", THE_SAME)
def test_one_patient_written_in_two_ways_is_one(tmp_path, hu, case):
    write_series(tmp_path / "a", hu[:5], **CHEST, **FIRST)
    elements = FIRST | {"SpecificCharacterSet": "ISO_IR 192"} | THE_SAME[case]
    write_series(tmp_path / "b", hu, **CHEST, **elements)
    assert read_scan(tmp_path, select="chest").shape == (16, 16, 20)


def test_a_third_patient_is_seen_behind_one_without_a_name(tmp_path, hu):
    names = ("", "Lee^Ann", "Roe^Joe")
    for name in names:
        write_series(tmp_path / f"of {name}", hu, **CHEST, **(FIRST | {"PatientName": name}))
    with pytest.raises(IrregularSeries, match="series of several patients"):
        read_scan(tmp_path, select="chest")


@pytest.mark.parametrize("case", ["name", "date of birth"])
def test_two_patients_without_a_number_are_no_one_series(tmp_path, hu, case):
    paths = write_series(tmp_path, hu, **(FIRST | {"PatientID": ""}))
    for path in paths[11:]:
        edit(path, **ANOTHER[case])
    with pytest.raises(IrregularSeries, match="several patients under one series") as caught:
        read_scan(tmp_path)
    assert caught.value.found == f"{tmp_path}/000.dcm, and otherwise 011.dcm and 8 more"
    assert "Lee" not in str(caught.value)


@pytest.mark.parametrize("name", [b"L\xe9e^Ann", b"\x1b$)CL\xffe^Ann", b"^^^^^^=="])
def test_a_name_in_no_known_letters_is_no_reason_to_refuse_a_scan(tmp_path, hu, name):
    for path in write_series(tmp_path, hu, **FIRST | {"SpecificCharacterSet": "ISO_IR 6"}):
        data = path.read_bytes()
        assert b"Lee^Ann " in data
        path.write_bytes(data.replace(b"Lee^Ann ", name.ljust(8)[:8]))
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


def test_the_list_numbers_patients_and_names_none(tmp_path, hu):
    write_series(tmp_path / "a", hu[:5], **FIRST)
    write_series(tmp_path / "b", hu[:5], **(FIRST | ANOTHER["all"]))
    write_series(tmp_path / "c", hu[:5], **(FIRST | THE_SAME["left out"]))
    rows = json.loads(call("dicom", "list", tmp_path, "--json").stdout)["series"]
    assert [row["patient"] for row in rows] == [1, 2, 1]
    said = call("dicom", "list", tmp_path).stdout
    assert said.count("patient 1, CT") == 2
    assert not any(word in said for word in ("HOSP", "Lee", "Ann", "Roe", *DATES))
    assert "patient" not in call("dicom", "list", tmp_path / "b").stdout
