"""`ctedge predict`: judge scans and pictures, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ctedge.door import Door


def predict(  # noqa: PLR0913, PLR0917 - one parameter an option
    scans: Annotated[
        list[str],
        typer.Argument(
            metavar="SCAN...",
            help="NIfTI files, DICOM folders, or pictures of one slice (PNG, JPEG), which go to"
            " the models for slices.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="BUNDLE",
            help="A bundle folder or the name of a shipped one; may be given several times."
            "  [default: all shipped]",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="What is named is strict.")
    ] = "auto",
    assess: Annotated[
        bool,
        typer.Option("--assess", help="Look at the whole scan: is it fit? Lungs in mL."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A scan with red flags is an error, not an answer.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scan and model, a line each.")
    ] = False,
) -> None:
    """Judge one or several scans; a scan that fails does not stop the others."""
    from contextlib import ExitStack

    from ctedge.bundle_files import shipped_bundles
    from ctedge.cli.output import print_error, print_origin, print_result
    from ctedge.doors import load_door
    from ctedge.errors import CTEdgeError
    from ctedge.readers.picture import is_picture

    failed = answered = False
    with ExitStack() as stack:
        doors = [
            stack.enter_context(load_door(name, device=device))
            for name in model or shipped_bundles()
        ]
        for path in scans:
            try:
                judge = _of_picture if is_picture(path) else _of_scan
                for document in judge(path, doors, assess=assess, strict=strict):
                    if as_json:
                        typer.echo(json.dumps(document))
                    else:
                        print_result(document)
                    answered = True
            except CTEdgeError as error:
                failed = True
                if as_json:
                    typer.echo(json.dumps({"source": path, "error": error.as_dict()}))
                else:
                    print_error(error)
        if answered and not as_json:
            print_origin(door.bundle for door in doors)
    if failed:
        raise typer.Exit(1)


def _of_scan(
    path: str, doors: list[Door[Any]], *, assess: bool, strict: bool
) -> Iterator[dict[str, Any]]:
    """What each model answers; the scan is read once."""
    import time

    from ctedge.readers import read_scan

    start = time.perf_counter()
    scan = read_scan(Path(path))
    read_ms = (time.perf_counter() - start) * 1e3
    for door in doors:
        yield _with_reading(door.predict(scan, assess=assess, strict=strict).to_json(), read_ms)


def _of_picture(
    path: str, doors: list[Door[Any]], *, assess: bool, strict: bool
) -> Iterator[dict[str, Any]]:
    """What the models for slices answer; where there is none, what any other says of pictures."""
    from ctedge.slices import SliceClassifier

    for door in [door for door in doors if isinstance(door, SliceClassifier)] or doors:
        yield door.predict(path, assess=assess, strict=strict).to_json()


def _with_reading(document: dict[str, Any], read_ms: float) -> dict[str, Any]:
    """The scan was read once for all models: count that time in each of them."""
    timings = document["timings_ms"]
    timings["total"] = round(timings["total"] - timings["read"] + read_ms, 3)
    timings["read"] = round(read_ms, 3)
    return document
