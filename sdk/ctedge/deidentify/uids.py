"""Everything new that stands for something old: by HMAC-SHA256 under one key.

The same key gives the same answers, in every process and every run; without it nobody finds the
way back, not even by trying all patient numbers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ctedge.errors import InputError, counted
from ctedge.files import write_atomic

#: Fewer bytes could be guessed; more than this is no key.
KEY_BYTES = (32, 4096)

#: Dates move back by 1 to this many days.
MOST_DAYS = 3650

#: How many characters a scan's reference number has: what a study compares.
REFERENCE_CHARACTERS = 9


#: The forms of a pseudonym and of a new UID.
PSEUDONYM = re.compile("P[A-Z2-7]{12}")
NEW_UID = "2.25."


class Keyed:
    """Pseudonyms, UIDs and shifts under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, old: str) -> str:
        """A UID `2.25.<integer of a UUID>` (PS3.5 B.2; UUID version 8, RFC 9562)."""
        number = int.from_bytes(self._digest("uid", old)[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(0x3 << 62) | 2 << 62
        return f"{NEW_UID}{number}"

    def pseudonym(self, patient: str) -> str:
        """What a patient is called: P and 12 letters or digits."""
        return "P" + self._letters("patient", patient, 12)

    def days(self, patient: str) -> int:
        """By how many days a patient's dates move back."""
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        return 1 + number % MOST_DAYS

    def reference(self, series: str) -> str:
        """The reference number of a series, and the name of its folder."""
        return self._letters("reference", series, REFERENCE_CHARACTERS)

    def file_name(self, relative: Path) -> str:
        """What a file of the input is called in the output, without suffix."""
        return self._digest("file", os.fsencode(relative.as_posix()).hex()).hex()[:16]

    def fingerprint(self) -> str:
        """Tells one key from another without giving it away."""
        return self._digest("fingerprint", "").hex()[:16]

    def _letters(self, purpose: str, text: str, count: int) -> str:
        return base64.b32encode(self._digest(purpose, text)).decode()[:count]

    def _digest(self, purpose: str, text: str) -> bytes:
        message = f"ctedge deidentify {purpose}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).digest()


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        InputError: no such file, too short, or far too long.
    """
    low, high = KEY_BYTES
    try:
        with path.open("rb") as stream:
            key = stream.read(high + 1).strip()
    except OSError as error:
        raise InputError(
            f"the key file {path} cannot be read", found=error.strerror, fix=_MAKE_ONE
        ) from error
    if not low <= len(key) <= high:
        raise InputError(
            f"{path} holds no key",
            found=counted(len(key), "byte") if len(key) <= high else f"more than {high} bytes",
            expected=f"{low} to {high} bytes that nobody can guess",
            fix=_MAKE_ONE,
        )
    return key


_MAKE_ONE = "leave --key-file out and one is made, or: openssl rand -hex 32 > KEYFILE"


def make_key(path: Path) -> bytes:
    """Write a new key, readable by its owner only, and return it."""
    key = secrets.token_hex(32).encode()
    write_atomic(path, key + b"\n")
    path.chmod(0o600)
    return key
