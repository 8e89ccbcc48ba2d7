"""Moving dates back by whole days; the time of day stays."""

from __future__ import annotations

import datetime
import re

# PS3.5 6.2. The dotted form is ACR-NEMA's, and met in old files. A date and time may end in a zone
# offset: it tells where the scanner stands, and goes.
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"\d{2}:?(?:\d{2}:?(?:\d{2}(?:\.\d{1,6})?)?)?")
_DATE_TIME = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?(?:[+-]\d{4})?")


def shifted(text: str, vr: str, days: int) -> str | None:
    """A DA, DT or TM value moved back by `days`; None where it is no such value.

    A date and time without a day cannot be moved by days, and is none here.
    """
    text = text.strip(" \0")
    if vr == "TM":
        return text if text.isascii() and _TIME.fullmatch(text) else None
    match = (_DATE if vr == "DA" else _DATE_TIME).fullmatch(text)
    if match is None or not text.isascii():
        return None
    if vr == "DA":
        return _earlier("".join(match.groups()), days)
    moved = _earlier(match[1], days)
    return None if moved is None else moved + (match[2] or "")


def _earlier(digits: str, days: int) -> str | None:
    try:
        day = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        return (day - datetime.timedelta(days=days)).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return None
