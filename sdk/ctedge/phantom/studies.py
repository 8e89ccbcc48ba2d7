"""A folder of synthetic HRCT studies: DICOM series, lung masks and a table of their truth.

    FOLDER/covid/patient-01/*.dcm      FOLDER/data.csv     path,covid,score,reference
    FOLDER/normal/npatient-01/*.dcm    FOLDER/masks/patient-01.nii.gz, npatient-01.nii.gz

The layout, the share of COVID (125 of 210) and more mild than severe disease are those of Kavin
Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier", PSG College of Technology,
2020. `FOLDER/truth/*.json` says what each study was made from.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctedge import pool
from ctedge.errors import OutputError
from ctedge.extras import require
from ctedge.files import write_atomic
from ctedge.phantom.dataset import GENERATOR_VERSION
from ctedge.phantom.patient import draw_patient
from ctedge.phantom.render import render
from ctedge.phantom.write import write_dicom, write_lung_mask
from ctedge.prediction import SEVERITY_CLASSES

TABLE_FILE = "data.csv"
COLUMNS = ("path", "covid", "score", "reference")

#: Patients with COVID and patients in all, of the study.
COVID_OF_ALL = (125, 210)

#: The severity class (0 Low .. 4 Critical) of each ten COVID patients in turn. Every class is among
#: the first five; six in ten lie below 40 points and two from 60 up, as the study had more
#: patients below 44 points (CTSI 11) than above 56 (5.4).
SEVERITY_TURNS = (0, 1, 2, 3, 4, 0, 1, 0, 2, 1)

#: Lesion shares stay this many points of score inside their class: voxels are counted, not planned.
_MARGIN = 2.0


@dataclass(frozen=True, kw_only=True)
class _Study:
    """One study to be made."""

    root: Path
    name: str
    reference: str
    seed: int
    lesion_share: float
    shape: tuple[int, int, int] | None

    @property
    def covid(self) -> bool:
        return not self.name.startswith("n")

    @property
    def series(self) -> Path:
        return self.root / ("covid" if self.covid else "normal") / self.name

    @property
    def mask(self) -> Path:
        return self.root / "masks" / f"{self.name}.nii.gz"

    @property
    def truth(self) -> Path:
        return self.root / "truth" / f"{self.name}.json"

    @property
    def recipe(self) -> dict[str, object]:
        return {
            "synthetic": True,
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "lesion_share": self.lesion_share,
            "shape": None if self.shape is None else list(self.shape),
            "reference": self.reference,
        }


def write_studies(  # noqa: PLR0913 - one keyword an independent choice
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    shape: tuple[int, int, int] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write synthetic studies and, last, `folder/data.csv`.

    A run that was broken off continues: studies of the same recipe are kept, synthetic ones of
    another recipe are made anew. The table has the columns path (of the DICOM folder, relative),
    covid (0, 1), score (whole points, 0-100) and reference (the CT reference number).

    Args:
        folder: created if absent.
        count: number of studies, 125 in 210 of them COVID; at least two, one of each class.
        seed: of the whole set; a study is the same for every count.
        shape: (X, Y, Z) of every scan, as for `render`; None is full size.
        workers: processes.
        progress: called with (done, total) after each study.

    Returns:
        The path of data.csv.

    Raises:
        ValueError: an argument out of range.
        OutputError: the folder cannot be written, or holds studies that were not made here or are
            more than `count`.
        MissingExtra: pydicom is not installed.
    """
    if count < 2 or workers < 1 or seed < 0:
        raise ValueError(
            f"count must be at least 2, workers positive, seed not negative; got {count=}, "
            f"{workers=}, {seed=}"
        )
    require("pydicom", extra="dicom", purpose="writing synthetic studies")
    root = Path(folder)
    studies = _plan(root, count, seed, shape)
    _refuse_strangers(root, studies)
    scores: dict[int, int] = {}
    for index, score in pool.each(_make, studies, workers=workers):
        scores[index] = score
        if progress is not None:
            progress(len(scores), count)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, study in enumerate(studies):
        path = study.series.relative_to(root).as_posix()
        writer.writerow([path, int(study.covid), scores[index], study.reference])
    return write_atomic(root / TABLE_FILE, table.getvalue())


def _plan(root: Path, count: int, seed: int, shape: tuple[int, int, int] | None) -> list[_Study]:
    share, whole = COVID_OF_ALL
    covid = min(max(round(count * share / whole), 1), count - 1)
    studies = []
    for kind, index in [(1, i) for i in range(covid)] + [(0, i) for i in range(count - covid)]:
        rng = np.random.default_rng((seed, kind, index))
        studies.append(
            _Study(
                root=root,
                name=f"{'patient' if kind else 'npatient'}-{index + 1:02d}",
                reference=f"SYN{'C' if kind else 'N'}{index + 1:05d}-CT",
                seed=int(rng.integers(2**31)),
                lesion_share=_lesion_share(rng, index) if kind else 0.0,
                shape=shape,
            )
        )
    return studies


def _lesion_share(rng: np.random.Generator, index: int) -> float:
    bounds = [lower for _, lower in SEVERITY_CLASSES] + [100.0]
    turn = SEVERITY_TURNS[index % len(SEVERITY_TURNS)]
    score = rng.uniform(bounds[turn] + _MARGIN, bounds[turn + 1] - _MARGIN)
    return float(score / 100.0)


def _refuse_strangers(root: Path, studies: Sequence[_Study]) -> None:
    """Leave alone what was not made here; nothing of it is replaced, nothing listed beside it."""
    planned = {study.series for study in studies if not study.series.exists() or _known(study)}
    there = {path for kind in ("covid", "normal") for path in root.glob(f"{kind}/*patient-*")}
    strangers = sorted(path for path in there - planned if not path.name.startswith("."))
    if (root / TABLE_FILE).exists() and not (root / "truth").is_dir():
        strangers.append(root / TABLE_FILE)
    if strangers:
        raise OutputError(
            f"{root} holds other studies than these {len(studies)} synthetic ones",
            found=f"{strangers[0].relative_to(root)}"
            + (f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""),
            fix="name another folder, or ask for as many studies as were begun here",
        )


def _make(study: _Study) -> int:
    """Make one study, unless it is there already; its score.

    The truth is written first and the series last: a series beside its truth is whole.
    """
    truth = _known(study)
    if (
        truth is not None
        and all(truth.get(key) == value for key, value in study.recipe.items())
        and study.mask.is_file()
        and study.series.is_dir()
    ):
        return int(truth["score"])
    _remove(study.series)
    phantom = render(draw_patient(study.seed, lesion_share=study.lesion_share), shape=study.shape)
    score = round(phantom.score)
    write_atomic(study.truth, json.dumps({**study.recipe, "score": score}, indent=1) + "\n")
    write_lung_mask(phantom, study.mask)
    write_dicom(phantom, study.series, reference=study.reference)
    return score


def _remove(series: Path) -> None:
    """Out of the way by one rename first: half a series must never pass for a whole one."""
    aside = series.with_name(f".replaced-{series.name}")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        if series.exists():
            os.rename(series, aside)
            shutil.rmtree(aside)
    except OSError as error:
        raise OutputError(
            f"cannot replace {series}",
            found=error.strerror or error,
            fix="check that this user may write there, or name another folder",
        ) from error


def _known(study: _Study) -> dict[str, int] | None:
    """What the study that lies there was made from; None where it was not made here."""
    try:
        truth = json.loads(study.truth.read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(truth, dict) and truth.get("synthetic") is True
    return truth if whole and isinstance(truth.get("score"), int) else None
