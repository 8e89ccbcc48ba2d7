"""Studies of the HRCT severity study: a DICOM folder a patient, and a table of their answers.

    DIR/covid/patient-01/*.dcm      DIR/data.csv        path,covid,score[,reference]
    DIR/normal/npatient-01/*.dcm    DIR/masks/patient-01.nii.gz

Source: Kavin Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier", PSG College of
Technology, 2020: names of the folders, columns of data.csv, the check of the CT reference number
after anonymisation (5.4), and 170 training and 40 validation studies of equal class proportions
(5.7).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ctedge import pool
from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.datasets.split import stratified
from ctedge_training.datasets.table import listed_twice, read_rows, read_score, scan_path
from ctedge_training.hrct.references import REFERENCE_CHARACTERS, scan_reference

TABLE_FILE = "data.csv"
COLUMNS = ("path", "covid", "score")
REFERENCE_COLUMN = "reference"
MASK_FOLDER = "masks"

_STUDY_FOLDER = re.compile(r"(n?)patient-[0-9]{2,}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One patient's scan and its answers.

    Attributes:
        name: the study folder, `patient-NN` (COVID) or `npatient-NN` (normal); unique.
        path: where the DICOM files lie.
        covid: whether the patient has COVID-19.
        score: severity, 0-100 points.
        reference: the CT reference number; None where the files carry none.
    """

    name: str
    path: Path
    covid: bool
    score: float
    reference: str | None

    @property
    def patient(self) -> str:
        """Who was scanned; the study has one folder a patient."""
        return self.name


