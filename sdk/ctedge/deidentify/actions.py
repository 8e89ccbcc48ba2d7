"""What happens to each attribute: DICOM PS3.15 Table E.1-1 under the options that research needs.

The table's basic column is the one that the package `dicom-anonymizer` carries (BSD, edition
`EDITION`). It has no columns for the options: those are below, as few as a CT needs, each marked
K or C in the table's column. An attribute that an option does not name is treated as the basic
profile says, so that a list that is too short removes too much and never too little.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from ctedge.errors import MissingExtra
from ctedge.extras import install_line, require

PURPOSE = "de-identifying DICOM files"
EXTRA = "deidentify"

#: Edition of PS3.15 that the table is of.
EDITION = "2026c"
_TABLE = f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}"

#: That edition names 652 attributes besides curves and overlays: fewer is a damaged package.
_TABLE_ATTRIBUTES = 652


class Action(enum.Enum):
    """What is done to an attribute; the value is how a record names it."""

    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy"
    UID = "UID replaced"
    WALK = "walked"
    SHIFT = "shifted"
    CLEAN = "cleaned"
    TERMS = "kept where it is a defined term"
    NUMBER = "kept where it is a number"
    AGE = "age kept, at most 90 years"
    PSEUDONYM = "replaced by a pseudonym"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the profile, PS3.15 E.3; what is off is removed as the basic profile says.

    Attributes:
        dates: Retain Longitudinal Temporal Information with Modified Dates (E.3.6).
        characteristics: Retain Patient Characteristics (E.3.7): sex, age, size, weight, ….
        descriptors: Clean Descriptors (E.3.5): known words of descriptions stay.
    """

    dates: bool = True
    characteristics: bool = True
    descriptors: bool = True

    def codes(self) -> tuple[tuple[str, str], ...]:
        """Code value and meaning of the profile and its options, PS3.16 CID 7050."""
        return tuple(
            (code, meaning)
            for wanted, code, meaning in (
                (True, "113100", "Basic Application Confidentiality Profile"),
                (self.descriptors, DESCRIPTORS_CODE, "Clean Descriptors Option"),
                (
                    self.dates,
                    DATES_CODE,
                    "Retain Longitudinal Temporal Information Modified Dates Option",
                ),
                (
                    self.characteristics,
                    CHARACTERISTICS_CODE,
                    "Retain Patient Characteristics Option",
                ),
            )
            if wanted
        )


DESCRIPTORS_CODE = "113105"
DATES_CODE = "113107"
CHARACTERISTICS_CODE = "113108"

#: Dates and times in the table to which no longitudinal option applies.
NEVER_SHIFTED = frozenset({"PatientBirthDate", "PatientBirthTime", "GPSTimeStamp"})

#: Marked K under Retain Patient Characteristics. Ethnic group, allergies, special needs, the
#: patient's state and pre-medication are free text in that column: they are removed all the same.
_CHARACTERISTICS = MappingProxyType(
    {
        "PatientSex": Action.TERMS,
        "PatientSexNeutered": Action.TERMS,
        "SmokingStatus": Action.TERMS,
        "PregnancyStatus": Action.NUMBER,
        "PatientSize": Action.NUMBER,
        "PatientWeight": Action.NUMBER,
        "PatientAge": Action.AGE,
    }
)

#: Marked C under Clean Descriptors, and met in CT. The others of that column are cleaned to
#: nothing: they stay removed.
_DESCRIPTORS = (
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "FrameComments",
    "ContrastBolusAgent",
    "DerivationDescription",
    "AcquisitionDeviceProcessingDescription",
    "AcquisitionProtocolDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "RequestedContrastAgent",
    "MultienergyAcquisitionDescription",
)

#: What the patient becomes.
_PSEUDONYMS = ("PatientName", "PatientID")

#: The table's codes. Where the code leaves a choice by the type of the attribute in its IOD, the
#: choice is the one that every IOD allows: a dummy before nothing, an empty value before none.
_CODES = MappingProxyType(
    {
        "X_TAGS": Action.REMOVE,
        "Z_TAGS": Action.EMPTY,
        "D_TAGS": Action.DUMMY,
        "U_TAGS": Action.UID,
        "Z_D_TAGS": Action.DUMMY,
        "X_Z_TAGS": Action.EMPTY,
        "X_D_TAGS": Action.DUMMY,
        "X_Z_D_TAGS": Action.DUMMY,
        "X_Z_U_STAR_TAGS": Action.WALK,
    }
)
_TEMPORAL = frozenset({"DA", "DT", "TM"})


def basic_table() -> Mapping[int, Action]:
    """The basic column: tag to action, without curves, overlays and private attributes.

    Raises:
        MissingExtra: the package is not installed, too old for the edition, or not whole.
    """
    module = require(_TABLE, extra=EXTRA, purpose=PURPOSE)
    table: dict[int, Action] = {}
    for code, action in _CODES.items():
        for tag in getattr(module, code, ()):
            if len(tag) == 2:  # repeating groups have masks besides
                table[tag[0] << 16 | tag[1]] = action
    if len(table) < _TABLE_ATTRIBUTES:
        raise MissingExtra(
            "the table of identifying attributes is not whole",
            found=f"{len(table)} attributes",
            expected=f"{_TABLE_ATTRIBUTES} in edition {EDITION}",
            fix=f"{install_line(EXTRA)} --force-reinstall",
        )
    return table


@lru_cache(maxsize=8)
def action_table(options: Options) -> Mapping[int, Action]:
    """The table under these options; what is not in it is for `attributes.untabled`."""
    datadict = require("pydicom.datadict", extra=EXTRA, purpose=PURPOSE)
    table = dict(basic_table())
    for tag, action in table.items():
        table[tag] = _without_choice(datadict, tag, action)
        if options.dates and _is_shifted(datadict, tag):
            table[tag] = Action.SHIFT
    changes: dict[str, Action] = dict.fromkeys(_PSEUDONYMS, Action.PSEUDONYM)
    if options.characteristics:
        changes.update(_CHARACTERISTICS)
    if options.descriptors:
        changes.update(dict.fromkeys(_DESCRIPTORS, Action.CLEAN))
    table.update({datadict.tag_for_keyword(key): action for key, action in changes.items()})
    return MappingProxyType(table)


def _without_choice(datadict: Any, tag: int, action: Action) -> Action:
    """A sequence that may be removed by its code is: a dummy of one would say nothing."""
    module = require(_TABLE, extra=EXTRA, purpose=PURPOSE)
    removable = {*module.X_D_TAGS, *module.X_Z_D_TAGS}
    if (tag >> 16, tag & 0xFFFF) in removable and datadict.dictionary_has_tag(tag):
        return Action.REMOVE if datadict.dictionary_VR(tag) == "SQ" else action
    return action


def _is_shifted(datadict: Any, tag: int) -> bool:
    if not datadict.dictionary_has_tag(tag):
        return False
    keyword = datadict.keyword_for_tag(tag)
    return datadict.dictionary_VR(tag) in _TEMPORAL and keyword not in NEVER_SHIFTED
