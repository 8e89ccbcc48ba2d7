"""What becomes of the values of one file: UIDs, dates, patients, numbers, codes, descriptions."""

from __future__ import annotations

import datetime
import logging
import sys

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from ctedge import MissingExtra, UnreadableScan
from ctedge.deidentify import Options
from ctedge.deidentify.actions import Action, action_table, basic_table
from ctedge.deidentify.attributes import DESCRIPTIVE_TEXT, DEVICE_TEXT, OWN
from ctedge.deidentify.clean import Rules
from ctedge.deidentify.instance import IMPLEMENTATION_UID, deidentify
from ctedge.deidentify.uids import Keyed
from deidentify_factory import (
    FRAME,
    INSTANCE,
    RULES,
    SERIES,
    STUDY,
    clean,
    cleaned,
    code,
    ct,
    rules,
)
from dicom_factory import item, save


def day(text: str) -> datetime.date:
    return datetime.datetime.strptime(text, "%Y%m%d").date()


def test_the_profile_is_declared(tmp_path):
    one = cleaned(tmp_path, ct())
    assert one.PatientIdentityRemoved == "YES"
    assert one.DeidentificationMethod[1] == "DICOM PS3.15 2026c Annex E"
    codes = [
        (entry.CodeValue, entry.CodingSchemeDesignator)
        for entry in one.DeidentificationMethodCodeSequence
    ]
    assert codes == [(value, "DCM") for value in ("113100", "113105", "113107", "113108")]
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"
    bare = cleaned(tmp_path, ct(), rules(dates=False, characteristics=False, descriptors=False))
    assert [e.CodeValue for e in bare.DeidentificationMethodCodeSequence] == ["113100"]
    assert bare.LongitudinalTemporalInformationModified == "REMOVED"


def test_what_an_earlier_deidentification_said_is_replaced(tmp_path):
    said = {
        "DeidentificationMethod": "by Dr Whitfield",
        "DeidentificationMethodCodeSequence": [code("1", "99X", "by Dr Whitfield")],
    }
    data = clean(tmp_path, ct(**said)).data
    assert b"Whitfield" not in data


def test_the_file_meta_is_ours_and_the_preamble_empty(tmp_path):
    dataset = ct()
    dataset.preamble = b"II*\0" + b"x" * 124
    dataset.file_meta.SourceApplicationEntityTitle = "WARD7"
    data = clean(tmp_path, dataset).data
    assert data[:132] == bytes(128) + b"DICM"
    one = cleaned(tmp_path, dataset)
    assert one.file_meta.ImplementationClassUID == IMPLEMENTATION_UID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in one.file_meta


def test_uids_are_new_valid_and_the_same_wherever_they_stand(tmp_path):
    refers = item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=f"{INSTANCE}.2")
    first = cleaned(tmp_path, ct(1, SourceImageSequence=[refers]))
    second = cleaned(tmp_path, ct(2))
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID == second.SOPInstanceUID
    assert first.SourceImageSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SOPClassUID == CTImageStorage
    new = {
        old: first[name].value
        for name, old in (
            ("StudyInstanceUID", STUDY),
            ("SeriesInstanceUID", SERIES),
            ("FrameOfReferenceUID", FRAME),
        )
    }
    assert len(set(new.values())) == 3
    for old, uid in new.items():
        assert uid != old
        assert uid.startswith("2.25.")
        assert uid.is_valid


def test_a_uid_that_only_looks_like_the_standards_is_replaced(tmp_path):
    one = cleaned(tmp_path, ct(IrradiationEventUID="1.2.840.10008.12345.678"))
    assert one.IrradiationEventUID.startswith("2.25.")


def test_another_key_gives_other_answers(tmp_path):
    other = Rules(options=Options(), keyed=Keyed(b"another key of thirty-two bytes!!"))
    one, two = cleaned(tmp_path, ct()), cleaned(tmp_path, ct(), other)
    for keyword in ("SOPInstanceUID", "PatientID", "StudyDate"):
        assert one[keyword].value != two[keyword].value


