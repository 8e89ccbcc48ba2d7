"""`ctedge dicom list`: which series a folder holds, and which of them are fit for use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ctedge.errors import CTEdgeError
    from ctedge.readers.dicom.choice import Candidate


def list_series(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM, with its sub-folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the CT series of a folder, without a word about the patient."""
    from ctedge.progress import bar
    from ctedge.readers.dicom.choice import candidate
    from ctedge.readers.dicom.gather import gather
    from ctedge.readers.dicom.series import find_series

    damages: list[dict[str, Any]] = []
    with bar("reading headers") as begin:
        found = find_series(
            gather(folder),
            begin=begin,
            on_damage=lambda item, error: damages.append(_damage(item.name, error)),
        )
    rows = [_facts(candidate(found.label, series)) for series in found.series] + damages
    if as_json:
        typer.echo(json.dumps({"series": rows, "excluded": list(found.excluded)}, indent=2))
    else:
        _print(rows, found.excluded)


#: What a row says, in the order of its columns; None where it is not known.
_ROW: dict[str, Any] = {
    "series": None,
    "study": None,
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


def _facts(one: Candidate) -> dict[str, Any]:
    from ctedge.readers.dicom.choice import spacing_mm
    from ctedge.scan import nearest_axes

    first = one.series.images[0]
    facts = _ROW | {
        "series": one.series.uid,
        "study": one.series.study,
        "modality": "CT",
        "files": len(one.series.images),
        "body_part": first.body_part or None,
        "kernel": first.kernel or None,
        "syntax": sorted({image.syntax_name for image in one.series.images}),
    }
    if one.volume is not None:
        rows_mm, columns_mm = one.volume.slices[0].spacing_mm
        facts["slices"] = len(one.volume.planes)
        facts["spacing_mm"] = [round(mm, 3) for mm in (columns_mm, rows_mm, spacing_mm(one.volume))]
        facts["size"] = [one.volume.slices[0].columns, one.volume.slices[0].rows]
        facts["orientation"] = _letters(*nearest_axes(one.volume.affine, source="series"))
    return facts | {"fit": one.problem is None, "problem": one.problem}


def _letters(order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> str:
    """Where columns, rows and slices grow to, as in LPS."""
    letters = [""] * 3
    for side, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        letters[axis] = ("RPI" if flip else "LAS")[side]
    return "".join(letters)


def _print(rows: list[dict[str, Any]], excluded: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        if row["file"]:
            name = Text.assemble((row["file"], "bold"), "  ", ("damaged", "red"))
            console.print(name, Text(f"\n  {row['problem']}"), soft_wrap=True, sep="")
            continue
        mark = Text("fit", "green") if row["fit"] else Text("not fit", "yellow")
        console.print(Text.assemble((row["series"], "bold"), "  ", mark), soft_wrap=True)
        shape = ""
        if row["slices"]:
            columns, height = row["size"]
            x, y, z = row["spacing_mm"]
            shape = (
                f"{row['slices']} slices of {columns} x {height}, {x:g} x {y:g} x {z:g} mm,"
                f" {row['orientation']}, "
            )
        facts = [f"{row['modality']}, {row['files']} files, {shape}{', '.join(row['syntax'])}"]
        said = [("body part", row["body_part"]), ("kernel", row["kernel"])]
        facts += [f"{name} {value}" for name, value in said if value]
        console.print(Text("  " + ", ".join(facts)), soft_wrap=True)
        if row["problem"]:
            console.print(Text(f"  {row['problem']}"), soft_wrap=True)
    if excluded:
        console.print(f"{len(excluded)} files are no CT slices:", style="dim")
        for reason in excluded[:20]:
            console.print(Text(f"  {reason}", "dim"), soft_wrap=True)
        if len(excluded) > 20:
            console.print(f"  and {len(excluded) - 20} more; --json names all", style="dim")