def read_studies(
    folder: Path,
    *,
    allow_missing_reference: bool = False,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> list[Study]:
    """Read `data.csv` and the reference number of every study, in the order of the rows.

    Args:
        folder: the data folder; paths in the table are relative to it.
        allow_missing_reference: take studies whose files carry no reference number.
        workers: processes that read DICOM headers.
        reporter: shows progress.

    Raises:
        DatasetError: the table is missing or unsound, a study folder is missing, unlisted, listed
            twice, of the wrong class or outside of `folder`; a folder cannot be looked into; a
            reference number is missing, differs within a folder or from the table, or stands in
            two folders.
        MissingExtra: pydicom is not installed.
    """
    reporter = Reporter.silent() if reporter is None else reporter
    listed = _read_table(folder)
    _refuse_unlisted(folder, listed)
    references: dict[int, str | None] = {}
    with reporter.bar("checking references", len(listed)) as advance:
        work = functools.partial(_reference_of, allow_missing=allow_missing_reference)
        for index, reference in pool.each(work, listed, workers=workers):
            references[index] = reference
            advance()
    studies = [
        dataclasses.replace(study, reference=references[index])
        for index, study in enumerate(listed)
    ]
    _refuse_copies(studies)
    return studies


def split_rows(
    studies: Sequence[Study], *, train: int = 170, validation: int = 40, seed: int = 0
) -> dict[str, str]:
    """Deal the studies out to "train" and "validation", both with the same share of COVID.

    Args:
        studies: in any order; the answer does not depend on it.
        train, validation: numbers of studies; for another total than theirs, the proportion.
        seed: of the deal.

    Returns:
        The split of each study, by name.

    Raises:
        DatasetError: a split would hold no COVID or no normal study.
    """
    groups = {study.patient: "covid" if study.covid else "normal" for study in studies}
    return stratified(groups, {"train": train, "validation": validation}, seed)


def _read_table(folder: Path) -> list[Study]:
    """The rows, `reference` as the table has it."""
    source = folder / TABLE_FILE
    if not source.is_file():
        raise DatasetError(
            f"no {TABLE_FILE}",
            found=f"nothing at {source}",
            expected=f"a CSV file with the columns {', '.join(COLUMNS)}",
            fix="write it: one row a study folder, its path relative to the data folder",
        )
    studies: list[Study] = []
    lines: dict[Path, int] = {}
    for line, row in read_rows(source, COLUMNS, optional=(REFERENCE_COLUMN,)):
        where = f"{source}, line {line}"
        study = _study(folder, row, where)
        if study.path in lines:
            raise listed_twice(where, row["path"], lines[study.path])
        same = [other for other in studies if other.name == study.name]
        if same:
            raise DatasetError(
                f"{where}: two folders of the same name",
                found=f"{same[0].path} and {study.path}",
                expected="every patient's folder under a name of its own",
                fix="rename one of them",
            )
        lines[study.path] = line
        studies.append(study)
    if not studies:
        raise DatasetError(f"{source}: no study in the table", fix="add one row a study folder")
    return studies


def _study(folder: Path, row: dict[str, str], where: str) -> Study:
    path = scan_path(folder, row["path"], where)
    name = PurePosixPath(row["path"]).name
    kind = _STUDY_FOLDER.fullmatch(name)
    if kind is None or not path.is_dir():
        raise DatasetError(
            f"{where}: not a study folder",
            found=repr(row["path"]),
            expected="a folder patient-NN (COVID) or npatient-NN (normal) with DICOM files",
            fix="correct the path, or rename the folder",
        )
    if row["covid"] not in ("0", "1"):
        raise DatasetError(
            f"{where}: unreadable covid",
            found=repr(row["covid"]),
            expected="0 (normal) or 1 (COVID)",
            fix="correct the value",
        )
    covid = row["covid"] == "1"
    if covid == bool(kind[1]):
        raise DatasetError(
            f"{where}: the folder's name and the column covid disagree",
            found=f"{name} with covid {row['covid']}",
            expected="covid 1 for patient-NN, covid 0 for npatient-NN",
            fix="correct the row, or move the folder to the other class",
        )
    return Study(
        name=name,
        path=path,
        covid=covid,
        score=read_score(row["score"], where),
        reference=row.get(REFERENCE_COLUMN) or None,
    )


def _refuse_unlisted(folder: Path, studies: Sequence[Study]) -> None:
    listed = {study.path for study in studies}
    unlisted: list[str] = []
    for parent, children, _ in os.walk(folder, onerror=_refuse_unseen):
        found = [Path(parent, child) for child in children if _STUDY_FOLDER.fullmatch(child)]
        unlisted += [
            path.relative_to(folder).as_posix() for path in found if path.resolve() not in listed
        ]
        children[:] = [child for child in children if not _STUDY_FOLDER.fullmatch(child)]
    if unlisted:
        more = f" and {len(unlisted) - 5} more" if len(unlisted) > 5 else ""
        raise DatasetError(
            f"{folder / TABLE_FILE}: study folders without a row",
            found=", ".join(sorted(unlisted)[:5]) + more,
            expected="one row a study folder",
            fix="add their rows, or move the folders out of the data folder",
        )


def _refuse_unseen(error: OSError) -> NoReturn:
    raise DatasetError(
        f"{error.filename}: the folder cannot be looked into",
        found=error.strerror,
        expected="one that this user may read: it might hold a study without a row",
        fix="let this user read it, or check that the medium is sound",
    ) from error


def _reference_of(study: Study, *, allow_missing: bool) -> str | None:
    """The reference number in the files of a study, held against the table's."""
    found = scan_reference(study.path)
    if found is None and study.reference is None and allow_missing:
        return None
    if found is None:
        raise DatasetError(
            f"{study.path}: no CT reference number",
            found="no Scheduled Procedure Step ID (0040,0275)[0](0040,0009) in its files",
            expected=study.reference or "one, so that no scan is taken twice",
            fix="anonymise again and keep this tag, or allow studies without it",
        )
    if study.reference is not None and study.reference[:REFERENCE_CHARACTERS] != found:
        raise DatasetError(
            f"{study.path}: another scan than the table says",
            found=f"reference {found}",
            expected=f"reference {study.reference} (column {REFERENCE_COLUMN})",
            fix="put the right scan into the folder, or correct the row",
        )
    return found


def _refuse_copies(studies: Sequence[Study]) -> None:
    seen: dict[str, Study] = {}
    for study in studies:
        if study.reference is None:
            continue
        if study.reference in seen:
            raise DatasetError(
                "the same scan lies in two study folders",
                found=f"reference {study.reference} in {seen[study.reference].path} "
                f"and {study.path}",
                expected=f"{REFERENCE_CHARACTERS} characters of their own for every scan",
                fix="remove the copy and its row",
            )
        seen[study.reference] = study
