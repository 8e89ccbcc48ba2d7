"""The distribution of latencies as a PNG: histogram and cumulative share, drawn with numpy alone.

Of what, on what and when; then a row a runtime, inference on the left and total on the right, each
on an axis of its own.
"""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctedge.bench.measure import JUDGED
from ctedge.bench.report import Report
from ctedge.bench.summary import Samples
from ctedge.errors import counted
from ctedge.files import write_atomic
from ctedge.montage import GLYPHS, drawable, png_of, require_png

Pixels = NDArray[np.uint8]

_HEIGHT, _WIDTH = 260, 620
#: Margins of the field that is drawn in, in pixels.
_TOP, _BOTTOM, _LEFT, _RIGHT = 58, 38, 58, 70
#: From one line of text to the next, and from the upper edge to the first.
_LINE, _EDGE = 22, 10
#: A glyph and the gap after it.
_LETTER = 12

_PAPER, _INK, _GRID, _FAINT = (255, 255, 255), (40, 40, 40), (226, 226, 226), (120, 120, 120)
_BAR, _SHARE = (150, 184, 220), (196, 84, 16)
_P50, _P95 = (20, 110, 60), (150, 30, 110)

#: The axis ends this many times (p95 - p50) above p95; what is slower is counted at its end.
_TAIL = 3.0
_LEAST_BINS, _MOST_BINS = 8, 48
_TICKS = 5

_BITS = np.arange(4, -1, -1)

_TRADEMARK = re.compile(r"\((?:R|TM)\)", re.IGNORECASE)


