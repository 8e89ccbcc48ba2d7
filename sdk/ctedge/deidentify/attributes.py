"""Attributes that the table does not name: which of them stay.

The table names what identifies in the standard's own objects; it says nothing of an attribute that
somebody filled with something else. So an attribute outside it has to earn its place:

- private ones, curves, overlays, and what the data dictionary does not know: removed;
- numbers stay, where they are numbers (a DS and an IS are text, and read as such);
- code strings stay, where they read as terms; dates move with the others;
- UIDs stay where the standard defines them, and are replaced otherwise;
- sequences are walked; a code in them stays where it is a standard one, its meaning rewritten;
- free text and opaque bytes are removed, except the few a CT is not understood without, below.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from ctedge.deidentify.actions import Options
from ctedge.deidentify.opaque import OFFSETS, PIXELS
from ctedge.deidentify.words import KNOWN_WORDS

#: Makers, models, versions and kernels: LO and SH that the table leaves alone, and that decide
#: how a CT looks. Kept where they read as such (`words.is_device_text`).
DEVICE_TEXT = frozenset(
    {
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "ConvolutionKernel",
        "FilterType",
        "FilterMaterial",
    }
)

#: Descriptions outside the table that hold words of imaging: cleaned like those inside it.
DESCRIPTIVE_TEXT = frozenset(
    {"PositionReferenceIndicator", "WindowCenterWidthExplanation", "LUTExplanation"}
)

#: Terms of PS3.16 Annex L for Body Part Examined, as far as CT, and what else the table allows.
_BODY_PARTS = frozenset(
    """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS
    CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW
    ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER HAND HEAD HEADNECK HEART
    HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG
    MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY
    PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB SCALP SCAPULA SCLERA
    SCROTUM SHOULDER SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THORAX
    THUMB THYMUS THYROID TLSPINE TMJOINT TOE TONGUE TRACHEA TSPINE URETER URETHRA UTERUS VAGINA
    VULVA WHOLEBODY WRIST ZYGOMA
    """.split()  # noqa: SIM905  (one string a line would not be read)
)

#: Attributes of a CT whose values are terms of the standard, PS3.3.
TERMS = MappingProxyType(
    {
        "RescaleType": frozenset(
            {"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT", "K_EDGE"}
        ),
        "LossyImageCompressionMethod": frozenset(
            {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_18181_1"}
        ),
        "BodyPartExamined": _BODY_PARTS | {word.upper() for word in KNOWN_WORDS},
        "ModalityLUTType": frozenset({"OD", "HU", "US"}),
        "PatientSex": frozenset({"M", "F", "O"}),
        "PatientSexNeutered": frozenset({"ALTERED", "UNALTERED"}),
        "SmokingStatus": frozenset({"YES", "NO", "UNKNOWN"}),
    }
)

#: Palettes, their descriptors and their UID: they colour an image, and no CT needs them.
PALETTES = frozenset({*range(0x00281101, 0x00281105), 0x00281199, *range(0x00281201, 0x00281205)})

#: Written by us, whatever stood there.
OWN = frozenset({"SpecificCharacterSet", "PatientIdentityRemoved", "DeidentificationMethod"}) | {
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
}

NUMBERS = frozenset({"FL", "FD", "SS", "US", "SL", "UL", "SV", "UV", "AT"})
NUMBER_TEXT = frozenset({"DS", "IS"})
TEMPORAL = frozenset({"DA", "DT", "TM"})

#: Seven digits before the point are the micrometres of ten metres; a telephone has more.
_NUMBER = re.compile(r"[+-]?(?:\d{1,7}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)

#: An age above this singles a person out (as in the HIPAA safe harbour, 45 CFR 164.514(b)(2)).
_OLDEST_YEARS = 89


def is_outside_the_standard(tag: int) -> bool:
    """Private attributes, curves, overlays, group lengths, commands, and groups of no image."""
    group, element = tag >> 16, tag & 0xFFFF
    repeating = group & 0xFF00 in (0x5000, 0x6000, 0x7F00) and tag not in (*PIXELS, *OFFSETS)
    return bool(group % 2) or group < 0x0008 or element == 0 or group >= 0xFFFA or repeating


def is_number(text: str) -> bool:
    """Whether a DS or IS value is a number and nothing else."""
    text = text.strip(" ")
    return not text or _NUMBER.fullmatch(text) is not None


def capped_age(text: str) -> str | None:
    """An age, or `090Y` for all above 89 years; None where it is no age."""
    match = _AGE.fullmatch(text.strip(" "))
    if match is None:
        return None
    years = int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]
    return f"{_OLDEST_YEARS + 1:03d}Y" if years > _OLDEST_YEARS else match[0]


def dummy(vr: str) -> object:
    """A value of this VR that is not empty and says nothing."""
    fixed = {
        "DA": "19000101",
        "DT": "19000101000000",
        "TM": "000000",
        "AS": "000Y",
        "UR": "urn:removed",
    }
    if vr in fixed:
        return fixed[vr]
    if vr in NUMBER_TEXT:
        return "0"
    if vr in NUMBERS:
        return 0
    return bytes(2) if vr.startswith("O") or vr == "UN" else "REMOVED"


def moved(options: Options) -> str:
    """(0028,0303), what was done to dates."""
    return "MODIFIED" if options.dates else "REMOVED"
