"""Damaged frames: a codec answers each of them soon, and none ends the process.

The frames are decoded in a process of their own, so that what a codec in C does to it can be told.
`python tests/test_dicom_codecs_damage.py FIRST LAST SYNTAX` tries others, and says what they gave.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from ctedge.readers.dicom.codecs import decode_frame
from ctedge.readers.dicom.values import StoredValues
from dicom_frames import LOSSLESS, LOSSY, frame_of

#: Damaged frames of each syntax; 36 000 more, damaged alike, were tried when this was written.
FRAMES = 150

#: The CPU of one frame, and the time of a whole process: orders of magnitude more than it takes.
FRAME_S, PROCESS_S = 1.0, 300.0

#: The memory of the process, beyond what it began with: a frame holds 14 kB.
GROWTH_MB = 64

SHAPE = (96, 72)

SYNTAXES = [*LOSSLESS, *LOSSY, RLELossless]

#: What is put in the place of bytes: extremes of lengths, and markers of every codec.
POISON = [
    bytes.fromhex(text)
    for text in (
        *("ffffffff", "00000000", "7fffffff", "0001", "ff00", "ffd8", "ffd9", "ffda", "ffdb"),
        *("ffc0", "ffc2", "ffc3", "ffc4", "ffd0", "ffdd0004ffff", "ffe0ffff", "fff7", "fff8"),
        *("ff4f", "ff50", "ff51", "ff52", "ff53", "ff5c", "ff64", "ff90", "ff91", "ff93"),
    )
]


def sound(syntax: str) -> tuple[bytes, StoredValues]:
    """A frame of noise on a ramp, with a flat corner, and what its header says."""
    eight = syntax.endswith("4.50")
    bits, allocated = (8, 8) if eight else (12, 16)
    pixels = np.random.default_rng(1).integers(0, 90, SHAPE) + np.arange(SHAPE[1]) * 2
    pixels[:30, :30] = 0
    values = StoredValues(
        bits_allocated=allocated,
        bits_stored=bits,
        high_bit=bits - 1,
        signed=False,
        padding=None,
        slope=1.0,
        intercept=0.0,
        table=None,
    )
    return frame_of(pixels.astype(f"<u{allocated // 8}"), syntax, bits), values


def damaged(frame: bytes, seed: int) -> bytes:
    """Bytes changed, put in, taken out and repeated; more of them in the header than elsewhere."""
    rng = np.random.default_rng(seed)
    made = bytearray(frame)
    for _ in range(rng.integers(1, 6)):
        end = min(len(made), 220) if rng.random() < 0.6 else len(made)
        at = int(rng.integers(2, max(end, 3)))
        poison = POISON[rng.integers(len(POISON))]
        match rng.integers(7):
            case 0 | 1:
                made[at : at + 1] = bytes([rng.integers(256)])
            case 2:
                made[at : at + len(poison)] = poison
            case 3:
                made[at:at] = poison
            case 4:
                del made[at : at + int(rng.integers(1, 40))]
            case 5:
                made[at:at] = made[at : at + int(rng.integers(1, 400))]
            case _:
                del made[at if rng.random() < 0.2 else len(made) :]
    return bytes(made)


def try_frames(syntax: str, first: int, last: int) -> Counter[str]:
    import resource

    frame, values = sound(syntax)
    seen: Counter[str] = Counter()
    decode_frame(frame, syntax=syntax, rows=SHAPE[0], columns=SHAPE[1], values=values)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, last):
        began = time.process_time()
        try:
            pixels = decode_frame(
                damaged(frame, seed), syntax=syntax, rows=SHAPE[0], columns=SHAPE[1], values=values
            )
            assert pixels.shape == SHAPE, seed
            seen["decoded"] += 1
        except Exception as error:  # noqa: BLE001 - `pixels.decode` makes one of ours of all
            seen[type(error).__name__] += 1
        assert time.process_time() - began < FRAME_S, f"seed {seed}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_MB << 10
    return seen


def test_damaged_frames_are_answered():
    """One process for all of them; what it said last tells where it ended."""
    answer = subprocess.run(
        [sys.executable, Path(__file__), "0", str(FRAMES), *SYNTAXES],
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count("Error") >= len(SYNTAXES)


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=lambda one: one.name)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_cut_frame_is_damage_and_not_filled_up(syntax, share):
    """CharLS looks for the end of some of these for ever, and libjpeg fills in grey."""
    frame, values = sound(syntax)
    cut = frame[: int(len(frame) * share)]
    with pytest.raises((ValueError, RuntimeError)):
        decode_frame(cut, syntax=syntax, rows=SHAPE[0], columns=SHAPE[1], values=values)


if __name__ == "__main__":
    for name in sys.argv[3:]:
        print(name, flush=True)  # noqa: T201
        print(dict(try_frames(name, int(sys.argv[1]), int(sys.argv[2]))), flush=True)  # noqa: T201
