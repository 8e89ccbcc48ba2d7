"""Cleaning one dataset: a new one is built of what may stay, at every depth.

Nothing is deleted from the old dataset; what no rule lets in is not there. A value that is kept
has been parsed and judged first, so that nothing rides along behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass
from typing import Any

from ctedge.deidentify import attributes, opaque
from ctedge.deidentify.actions import EXTRA, PURPOSE, Action, Options, action_table
from ctedge.deidentify.attributes import NUMBER_TEXT, NUMBERS, TEMPORAL
from ctedge.deidentify.codes import CODE_KEYWORDS, standard_code
from ctedge.deidentify.dates import shifted
from ctedge.deidentify.reading import passing
from ctedge.deidentify.uids import Keyed
from ctedge.deidentify.witnesses import Witnesses
from ctedge.deidentify.words import cleaned, is_code_string, is_device_text
from ctedge.extras import require

#: How a record names what the table does not.
PRIVATE, GRAPHICS, UNKNOWN = "private attributes", "curves and overlays", "unknown attributes"

UNREADABLE = "unreadable and removed"
#: A number of as many digits that is part of the patient's is no coincidence.
_A_PATIENTS = 6
_DATA_DICTIONARY = "pydicom.datadict"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a job cleans: its options, and its key."""

    options: Options
    keyed: Keyed


