"""`ctedge dicom list`: which series a folder holds, and which of them are fit for use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctedge.errors import CTEdgeError
    from ctedge.readers.dicom.choice import Candidate
    from ctedge.readers.dicom.series import OtherSeries
    from ctedge.readers.dicom.slices import Slice


def list_series(
    folder: Annotated[str, typer.Argument(help="A folder of DICOM, with its sub-folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the series of a folder; of patients no more than which series are of the same."""
    from ctedge.progress import bar
    from ctedge.readers.dicom.choice import candidate
    from ctedge.readers.dicom.gather import gather
    from ctedge.readers.dicom.images import numbered
    from ctedge.readers.dicom.series import find_series

    damages: list[dict[str, Any]] = []
    with bar("reading headers") as begin:
        found = find_series(
            gather(folder),
            begin=begin,
            on_damage=lambda item, error: damages.append(_damage(item.name, error)),
        )
    rows = [_facts(candidate(found.label, series)) for series in found.series]
    for row, number in zip(rows, numbered(found.series), strict=True):
        row["patient"] = number
    rows += [_other(one) for one in found.others] + damages
    if as_json:
        typer.echo(json.dumps({"series": rows, "excluded": list(found.excluded)}, indent=2))
    else:
        _print(rows, found.excluded)


#: Of directions and pixel sizes that a scanner writes for each slice anew.
_ROUNDING = 1e-4

#: What a row says, in the order of its columns; None where it is not known.
_ROW: dict[str, Any] = {
    "series": None,
    "study": None,
    "patient": None,
    "file": None,
    "modality": None,
    "files": 1,
    "slices": None,
    "spacing_mm": None,
    "size": None,
    "orientation": None,
    "body_part": None,
    "kernel": None,
    "syntax": [],
}


def _damage(name: str, error: CTEdgeError) -> dict[str, Any]:
    """The row of a file that no series can be read from."""
    problem = error.what.removeprefix(f"{name}: ")
    if error.found is not None:
        problem += f": {error.found}"
    return _ROW | {"file": name, "fit": False, "problem": problem}


def _other(one: OtherSeries) -> dict[str, Any]:
    """The row of a series that is none of CT."""
    facts = {"series": one.uid, "study": one.study, "modality": one.modality, "files": one.files}
    return _ROW | facts | {"fit": False, "problem": "no CT"}


def _facts(one: Candidate) -> dict[str, Any]:
    first = one.series.images[0]
    facts = _ROW | {
        "series": one.series.key,
        "study": one.series.study,
        "modality": "CT",
        "files": len(one.series.images),
        "body_part": first.body_part or None,
        "syntax": sorted({image.syntax_name for image in one.series.images}),
    }
    if one.slices:
        facts |= _geometry(one.slices)
    if one.volume is not None:
        facts["slices"] = len(one.volume.planes)
    return facts | {"fit": one.problem is None, "problem": one.problem}


def _geometry(slices: Sequence[Slice]) -> dict[str, Any]:
    """What slices are known by, also of a series that makes no volume: where they are alike.

    The distance between them is the usual one; None for one slice alone.
    """
    import numpy as np

    from ctedge.readers.dicom.slices import kernel_of

    def same(field: str) -> Any:
        """Of all slices, but for rounding; None where they differ."""
        values = np.array([getattr(one, field) for one in slices], np.float64)
        return getattr(slices[0], field) if np.ptp(values, axis=0).max() <= _ROUNDING else None

    facts: dict[str, Any] = {"slices": len(slices), "kernel": kernel_of(slices)}
    if same("rows") and same("columns"):
        facts["size"] = [same("columns"), same("rows")]
    orientation, spacing = same("orientation"), same("spacing_mm")
    if orientation is None:
        return facts
    across = np.cross(orientation[:3], orientation[3:])
    facts["orientation"] = "".join(map(_letter, (orientation[:3], orientation[3:], across)))
    if spacing is not None:
        heights = np.sort([np.dot(one.position_mm, across) for one in slices])
        step = round(float(np.median(np.diff(heights))), 3) if len(slices) > 1 else None
        facts["spacing_mm"] = [round(spacing[1], 3), round(spacing[0], 3), step]
    return facts


def _letter(direction: Sequence[float]) -> str:
    """The side of the patient that an axis grows to, in LPS."""
    axis = max(range(3), key=lambda side: abs(direction[side]))
    return ("LR", "PA", "SI")[axis][int(direction[axis] < 0)]


def _print(rows: list[dict[str, Any]], excluded: tuple[str, ...]) -> None:
    from rich.console import Console

    from ctedge.cli.output import shown

    console = Console(highlight=False)

    def say(*parts: tuple[str, str]) -> None:
        console.print(shown(*parts), soft_wrap=True)

    several = any(row["patient"] not in (None, 1) for row in rows)
    for row in rows:
        if row["file"]:
            say((row["file"], "bold"), ("  ", ""), ("damaged", "red"))
            say((f"  {row['problem']}", ""))
            continue
        say((row["series"], "bold"), ("  ", ""), _MARKS[row["fit"]])
        patient = f"patient {row['patient']}, " if several and row["patient"] else ""
        say((f"  {patient}{_said(row)}", ""))
        if row["problem"]:
            say((f"  {row['problem']}", ""))
    if excluded:
        are = "file is no CT slice" if len(excluded) == 1 else "files are no CT slices"
        say((f"{len(excluded)} {are}:", "dim"))
        for reason in excluded[:20]:
            say((f"  {reason}", "dim"))
        if len(excluded) > 20:
            say((f"  and {len(excluded) - 20} more; --json names all", "dim"))


_MARKS = {True: ("fit", "green"), False: ("not fit", "yellow")}


def _said(row: dict[str, Any]) -> str:
    """What is known of a series, in one line."""
    from ctedge.errors import counted

    facts = [row["modality"], counted(row["files"], "file")]
    if row["slices"]:
        size = "" if row["size"] is None else " of {} x {}".format(*row["size"])
        facts.append(f"{counted(row['slices'], 'slice')}{size}")
    if row["spacing_mm"]:
        known = [f"{mm:g}" for mm in row["spacing_mm"] if mm is not None]
        facts.append(" x ".join(known) + " mm")
    facts += [row["orientation"] or "", *row["syntax"]]
    facts += [f"{name} {row[key]}" for name, key in _NAMED if row[key]]
    return ", ".join(fact for fact in facts if fact)


_NAMED = (("body part", "body_part"), ("kernel", "kernel"))
