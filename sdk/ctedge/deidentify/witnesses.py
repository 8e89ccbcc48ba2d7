"""What a file says of persons, gathered before it is cleaned, to prove that none of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctedge.deidentify.reading import passing
from ctedge.deidentify.words import words_of
from ctedge.errors import UnreadableScan

#: Sequences of sequences: an enhanced CT has three. Deeper is refused.
MAX_DEPTH = 16

#: Attributes at all depths: enhanced CT has about 60 for each frame.
MAX_ELEMENTS = 200_000

#: Looked for as a whole in the bytes of the output, besides every person's name and every UID.
_IDENTIFIERS = frozenset(
    {
        "PatientID",
        "OtherPatientIDs",
        "AccessionNumber",
        "InstitutionName",
        "StationName",
        "DeviceSerialNumber",
        "PatientAddress",
        "PatientTelephoneNumbers",
    }
)

#: Shorter values, or values of digits alone that are shorter than this, turn up by chance: in
#: 500 kB of compressed pixels 6 bytes do once in 5e8 files, in ten new UIDs 9 digits in 3e6.
_MIN_BYTES = 6
_MIN_DIGITS = 9
_MIN_DIFFERENT = 4


class Witnesses:
    """Words and values of a file that point at a person.

    Attributes:
        words: of names and patient numbers, in small letters; no text that is kept may hold one.
        values: whole identifiers, as bytes in each encoding; no output may hold one.
    """

    def __init__(self, dataset: Any) -> None:
        self.words: set[str] = set()
        self.values: set[bytes] = set()
        for count, element in enumerate(_elements(dataset, 0)):
            if count > MAX_ELEMENTS:
                raise UnreadableScan(
                    "attributes without end",
                    expected=f"at most {MAX_ELEMENTS}",
                    fix="leave this file out",
                )
            texts = [str(value) for value in _values(element)]
            if element.VR == "PN":
                for text in texts:
                    self.words |= words_of(text)
                    self._remember(text)
                    for part in text.replace("=", "^").split("^"):
                        self._remember(part)
            elif element.keyword in _IDENTIFIERS:
                if "Patient" in element.keyword:
                    self.words |= frozenset().union(*map(words_of, texts))
                for text in texts:
                    self._remember(text)

    def remember_uid(self, uid: str) -> None:
        """A UID that was replaced."""
        self._remember(uid)

    def left_in(self, data: bytes) -> bool:
        """Whether any of the values is among these bytes."""
        return any(value in data for value in self.values)

    def _remember(self, text: str) -> None:
        text = text.strip()
        enough = _MIN_DIGITS if text.isdigit() else _MIN_BYTES
        if len(set(text)) < _MIN_DIFFERENT:
            return
        for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
            value = text.encode(encoding, "ignore")
            if len(value) >= enough * (2 if encoding.startswith("utf-16") else 1):
                self.values.add(value)


def _values(element: Any) -> list[Any]:
    value = element.value
    if value is None:
        return []
    return list(value) if element.VM > 1 else [value]


def _elements(dataset: Any, depth: int) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise UnreadableScan(
            "sequences are nested too deep",
            expected=f"at most {MAX_DEPTH} in each other",
            fix="leave this file out",
        )
    for tag in dataset.keys():  # noqa: SIM118  (iterating a dataset reads every value)
        if tag.group % 2:
            continue
        try:
            element = dataset[tag]
            items = list(element.value) if element.VR == "SQ" else []
        except UnreadableScan:
            raise
        except Exception as error:  # pydicom raises many kinds; cleaning judges it
            if passing(error):
                raise
            continue
        for item in items:
            yield from _elements(item, depth + 1)
        yield element
