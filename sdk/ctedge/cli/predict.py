"""`ctedge predict`: judge scans, one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def predict(
    scans: Annotated[
        list[str], typer.Argument(metavar="SCAN...", help="NIfTI files or DICOM folders.")
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
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scan and model, a line each.")
    ] = False,
) -> None:
    """Judge one or several scans; a scan that fails does not stop the others."""
    import time
    from contextlib import ExitStack

    from ctedge.bundle_files import shipped_bundles
    from ctedge.cli.output import print_error, print_origin, print_result
    from ctedge.doors import load_door
    from ctedge.errors import CTEdgeError
    from ctedge.readers import read_scan

    failed = answered = False
    with ExitStack() as stack:
        doors = [
            stack.enter_context(load_door(name, device=device))
            for name in model or shipped_bundles()
        ]
        for path in scans:
            try:
                start = time.perf_counter()
                scan = read_scan(Path(path))
                read_ms = (time.perf_counter() - start) * 1e3
                for door in doors:
                    document = _with_reading(door.predict(scan).to_json(), read_ms)
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


def _with_reading(document: dict[str, Any], read_ms: float) -> dict[str, Any]:
    """The scan was read once for all models: count that time in each of them."""
    timings = document["timings_ms"]
    timings["total"] = round(timings["total"] - timings["read"] + read_ms, 3)
    timings["read"] = round(read_ms, 3)
    return document
