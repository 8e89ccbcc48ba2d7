"""`ctedge bench`: how long a model takes on this very machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge.cli.options import (
    AcquisitionOption,
    DeviceOption,
    OnGapOption,
    PrecisionOption,
    SelectOption,
    SeriesOption,
)

#: Files of a folder, at most, among which one of DICOM is looked for.
_LOOKED_AT = 100


def bench(  # noqa: PLR0913, PLR0917 - one parameter an option
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE", help="A bundle folder or the name of a shipped one."),
    ] = "pneumonia",
    scan: Annotated[
        str | None,
        typer.Argument(
            metavar="SCAN",
            help="Read anew for every answer.  [default: a synthetic scan of 512 x 512 x 41 in"
            " memory]",
        ),
    ] = None,
    device: DeviceOption = "auto",
    runtime: Annotated[
        Literal["all", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"] | None,
        typer.Option(
            help="all: every one that opens here, and why the others do not.  [default: the fastest"
            " whose gate passed]"
        ),
    ] = None,
    precision: PrecisionOption = None,
    series: SeriesOption = None,
    acquisition: AcquisitionOption = None,
    select: SelectOption = None,
    on_gap: OnGapOption = "error",
    repeats: Annotated[int, typer.Option(min=2, help="Timed answers at most.")] = 50,
    warm_up: Annotated[int, typer.Option(min=0, help="Answers before them at most.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.001, help="The repeats of a runtime end after this long.")
    ] = 30.0,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all samples; - prints them instead."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the distribution of the latencies."),
    ] = None,
) -> None:
    """Time every stage of a prediction on this machine, and say whether to believe it."""
    from rich.console import Console

    from ctedge.bench import Settings
    from ctedge.bench import bench as measure
    from ctedge.bench.plot import plot_png
    from ctedge.bench.table import report_lines
    from ctedge.cli.outputs import require_places
    from ctedge.files import write_atomic
    from ctedge.montage import require_png
    from ctedge.readers import given_options

    try:
        settings = Settings(repeats=repeats, warm_up=warm_up, seconds=seconds)
    except ValueError as error:  # --seconds nan, inf
        raise typer.BadParameter(str(error)) from error
    if scan is None:
        _require_no_scan(bundle)
    outputs = {"--json": None if json_file == "-" else json_file, "--plot": plot}
    require_places(outputs, scan, [bundle])
    if plot is not None:
        require_png(plot)
    reading = given_options(
        {"series": series, "acquisition": acquisition, "select": select, "on_gap": on_gap}
    )
    with Console(stderr=True).status("starting") as status:
        report = measure(
            bundle,
            scan,
            every=runtime == "all",
            device=device,
            runtime=None if runtime == "all" else runtime,
            precision=precision,
            reading=reading,
            settings=settings,
            say=status.update,
        )
    options: dict[str, object] = {
        "device": device,
        "runtime": runtime,
        "precision": precision,
        **reading,
        "repeats": repeats,
        "warm_up": warm_up,
        "seconds": f"{seconds:g}",
    }
    command = _command(bundle, scan, options)
    document = json.dumps(report.to_json(command=command)) + "\n"
    # First what is kept: whoever reads the table may hang up.
    if json_file not in (None, "-"):
        write_atomic(json_file, document)
    if plot is not None:
        plot_png(report, plot)
    if json_file == "-":
        typer.echo(document, nl=False)
    else:
        for line in report_lines(report):
            typer.echo(line)
    if report.lost is not None:
        raise report.lost


def _command(bundle: str, scan: str | None, options: Mapping[str, object]) -> list[str]:
    """The words that ask for this again, but for what may name a patient: a path, a series.

    The bundle is named as it was typed.
    """
    words = ["ctedge", "bench", bundle, *(["SCAN"] if scan else [])]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", "UID" if name == "series" else f"{value}"]
    return words


def _require_no_scan(bundle: str) -> None:
    """Refuse a scan in the place of the bundle, where that was forgotten."""
    import shlex

    from ctedge.errors import printable

    if bundle and _is_scan(Path(bundle)):  # "" would be the working folder
        raise typer.BadParameter(
            printable(
                f"{bundle} is a scan, and the bundle comes first: write"
                f" `ctedge bench pneumonia {shlex.quote(bundle)}`"
            ),
            param_hint="BUNDLE",
        )


def _is_scan(path: Path) -> bool:
    """Whether a path has the name of a NIfTI file, or leads to DICOM that is no bundle."""
    import itertools
    import os

    from ctedge.bundle.manifest import MANIFEST_NAME
    from ctedge.errors import CTEdgeError
    from ctedge.nifti_writer import SUFFIXES
    from ctedge.readers.dicom.gather import is_dicom

    if path.name.endswith(SUFFIXES):
        return True
    try:
        if not path.is_dir():
            return is_dicom(path)
        if os.path.lexists(path / MANIFEST_NAME):
            return False
        files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        return any(map(is_dicom, itertools.islice(files, _LOOKED_AT)))
    except (OSError, ValueError, CTEdgeError):  # the bundle's to refuse
        return False