def test_dates_of_a_patient_move_back_together(tmp_path):
    first = cleaned(tmp_path, ct(StudyDate="20200229", AcquisitionDateTime="20200301101112.5+0530"))
    later = cleaned(tmp_path, ct(StudyDate="20210415"))
    moved = day("20200229") - day(first.StudyDate)
    assert 1 <= moved.days <= 3650
    assert day(later.StudyDate) - day(first.StudyDate) == day("20210415") - day("20200229")
    # A date and time moves as far; its zone, which tells where the scanner stands, is gone.
    assert first.AcquisitionDateTime[8:] == "101112.5"
    assert day("20200301") - day(first.AcquisitionDateTime[:8]) == moved
    assert first.StudyTime == "101112"
    other = cleaned(tmp_path, ct(PatientID="HOSP-0099999"))
    assert day("20200229") - day(other.StudyDate) != moved


@pytest.mark.parametrize("value", ["2020", "20201399", "29 Feb 2020", "00010101"])
def test_a_date_that_cannot_move_is_emptied(tmp_path, value):
    assert cleaned(tmp_path, ct(StudyDate=value)).StudyDate == ""


def test_without_the_option_dates_and_times_are_gone(tmp_path):
    one = cleaned(tmp_path, ct(SeriesDate="20200229"), rules(dates=False))
    assert one.StudyDate == one.StudyTime == ""
    assert one.SeriesDate == "19000101"  # the table's dummy


def test_birth_is_gone_in_any_case(tmp_path):
    one = cleaned(tmp_path, ct(PatientBirthDate="19510317", PatientBirthTime="0400"))
    assert one.PatientBirthDate == ""
    assert "PatientBirthTime" not in one


def test_a_patient_has_one_pseudonym(tmp_path):
    first, second = cleaned(tmp_path, ct(1)), cleaned(tmp_path, ct(2, PatientName="Whitfield^E"))
    assert first.PatientID == second.PatientID == str(first.PatientName)
    assert first.PatientID != cleaned(tmp_path, ct(PatientID="HOSP-1")).PatientID
    nobody = cleaned(tmp_path, ct(PatientID=None, PatientName=None))
    assert nobody.PatientID


def test_characteristics_stay_where_they_say_no_more_than_that(tmp_path):
    kept = {"PatientSex": "F", "PatientAge": "067Y", "PatientSize": "1.71", "PatientWeight": "70"}
    one = cleaned(tmp_path, ct(**kept))
    for keyword, value in kept.items():
        assert str(one[keyword].value) == value
    assert cleaned(tmp_path, ct(PatientAge="097Y")).PatientAge == "090Y"
    odd = cleaned(tmp_path, ct(PatientSex="ELEANOR", SmokingStatus="LIKE ELEANOR"))
    assert "PatientSex" not in odd
    assert "SmokingStatus" not in odd
    bare = cleaned(tmp_path, ct(**kept), rules(characteristics=False))
    assert bare.PatientSex == ""
    assert "PatientAge" not in bare


def test_descriptions_keep_known_words_only(tmp_path):
    said = "CT Chest w/o contrast 1.25mm Mrs Whitfield, Ward 7, 29.02.2020, tel 555-0173"
    one = cleaned(tmp_path, ct(SeriesDescription=said, ProtocolName=said))
    assert one.SeriesDescription == one.ProtocolName == "CT Chest contrast 1.25mm"
    bare = cleaned(tmp_path, ct(SeriesDescription=said), rules(descriptors=False))
    assert "SeriesDescription" not in bare


def test_a_patient_called_as_an_organ_does_not_stay_in_a_description(tmp_path):
    one = cleaned(tmp_path, ct(PatientName="Chest^Sharp", SeriesDescription="SHARP CHEST LUNG"))
    assert one.SeriesDescription == "LUNG"
    assert one.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_makers_and_kernels_stay_unless_they_name_the_patient(tmp_path):
    kept = {"Manufacturer": "GE MEDICAL SYSTEMS", "ConvolutionKernel": "B70f"}
    one = cleaned(tmp_path, ct(**kept, FilterType="for Whitfield", SoftwareVersions="0042317"))
    assert one.Manufacturer == "GE MEDICAL SYSTEMS"
    assert one.ConvolutionKernel == "B70f"
    assert "FilterType" not in one
    assert "SoftwareVersions" not in one  # a number as long as a patient's