class Cleaning:
    """One dataset being cleaned.

    Attributes:
        dataset: the new dataset (pydicom), without file meta information.
        counts: how often what was done to which attribute: (keyword, action). What was empty, or
            is unchanged, does not count.
        witnesses: what the old dataset said of persons.
    """

    def __init__(self, source: Any, rules: Rules) -> None:
        self._datadict = require(_DATA_DICTIONARY, extra=EXTRA, purpose=PURPOSE)
        self._known_uids = require("pydicom.uid", extra=EXTRA, purpose=PURPOSE).UID_dictionary
        self._rules = rules
        self._table = action_table(rules.options)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.witnesses = Witnesses(source)
        patient = patient_of(source)
        self._pseudonym = rules.keyed.pseudonym(patient)
        self._days = rules.keyed.days(patient)
        self.dataset = self._walk(source, top=True)
        self.dataset.PatientName = self.dataset.PatientID = self._pseudonym

    def uid(self, old: object) -> str:
        """The new UID for an old one; the standard's own stay."""
        text = str(old).strip(" \0")
        if not text or text in self._known_uids:
            return text
        self.witnesses.remember_uid(text)
        return self._rules.keyed.uid(text)

    def _walk(self, source: Any, *, top: bool = False) -> Any:
        out = require("pydicom", extra=EXTRA, purpose=PURPOSE).Dataset()
        code = None if top else standard_code(source)
        for tag in sorted(source.keys()):
            keyword = self._keyword(tag)
            if tag.element == 0 or keyword in attributes.OWN:
                continue  # group lengths (retired) go unsaid
            if code and keyword in CODE_KEYWORDS:
                continue
            element = self._element(source, tag, keyword, top=top)
            if element is not None:
                out.add(element)
        for keyword, part in zip(CODE_KEYWORDS, code or (), strict=False):
            setattr(out, keyword, part)
        if code and str(source.get("CodeMeaning", "")) != code[2]:
            self.counts["CodeMeaning", Action.CLEAN.value] += 1
        return out

    def _keyword(self, tag: Any) -> str:
        """The attribute's keyword, or what a record calls such attributes together."""
        if tag.is_private:
            return PRIVATE
        if attributes.is_outside_the_standard(tag):
            return GRAPHICS if tag >> 24 in (0x50, 0x60) else UNKNOWN
        return str(self._datadict.keyword_for_tag(tag)) or UNKNOWN

    def _element(self, source: Any, tag: Any, keyword: str, *, top: bool) -> Any:
        action = self._table.get(int(tag))
        if keyword in (PRIVATE, GRAPHICS, UNKNOWN) or tag in attributes.PALETTES:
            action = Action.REMOVE
        if action is Action.REMOVE:
            if source.get_item(tag).value not in (None, b"", "", []):
                self.counts[keyword, action.value] += 1
            return None
        try:
            element = source[tag]
            if not self._is_of_its_vr(element):
                raise ValueError(element.VR)
            if tag in opaque.OFFSETS or tag in opaque.PIXELS or tag == opaque.LUT_DATA:
                return self._opaque(source, element, top=top)
            return self._judged(element, action, top=top)
        except Exception as error:  # pydicom raises many kinds on damaged values
            if passing(error):
                raise
            self.counts[keyword, UNREADABLE] += 1
            return None

    def _is_of_its_vr(self, element: Any) -> bool:
        """Whether the file's VR is the dictionary's, or both are numbers."""
        known = set(self._datadict.dictionary_VR(element.tag).split(" or "))
        return bool(set(element.VR.split(" or ")) & known) or (
            element.VR in NUMBERS and bool(known & NUMBERS)
        )

    def _opaque(self, source: Any, element: Any, *, top: bool) -> Any:
        """The image's own bytes, and no more of them than belong to it."""
        if element.tag == opaque.LUT_DATA:
            value = opaque.lookup_table(source, element.value)
            if value is not None:
                cut = len(value) < len(
                    _values(element) if isinstance(value, list) else element.value
                )
                self._count(element, Action.CLEAN, changed=cut)
                return self._with(element, value)
        elif top and (
            element.tag == opaque.pixel_tag(source)
            or (element.tag in opaque.OFFSETS and opaque.has_fitting_offsets(source))
        ):
            return element
        self._count(element, Action.REMOVE)
        return None

    def _judged(self, element: Any, action: Action | None, *, top: bool) -> Any:
        if action in (Action.EMPTY, Action.DUMMY):
            judged = self._replaced(element, action)
        elif action is Action.PSEUDONYM:
            judged = self._renamed(element, top=top)
        elif element.VR == "SQ":
            judged = self._sequence(element)
        elif action is Action.SHIFT or (action is None and element.VR in TEMPORAL):
            judged = self._moved(element)
        elif action is Action.UID or element.VR == "UI":
            judged = self._mapped(element, self.uid, Action.UID)
        elif action is Action.CLEAN or element.keyword in attributes.DESCRIPTIVE_TEXT:
            judged = self._mapped(element, self._cleaned, Action.CLEAN)
        else:
            judged = self._kept(element, action)
        return judged

    def _renamed(self, element: Any, *, top: bool) -> Any:
        """The patient, who at the top is written in any case; within a sequence, no one."""
        new = self._pseudonym if top else ""
        self._count(element, Action.PSEUDONYM, changed=str(element.value or "") != new)
        return self._with(element, new)

    def _replaced(self, element: Any, action: Action) -> Any:
        if element.VR == "SQ":
            dataset = require("pydicom", extra=EXTRA, purpose=PURPOSE).Dataset
            value: object = [] if action is Action.EMPTY else [dataset()]
            same = not any(len(item) for item in element.value)
        else:
            value = "" if action is Action.EMPTY else attributes.dummy(element.VR)
            value = None if value == "" and element.VR in NUMBERS else value
            same = str(element.value) == str(value)
        self._count(element, action, changed=not same)
        return self._with(element, value)

    def _sequence(self, element: Any) -> Any:
        items = [self._walk(item) for item in element.value]
        if items and not any(len(item) for item in items):
            return None
        return self._with(element, items)

    def _moved(self, element: Any) -> Any:
        if not self._rules.options.dates:
            self._count(element, Action.REMOVE)
            return None
        old = [str(value) for value in _values(element)]
        texts = [shifted(text, element.VR, self._days) for text in old]
        whole = all(text is not None for text in texts)
        self._count(element, Action.SHIFT if whole else Action.EMPTY, changed=texts != old)
        return self._with(element, texts if whole else "")

    def _mapped(self, element: Any, change: Callable[[object], str], action: Action) -> Any:
        old = [str(value) for value in _values(element)]
        new = [change(value) for value in old]
        self._count(element, action, changed=old != new)
        return self._with(element, new if any(new) else "")

    def _cleaned(self, text: object) -> str:
        return cleaned(str(text), self.witnesses.words)

    def _kept(self, element: Any, action: Action | None) -> Any:
        """What stays as it is, if every value of it may; else nothing."""
        values = _values(element)
        if action is Action.AGE:
            ages = [attributes.capped_age(str(value)) for value in values]
            if None not in ages:
                self._count(element, action, changed=ages != [str(value) for value in values])
                return self._with(element, ages)
        elif all(self._may_value_stay(element.keyword, element.VR, value) for value in values):
            return element
        self._count(element, Action.REMOVE)
        return None

    def _may_value_stay(self, keyword: str, vr: str, value: Any) -> bool:
        words = self.witnesses.words
        if keyword in attributes.TERMS:
            may = str(value).strip() in attributes.TERMS[keyword]
        elif vr in NUMBERS or vr == "US or SS":
            may = isinstance(value, int | float)
        elif vr in NUMBER_TEXT:
            text = _written(value).strip()
            may = attributes.is_number(text) and not (len(text) >= _A_PATIENTS and text in words)
        elif vr == "CS":
            may = is_code_string(str(value), words)
        else:
            may = keyword in attributes.DEVICE_TEXT and is_device_text(str(value), words)
        return may

    def _with(self, element: Any, value: Any) -> Any:
        made = require("pydicom", extra=EXTRA, purpose=PURPOSE).DataElement
        if isinstance(value, list) and element.VR != "SQ":
            value = value[0] if len(value) == 1 else value or ""
        return made(element.tag, element.VR, value)

    def _count(self, element: Any, action: Action, *, changed: bool = True) -> None:
        if changed and element.value not in (None, "", b"", []):
            self.counts[element.keyword, action.value] += 1


def patient_of(dataset: Any) -> str:
    """What tells one patient of the input from another: number, else name, else study."""
    for keywords in (("PatientID",), ("PatientName", "PatientBirthDate"), ("StudyInstanceUID",)):
        parts = [str(dataset.get(keyword) or "").strip() for keyword in keywords]
        if parts[0]:
            return f"{keywords[0]}\0" + "\0".join(parts)
    return ""


def _values(element: Any) -> list[Any]:
    value = element.value
    if isinstance(value, MutableSequence):
        return list(value)
    return [] if value is None or value in ("", b"") else [value]


def _written(number: object) -> str:
    """A DS or IS as the file has it."""
    return str(getattr(number, "original_string", None) or number)


def essentials_lost(source: Any, out: Any, keywords: Iterable[str]) -> list[str]:
    """Which of these attributes had a value, and have none after cleaning."""
    tag_of = require(_DATA_DICTIONARY, extra=EXTRA, purpose=PURPOSE).tag_for_keyword
    lost = []
    for keyword in keywords:
        raw = source.get_item(tag_of(keyword))
        had_value = raw is not None and raw.value not in (None, b"", "")
        if had_value and out.get(keyword) in (None, "", b""):
            lost.append(keyword)
    return lost
