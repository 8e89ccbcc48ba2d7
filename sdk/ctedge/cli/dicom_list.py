"""`ctedge dicom list`: which series a folder holds, and which of them are fit for use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ctedge.readers.dicom.choice import Candidate


def list_series(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM, with its sub-folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the CT series of a folder, without a word about the patient."""
    from ctedge.readers.dicom.choice import candidate
    from ctedge.readers.dicom.gather import gather
    from ctedge.readers.dicom.series import find_series

    found = find_series(gather(folder))
    rows = [_facts(candidate(found.label, series)) for series in found.series]
    if as_json:
        typer.echo(json.dumps({"series": rows, "excluded": list(found.excluded)}, indent=2))
    else:
        _print(rows, found.excluded)


def _facts(one: Candidate) -> dict[str, Any]:
    from ctedge.errors import CTEdgeError
    from ctedge.readers.dicom.choice import spacing_mm
    from ctedge.readers.dicom.pixels import check_decodable
    from ctedge.scan import nearest_axes

    first = one.series.images[0]
    problem = one.problem
    facts: dict[str, Any] = {
        "series": one.series.uid,
        "study": one.series.study,
        "modality": "CT",
        "files": len(one.series.images),
        "slices": None,
        "spacing_mm": None,
        "size": None,
        "orientation": None,
        "body_part": first.body_part or None,
        "kernel": first.kernel or None,
        "syntax": sorted({image.syntax_name for image in one.series.images}),
    }
    if one.volume is not None:
        rows_mm, columns_mm = one.volume.slices[0].spacing_mm
        facts["slices"] = len(one.volume.planes)
        facts["spacing_mm"] = [round(mm, 3) for mm in (columns_mm, rows_mm, spacing_mm(one.volume))]
        facts["size"] = [one.volume.slices[0].columns, one.volume.slices[0].rows]
        try:
            order, flips = nearest_axes(one.volume.affine, source="series")
            facts["orientation"] = _letters(order, flips)
            syntaxes = {image.syntax: image.syntax_name for image in one.series.images}
            bits = {piece.values.bits_stored for piece in one.volume.slices}
            check_decodable(syntaxes, label="pixels", bits_stored=bits)
        except CTEdgeError as error:
            problem = f"{error.what}: {error.found}"
    return facts | {"fit": problem is None, "problem": problem}


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
