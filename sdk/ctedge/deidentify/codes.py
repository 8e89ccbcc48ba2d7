"""Coded entries: a code of a standard scheme stays, and its meaning is written anew."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ctedge.deidentify.actions import EXTRA, PURPOSE
from ctedge.extras import require

#: The attributes of the Code Sequence Macro, PS3.3 Table 8.8-1, that are written.
CODE_KEYWORDS = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")

#: What an LO may hold, PS3.5 6.2.
_MEANING_CHARACTERS = 64


def standard_code(item: Any) -> tuple[str, str, str] | None:
    """Value, scheme and meaning of the code in a sequence's item, if the standard lists it.

    The meaning is the standard's. A code that a hospital made up may name its ward or its patient.
    """
    value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
    if not isinstance(value, str) or not isinstance(scheme, str):
        return None
    coding = require("pydicom.sr.coding", extra=EXTRA, purpose=PURPOSE)
    asked = coding.Code(value.strip(), scheme.strip(), "")
    meaning = _standard_codes().get(asked)
    return None if meaning is None else (asked.value, asked.scheme_designator, meaning)


@lru_cache(maxsize=1)
def _standard_codes() -> Mapping[Any, str]:
    """The codes that PS3.16 uses, as pydicom lists them; SRT codes equal their SCT twins."""
    codes = require("pydicom.sr.codedict", extra=EXTRA, purpose=PURPOSE).codes
    found = {}
    for scheme in codes.schemes():
        listed = getattr(codes, scheme)
        for keyword in listed.dir():
            try:
                code = getattr(listed, keyword)
            except (AttributeError, RuntimeError):  # one keyword for several codes
                continue
            found[code] = code.meaning[:_MEANING_CHARACTERS]
    return found