def plot_png(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the distributions of a report.

    Raises:
        OutputError: another suffix, or it cannot be written.
    """
    require_png(path)
    said = _caption(report)
    rows = [
        np.concatenate(
            [_panel(f"{run.candidate} {stage}", run.samples_ns[stage]) for stage in JUDGED], axis=1
        )
        for run in report.runs
    ]
    words = "; ".join(["latency in ms", *said, ", ".join(run.candidate for run in report.runs)])
    return write_atomic(path, png_of(np.concatenate([_strip(said), *rows]), words))


def _caption(report: Report) -> list[str]:
    """Of what, and on what; each runtime stands over its own row."""
    scan = "a synthetic scan in memory" if report.in_memory else "a file"
    size = "" if report.shape is None else f", {' x '.join(map(str, report.shape))}"
    machine = report.machine
    cores = f"{machine.cores_usable} of {counted(machine.cores, 'core')}"
    gpu = [] if machine.gpu is None else [str(machine.gpu["gpu"])]
    return [
        f"{report.bundle} on {scan}{size}",
        ", ".join([machine.cpu, cores, *gpu]),
        f"{report.started[:16].replace('T', ' ')} UTC",
    ]


def _strip(said: Sequence[str]) -> Pixels:
    """Text as wide as two panels, in as many lines as it takes; a comma is drawn as a dash."""
    letters = (2 * _WIDTH - _LEFT - _EDGE) // _LETTER
    lines = []
    for one in said:
        plain = _TRADEMARK.sub("", one).replace(", ", " - ")
        lines += textwrap.wrap(drawable(plain), letters)
    strip = np.full((_EDGE + _LINE * len(lines) + _EDGE, 2 * _WIDTH, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines):
        _write(strip, " ".join(line.split()), _EDGE + _LINE * number, _LEFT, _INK)
    return strip


def _panel(title: str, samples: Samples) -> Pixels:
    """One distribution: bars the share of answers, the line the share that was no slower."""
    ms = np.sort(samples / 1e6)
    p50, p95 = np.percentile(ms, (50, 95))
    low, high, beyond = _range(ms, float(p50), float(p95))
    canvas = np.full((_HEIGHT, _WIDTH, 3), _PAPER, np.uint8)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    field = canvas[_TOP : _TOP + height, _LEFT : _LEFT + width]

    def column(value: float) -> int:
        return min(max(round((value - low) / (high - low) * (width - 1)), 0), width - 1)

    _write(canvas, title, _EDGE, _LEFT, _INK)
    ticks, digits = _ticks(low, high)
    for tick in ticks:
        field[:, column(tick)] = _GRID
        _write(canvas, f"{tick:.{digits}f}", _TOP + height + 9, _LEFT + column(tick), _INK, at=0.5)
    _write(canvas, "ms", _TOP + height + 9, _WIDTH - 8, _FAINT, at=1.0)
    for share in (0.0, 0.5, 1.0):
        row = round((1 - share) * (height - 1))
        field[row] = _GRID
        _write(canvas, f"{share:.0%}", _TOP + row - 7, _LEFT + width + 8, _SHARE)
    most = _bars(field, ms[ms <= high], low, high, len(ms))
    _write(canvas, f"{most:.0%}", _TOP - 7, _LEFT - 8, _FAINT, at=1.0)
    _write(canvas, "0%", _TOP + height - 8, _LEFT - 8, _FAINT, at=1.0)
    _cumulative(field, ms, np.linspace(low, high, width))
    left = _LEFT
    for name, value, colour in (("p50", p50, _P50), ("p95", p95, _P95)):
        field[::6, column(float(value))] = field[1::6, column(float(value))] = colour
        field[2::6, column(float(value))] = colour
        left = _write(canvas, f"{name} {value:.{digits + 1}f}", _EDGE + _LINE, left, colour) + 24
    left = _write(canvas, f"n {len(ms)}", _EDGE + _LINE, left, _FAINT) + 24
    if beyond:
        _write(canvas, f"{beyond} slower", _EDGE + _LINE, left, _INK)
    canvas[_TOP + height, _LEFT : _LEFT + width] = _INK
    canvas[_TOP : _TOP + height + 1, _LEFT - 1] = _INK
    return canvas


def _range(ms: NDArray[np.float64], p50: float, p95: float) -> tuple[float, float, int]:
    """The ends of the axis, and how many answers lie beyond it."""
    low, high = float(ms[0]), min(float(ms[-1]), p95 + _TAIL * (p95 - p50))
    room = max((high - low) * 0.04, abs(high) * 1e-3, 1e-6)
    return max(low - room, 0.0), high + room, int((ms > high + room).sum())


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Round values inside a range, 1, 2 or 5 times a power of ten apart, and their decimals."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    return [(first + index) * step for index in range(count)], max(-math.floor(math.log10(step)), 0)


def _bars(field: Pixels, ms: NDArray[np.float64], low: float, high: float, count: int) -> float:
    """Draw the histogram; the largest share of answers that one bar holds."""
    spread = float(np.subtract(*np.percentile(ms, (75, 25))))
    wide = 2 * spread / len(ms) ** (1 / 3)  # Freedman and Diaconis, 1981
    wanted = math.ceil((high - low) / wide) if wide > 0 else _LEAST_BINS
    found, edges = np.histogram(ms, min(max(wanted, _LEAST_BINS), _MOST_BINS), (low, high))
    height, width = field.shape[:2]
    places = np.rint((edges - low) / (high - low) * width).astype(int)
    for answers, left, right in zip(found, places[:-1], places[1:], strict=True):
        tall = round(answers / found.max() * (height - 1))
        if tall:
            field[height - tall :, left : max(right - 1, left + 1)] = _BAR
    return float(found.max()) / count


def _cumulative(field: Pixels, ms: NDArray[np.float64], grid: NDArray[np.float64]) -> None:
    """Draw the share of answers that took no longer, as a line two pixels thick."""
    height = field.shape[0]
    shares = np.searchsorted(ms, grid, side="right") / len(ms)
    rows = np.rint((1 - shares) * (height - 1)).astype(int)
    before = np.concatenate([rows[:1], rows[:-1]])
    for column, (row, last) in enumerate(zip(rows, before, strict=True)):
        field[max(row - 1, 0) : last + 1, max(column - 1, 0) : column + 1] = _SHARE


def _write(  # noqa: PLR0913, PLR0917 - what, where and how it looks
    canvas: Pixels, words: str, top: int, left: int, colour: tuple[int, int, int], at: float = 0.0
) -> int:
    """Write with glyphs of 10 x 14 pixels; `at` is the share of the text left of `left`."""
    rows = [np.array([list(bytes.fromhex(GLYPHS[letter]))]).T for letter in words.upper()]
    shown = np.concatenate([np.pad(row >> _BITS & 1, ((0, 0), (0, 1))) for row in rows], axis=1)
    mask = np.kron(shown, np.ones((2, 2), int)).astype(bool)
    width = int(mask.shape[1])
    start = max(left - round(at * width), 0)
    place = canvas[top : top + mask.shape[0], start : start + width]
    place[mask[:, : place.shape[1]]] = colour
    return start + width
