"""`ctedge assess`: is this scan fit to be judged? No model runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ctedge.cli.options import AcquisitionOption, OnGapOption, SelectOption, SeriesOption


def assess(  # noqa: PLR0913, PLR0917 - one parameter an option
    scans: Annotated[
        list[str], typer.Argument(metavar="SCAN...", help="NIfTI files or DICOM folders.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="BUNDLE",
            help="The model whose training the geometry is held against.  [default: usual CT]",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Red flags are an error: exit code 1.")
    ] = False,
    series: SeriesOption = None,
    acquisition: AcquisitionOption = None,
    select: SelectOption = None,
    on_gap: OnGapOption = "error",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scan, a line each.")
    ] = False,
) -> None:
    """Look at whole scans: lungs, air and tissue, field, noise, kernel, metal, contrast medium."""
    from dataclasses import asdict

    from ctedge import quality
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.cli.failures import say_error
    from ctedge.cli.output import print_quality
    from ctedge.errors import CTEdgeError
    from ctedge.readers import read_scan

    bundle = None if model is None else ModelBundle.load(model)
    failed = False
    for path in scans:
        try:
            scan = read_scan(
                path, series=series, acquisition=acquisition, select=select, on_gap=on_gap
            )
            seen = quality.assess(scan, bundle=bundle)
            document = {"source": path, "quality": asdict(seen)}
            if not as_json:
                print_quality(document)
            if strict:
                quality.insist(seen, path)
            if as_json:
                typer.echo(json.dumps(document))
        except CTEdgeError as error:
            failed = True
            say_error(path, error, as_json=as_json)
    if failed:
        raise typer.Exit(1)
