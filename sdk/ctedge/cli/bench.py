"""`ctedge bench`: how long a model takes on this very machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge.cli.options import DeviceOption, PrecisionOption

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

    try:
        settings = Settings(repeats=repeats, warm_up=warm_up, seconds=seconds)
    except ValueError as error:  # --seconds nan, inf
        raise typer.BadParameter(str(error)) from error
    if scan is None:
        _require_no_scan(bundle)
    require_places({"--json": json_file if json_file != "-" else None, "--plot": plot}, scan)
    if plot is not None:
        require_png(plot)
    with Console(stderr=True).status("starting") as status:
        report = measure(
            bundle,
            scan,
            every=runtime == "all",
            device=device,
            runtime=None if runtime == "all" else runtime,
            precision=precision,
            settings=settings,
            say=status.update,
        )
    # The bundle as typed; never the path of the scan, which may name a patient.
    command = ["ctedge", "bench", bundle, *(["SCAN"] if scan else []), "--device", device]
    for option, value in (("--runtime", runtime), ("--precision", precision)):
        command += [option, value] if value else []
    command += ["--repeats", f"{repeats}", "--warm-up", f"{warm_up}", "--seconds", f"{seconds:g}"]
    document = json.dumps(report.to_json(command=command)) + "\n"
    if json_file == "-":
        typer.echo(document, nl=False)
    else:
        for line in report_lines(report):
            typer.echo(line)
    if json_file not in (None, "-"):
        write_atomic(json_file, document)
    if plot is not None:
        plot_png(report, plot)


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
