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
            "  [default: pneumonia and severity]",
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
    from ctedge.cli.output import print_error, print_result
    from ctedge.doors import load_door
    from ctedge.errors import CTEdgeError
    from ctedge.readers import read_scan

    doors = [load_door(name, device=device) for name in model or ("pneumonia", "severity")]
    failed = False
    for path in scans:
        try:
            with _Stopwatch() as reading:
                scan = read_scan(Path(path))
            for door in doors:
                result = door.predict(scan)
                document = _with_reading(result.to_json(), reading.ms)
                if as_json:
                    typer.echo(json.dumps(document))
                else:
                    print_result(document)
        except CTEdgeError as error:
            failed = True
            if as_json:
                typer.echo(json.dumps({"source": path, "error": error.as_dict()}))
            else:
                print_error(error)
    for door in doors:
        door.close()
    if failed:
        raise typer.Exit(1)


def _with_reading(document: dict[str, Any], read_ms: float) -> dict[str, Any]:
    """The scan was read once for all models: count that time in each of them."""
    timings = document["timings_ms"]
    timings["total"] = round(timings["total"] - timings["read"] + read_ms, 3)
    timings["read"] = round(read_ms, 3)
    return document


class _Stopwatch:
    """Wall time of a block, in milliseconds."""

    ms = 0.0

    def __enter__(self) -> _Stopwatch:
        import time

        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        import time

        self.ms = (time.perf_counter() - self._start) * 1e3
