"""Free text: which words of a description may stay.

An allow-list, because no list of forbidden words knows every name. What is not on it goes, so does
whatever the file itself says of a person (`witnesses`).
"""

from __future__ import annotations

import re
from collections.abc import Set

# Body parts, phases, reconstructions and protocols as CT descriptions name them, none of which is
# a name, a place, a date or a number of anyone.
KNOWN_WORDS = frozenset(
    """
    abd abdomen abdominal acquisition adrenal adult angio angiography anterior aorta aortic
    apical arterial arteries artery ascending axial base biphasic bladder blood bolus bone bones
    brain breath breathhold bronchial bronchus cardiac cervical chest child contrast cor coronal
    coronary cranial cspine ct cta ctpa delayed dense descending detector diagnostic diastole
    dose dual dynamic early ecg embolism emphysema energy enhanced esophagus exam expiration
    expiratory extremity fbp feet fibrosis filter filtered fine first followup gated gating hd
    head heart helical high hires hold hr hrct ild image images infection inspiration
    inspiratory iodinated iodine iterative iv joint kernel kidney late lateral left liver
    localizer low lower lspine ltd lumbar lung lungs mar maximum mediastinal mediastinum medium
    metal mid minimum minip mip mono monochromatic mpr native neck nodule non noncon noncontrast
    nonenhanced om oral pancreas parenchyma pe pediatric pelvis perfusion phantom phase
    pneumonia portal post posterior pre prone prospective protocol pulmonary recon
    reconstruction reduction ref renal resolution respiratory retrospective rib ribs right
    routine sagittal scan scanogram scout screening second series sharp shoulder sinus skull
    slice slices smooth sn soft spectral spine spiral spleen standard std stent sternum study
    supine surview systole tap thick thickness thin thoracic thorax tissue topogram total
    trachea tracheal triphasic trunk tspine upper vascular vein veins venogram venous vertebral
    vessel vessels virtual vmi volume whole width window with without wo
    """.split()  # noqa: SIM905  (one string a line would not be read)
)

#: A number stays with its unit only, and with at most three digits before the point.
_MEASURE = re.compile(r"\d{1,3}(?:\.\d{1,3})?(?:mm|cm|kv|kvp|ma|mas|kev|ml|hu|s|x)", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+|\d[\w.]*")
_UNWELCOME_RUN = re.compile(r"\d{5}")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}", re.ASCII)
_DEVICE_TEXT = re.compile(r"[A-Za-z0-9 ._/+(),:;*#&^\\-]{1,64}", re.ASCII)
_PARTS = re.compile(r"[^\W_]+")


def words_of(text: str) -> frozenset[str]:
    """The words of a text in small letters: three characters or more."""
    return frozenset(word for word in _PARTS.findall(text.casefold()) if len(word) >= 3)


def cleaned(text: str, forbidden: Set[str]) -> str:
    """The known words and measures of a description, in their order."""
    kept = []
    for word in _WORD.findall(text):
        small = word.casefold()
        known = small in KNOWN_WORDS or _MEASURE.fullmatch(small)
        if known and small not in forbidden:
            kept.append(word)
    return " ".join(kept)


def is_code_string(text: str, forbidden: Set[str]) -> bool:
    """Whether a CS value reads as a term: its repertoire, no long number, no word of a person.

    A person who is called as an imaging term is no reason to doubt the term: ImageType must stay.
    """
    text = text.strip(" ")
    forbidden = forbidden - KNOWN_WORDS
    return not text or bool(_CODE_STRING.fullmatch(text) and _is_harmless(text, forbidden))


def is_device_text(text: str, forbidden: Set[str]) -> bool:
    """Whether a text can name a maker, a model, a version or a kernel, and no person."""
    return not text or bool(_DEVICE_TEXT.fullmatch(text) and _is_harmless(text, forbidden))


def _is_harmless(text: str, forbidden: Set[str]) -> bool:
    return not _UNWELCOME_RUN.search(text) and forbidden.isdisjoint(words_of(text))
