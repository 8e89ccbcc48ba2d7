"""The labelled scans of the task gate: phantoms by default, or a user's own.

A user's scans are a folder with `labels.csv`, or such a file: the columns `path` (relative to the
file), `label` (one of the bundle's labels) and, for severity, `score` (0 to 100). Every scan is
read and preprocessed as prediction does.
"""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctedge import read_scan
from ctedge.errors import DatasetError
from ctedge.extras import require
from ctedge.lungs import segment_lungs
from ctedge.preprocessing import resample
from ctedge.spec import PreprocessSpec, Spec
from ctedge_export.gates.inputs import GateInput, draw_chest, gate_input

LABEL_FILE = "labels.csv"

#: Phantoms of the gate and of the calibration: healthy and diseased in turn. The seeds keep them
#: apart from each other and from the gate's other inputs.
_GATE_SEED, GATE_COUNT = 41_000, 24
_CALIBRATION_SEED, CALIBRATION_COUNT = 42_000, 32

#: Lesion shares of the diseased run evenly, in the logarithm, from a trace to half of the lungs.
_SHARES = (0.02, 0.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A scan whose truth is known.

    Attributes:
        shown: the network's input.
        positive: whether it has the last label; None where no label was given.
        score: 0..100, or None.
    """

    shown: GateInput
    positive: bool | None
    score: float | None


@functools.lru_cache(maxsize=2)
def gate_phantoms(spec: Spec) -> tuple[Case, ...]:
    """24 phantoms, 12 of them healthy, the same on every run."""
    return _phantoms(spec, seed=_GATE_SEED, count=GATE_COUNT)


@functools.lru_cache(maxsize=2)
def calibration_phantoms(spec: Spec) -> tuple[GateInput, ...]:
    """32 phantoms, half of them diseased, none of which a gate sees; as drawn and changed in turn.

    Changed: noisy, in two levels, inverted, darker, brighter, two levels of noise, with a slope,
    with more contrast. A network in use sees scans of another sharpness, noise and window than
    those that it is calibrated on; ranges taken from clean chests alone clip there.
    """
    cases = _phantoms(spec, seed=_CALIBRATION_SEED, count=CALIBRATION_COUNT)
    rng = np.random.default_rng(_CALIBRATION_SEED)
    shown = []
    for index, case in enumerate(cases):
        if index // 2 % 2:
            change = _CHANGES[index // 4 % len(_CHANGES)]
            values = change(case.shown.values.astype(np.float64), rng)
            shown.append(gate_input(case.shown.name, values, spec))
        else:
            shown.append(case.shown)
    return tuple(shown)


_Floats = npt.NDArray[np.float64]


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> _Floats:
    return rng.standard_normal(shape)


def _sloped(values: _Floats, rng: np.random.Generator) -> _Floats:
    slope = np.linspace(-0.5, 0.5, values.shape[1]).reshape(1, -1, *(1,) * (values.ndim - 2))
    return values + rng.uniform(0.5, 1) * slope


#: What is done to every second pair of calibration phantoms, in turn; values are then cut to 0..1.
_CHANGES: tuple[Callable[[_Floats, np.random.Generator], _Floats], ...] = (
    lambda v, rng: v + rng.uniform(0.05, 0.2) * _noise(v.shape, rng),
    lambda v, rng: (v > rng.uniform(0.2, 0.6)).astype(float),
    lambda v, rng: 1 - v,
    lambda v, rng: rng.uniform(0.3, 0.8) * v,
    lambda v, rng: 1 - rng.uniform(0.4, 0.8) * (1 - v),
    lambda v, rng: (v + 0.5 * _noise(v.shape, rng) > rng.uniform(0.2, 0.6)).astype(float),
    _sloped,
    lambda v, rng: 3 * (v - rng.uniform(0.2, 0.4)),
)


def _phantoms(spec: Spec, *, seed: int, count: int) -> tuple[Case, ...]:
    shares = np.zeros(count)
    shares[1::2] = np.geomspace(*_SHARES, count // 2)
    cases = []
    for index, share in enumerate(shares):
        chest = draw_chest(spec, seed + index, float(share))
        shown = gate_input(f"phantom-{seed + index}", chest.values, spec)
        cases.append(Case(shown=shown, positive=chest.affected, score=chest.score))
    return tuple(cases)


def read_cases(
    data: str | os.PathLike[str], spec: Spec, *, task: str, labels: tuple[str, ...]
) -> tuple[Case, ...]:
    """Read a user's labelled scans.

    Args:
        data: a folder with `labels.csv`, or a CSV file.
        spec: how they are preprocessed.
        task: "classifier" needs labels, "severity" scores.
        labels: the bundle's, the positive one last.

    Raises:
        DatasetError: no such table, or a row that cannot be used.
        InputError: a scan cannot be read.
    """
    table = Path(data)
    if table.is_dir():
        table /= LABEL_FILE
    if not isinstance(spec, PreprocessSpec):
        raise DatasetError(
            "a network for slices is gated on phantoms alone",
            found=os.fspath(data),
            fix="leave the scans out",
        )
    rows = _rows(table, needed="score" if task == "severity" else "label")
    return tuple(_case(row, f"{table}, line {number}", table, spec, labels) for number, row in rows)


def read_scans(data: str | os.PathLike[str], spec: Spec) -> tuple[GateInput, ...]:
    """Read scans without their truth: a table with a `path` column, or a folder with one."""
    table = Path(data)
    if table.is_dir():
        table /= LABEL_FILE
    if not isinstance(spec, PreprocessSpec):
        raise DatasetError("a network for slices is calibrated on phantoms alone", found=table)
    rows = _rows(table, needed="path")
    return tuple(_shown(row["path"], f"{table}, line {n}", table, spec) for n, row in rows)


def _rows(table: Path, *, needed: str) -> list[tuple[int, dict[str, str]]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = []
            for row in reader:
                if None in row:
                    raise csv.Error(f"line {reader.line_num} has more fields than the first")
                filled = {key: value.strip() for key, value in row.items() if value}
                rows.append((reader.line_num, filled))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{table}: the table of scans cannot be read",
            found=error,
            expected="CSV in UTF-8 with the columns path, label and score",
            fix=f"give a folder with a {LABEL_FILE}, or the file itself",
        ) from error
    for number, row in rows:
        missing = [column for column in ("path", needed) if column not in row]
        if missing:
            raise DatasetError(
                f"{table}, line {number}: no {missing[0]}",
                found=", ".join(row) or "an empty line",
                expected=f"path and {needed}",
                fix="give every row a value in these columns",
            )
    if not rows:
        raise DatasetError(f"{table}: no scan in it", fix="add a line for each scan")
    return rows


def _case(
    row: dict[str, str], where: str, table: Path, spec: PreprocessSpec, labels: tuple[str, ...]
) -> Case:
    label, score = row.get("label"), row.get("score")
    if label is not None and label not in labels:
        raise DatasetError(
            f"{where}: a label that the bundle does not know",
            found=label,
            expected=" or ".join(labels),
            fix="use the bundle's labels (`ctedge inspect` shows them)",
        )
    truth = None if score is None else _score(score, where)
    return Case(
        shown=_shown(row["path"], where, table, spec),
        positive=None if label is None else label == labels[-1],
        score=truth,
    )


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 0 <= score <= 100:
        raise DatasetError(f"{where}: no score", found=text, expected="a number, 0 to 100")
    return score


def _shown(name: str, where: str, table: Path, spec: PreprocessSpec) -> GateInput:
    path = table.parent / name
    if not path.exists():
        raise DatasetError(
            f"{where}: there is no such scan",
            found=path,
            fix="give paths as they are seen from the table",
        )
    scan = read_scan(path)
    if spec.lungs_only:
        require("scipy.ndimage", extra="lungs", purpose="finding the lungs")
    mask = segment_lungs(scan).on(scan) if spec.lungs_only else None
    # A path could name a person; the position in the table does not.
    line = where.rpartition(" ")[2]
    return gate_input(f"scan-{line}", resample(scan, spec, lung_mask=mask).volume, spec)
