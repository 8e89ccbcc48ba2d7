"""Whether images are of one patient: told by digests, which are of no use beyond the process."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What says who the patient is, PS3.3 C.7.1.1; none of it is kept once it was read.
IDENTITY = ("PatientID", "PatientName", "PatientBirthDate")

_DIGEST_KEY = os.urandom(16)

#: Between the parts of a name: carets, and what systems without parts write in their place.
_BETWEEN = re.compile(r"[\s^,.]+")


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Digests of a patient's identity; empty where an element is absent or empty.

    Attributes:
        number: of PatientID.
        name: of PatientName, but for capitals, and for what stands between its parts.
        born: of PatientBirthDate.
    """

    number: bytes
    name: bytes
    born: bytes


def patient_of(header: Mapping[str, Any]) -> Patient:
    """Who the patient is.

    Args:
        header: by keyword, with the elements `IDENTITY`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names in letters that are not those they state
        number, name, born = (str(header.get(keyword) or "").strip() for keyword in IDENTITY)
    groups = name.casefold().split("=")  # the same name in other letters follows, PS3.5 6.2.1
    spelt = next((group for group in groups if group.strip(" ^")), "")
    return Patient(
        number=_digest(number),
        name=_digest(_BETWEEN.sub(" ", spelt).strip()),
        born=_digest(born),
    )


def strangers(patients: Sequence[Patient]) -> list[int]:
    """The places of those that are another patient than the first; none of one patient.

    Another PatientID is another patient, also where it is lacking. A name or a date of birth tells
    patients apart where it is stated: archives leave them out of some series, and not of others.
    """
    for field in ("number", "name", "born"):
        said = [getattr(one, field) for one in patients]
        lacking_counts = field == "number"
        stated = said if lacking_counts else [*filter(None, said)]
        places = [
            place for place, one in enumerate(said) if (one or lacking_counts) and one != stated[0]
        ]
        if places:
            return places
    return []


def _digest(text: str) -> bytes:
    if not text:
        return b""
    return hashlib.blake2b(text.encode(errors="replace"), key=_DIGEST_KEY, digest_size=16).digest()