def test_a_number_that_is_none_is_removed_and_not_shown(tmp_path, capsys, caplog):
    path = save(tmp_path / "a.dcm", ct(KVP="120.25", SliceThickness="1.2500"))
    path.write_bytes(path.read_bytes().replace(b"120.25", b"ZANNAH").replace(b"1.2500", b"1_2500"))
    with caplog.at_level(logging.DEBUG):
        answer = deidentify(path, RULES)
    assert b"ZANNAH" not in answer.data
    assert b"1_2500" not in answer.data
    assert answer.counts["KVP", "removed"] == 1
    assert "ZANNAH" not in caplog.text + "".join(capsys.readouterr())


def test_the_patients_number_does_not_stay_as_a_number(tmp_path):
    one = cleaned(tmp_path, ct(AcquisitionNumber="0042317", InstanceNumber="317"))
    assert "AcquisitionNumber" not in one
    assert one.InstanceNumber == 317


def test_a_number_as_long_as_a_telephones_is_removed(tmp_path):
    one = cleaned(tmp_path, ct(XRayTubeCurrent="6912345678", TriggerTime="5551234", KVP="120"))
    assert "XRayTubeCurrent" not in one
    assert (one.TriggerTime, one.KVP) == (5551234, 120)


@pytest.mark.parametrize(
    ("part", "stays"), [("CHEST", True), ("THORAX", True), ("LUNG", True), ("WHITFIELDE", False)]
)
def test_a_body_part_is_one_of_the_standards(tmp_path, part, stays):
    one = cleaned(tmp_path, ct(BodyPartExamined=part, PatientName="X"))
    assert one.get("BodyPartExamined") == (part if stays else None)


def test_an_image_that_loses_its_geometry_is_damaged(tmp_path):
    path = save(tmp_path / "a.dcm", ct(RescaleSlope="1.2345"))
    path.write_bytes(path.read_bytes().replace(b"1.2345", b"SECRET"))
    with pytest.raises(UnreadableScan, match="image needs") as caught:
        deidentify(path, RULES)
    assert "SECRET" not in str(caught.value)


def test_standard_codes_stay_with_the_standards_meaning(tmp_path):
    region = [code("51185008", "SCT", "chest of Mrs Whitfield"), code("W7", "99LOCAL", "Ward 7")]
    one = cleaned(tmp_path, ct(AnatomicRegionSequence=region))
    kept, emptied = one.AnatomicRegionSequence
    assert kept.CodeValue == "51185008"
    assert "horacic structure" in kept.CodeMeaning
    assert len(emptied) == 0
    local = cleaned(tmp_path, ct(ProcedureCodeSequence=[code("W7", "99LOCAL", "Ward 7")]))
    assert "ProcedureCodeSequence" not in local


def test_kept_attributes_are_none_of_the_tables():
    tabled = {pydicom.datadict.keyword_for_tag(tag) for tag in basic_table()}
    assert tabled.isdisjoint(DEVICE_TEXT | DESCRIPTIVE_TEXT | OWN)


def test_an_option_relaxes_only_what_the_table_names():
    basic = basic_table()
    most = action_table(Options())
    assert set(most) == set(basic)
    least = action_table(Options(dates=False, characteristics=False, descriptors=False))
    relaxed = {tag for tag in most if most[tag] is not least[tag]}
    kinds = {most[tag] for tag in relaxed}
    assert kinds == {Action.SHIFT, Action.CLEAN, Action.TERMS, Action.NUMBER, Action.AGE}


def test_the_request_holds_the_scans_new_number_alone(tmp_path):
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "HRCT-0001", "RP-77"
    answer = clean(tmp_path, ct(RequestAttributesSequence=[request]))
    one = cleaned(tmp_path, ct(RequestAttributesSequence=[request]))
    (step,) = one.RequestAttributesSequence
    assert [element.keyword for element in step] == ["ScheduledProcedureStepID"]
    assert step.ScheduledProcedureStepID == answer.reference
    assert len(answer.reference) == 9


def test_without_the_table_the_extra_is_named(tmp_path, monkeypatch):
    module = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match="dicomanonymizer") as caught:
        basic_table()
    assert 'pip install "ctedge[deidentify]"' in str(caught.value)
