"""`ctedge bench`: how long a model takes on this very machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge.cli.options import DeviceOption, PrecisionOption


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
    from ctedge.files import write_atomic
    from ctedge.montage import require_png

    try:
        settings = Settings(repeats=repeats, warm_up=warm_up, seconds=seconds)
    except ValueError as error:  # --seconds nan, inf
        raise typer.BadParameter(str(error)) from error
    _require_places({"--json": json_file if json_file != "-" else None, "--plot": plot}, scan)
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


def _require_places(outputs: dict[str, str | Path | None], scan: str | None) -> None:
    """Refuse, before minutes of measuring, a file that could not be written after them."""
    from ctedge.errors import OutputError
    from ctedge.files import atomic_file

    for option, path in outputs.items():
        if path is None:
            continue
        if str(path) in ("", "."):
            raise typer.BadParameter("the name of a file is missing", param_hint=f"'{option}'")
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(Path(path).stat().st_mode):
                    raise IsADirectoryError("it is a folder")
            with atomic_file(path):
                raise _ItCanBeWritten
        except _ItCanBeWritten:
            continue
        except OSError as error:
            raise OutputError(
                f"cannot write {os.fspath(path)}",
                found=error.strerror or error,
                fix=f"name another file for {option}; nothing was measured yet",
            ) from error
    _require_apart({**outputs, "SCAN": scan})


def _require_apart(places: dict[str, str | Path | None]) -> None:
    """Refuse two names of one file: what is written last would take the place of the other."""
    from ctedge.errors import OutputError

    named = [(name, Path(path)) for name, path in places.items() if path is not None]
    for (one, path), (other, same) in itertools.combinations(named, 2):
        if _is_same(path, same):
            raise OutputError(
                f"{one} and {other} name one file",
                found=path if path == same else f"{path}, {same}",
                fix=f"name another file for {one}; nothing was measured yet",
            )


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one place, where nothing need stand yet."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    with contextlib.suppress(OSError, RuntimeError):  # links in a circle
        return one.resolve() == other.resolve()
    return False


class _ItCanBeWritten(Exception):
    """Ends the writing before anything takes the place of what stands there."""
