"""`ctedge predict`: judge scans and pictures, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctedge.cli.options import (
    AcquisitionOption,
    AssessOption,
    DeviceOption,
    OnGapOption,
    PrecisionOption,
    RuntimeOption,
    SelectOption,
    SeriesOption,
    StrictOption,
)

if TYPE_CHECKING:
    from ctedge.doors.door import Door


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
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    assess: AssessOption = False,
    strict: StrictOption = False,
    series: SeriesOption = None,
    acquisition: AcquisitionOption = None,
    select: SelectOption = None,
    on_gap: OnGapOption = "error",
    heatmap: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.nii.gz",
            help="Write where the answer comes from, on the grid of the one scan; of several"
            " models the first one's. Runs fp32 on ONNX Runtime, whose map is the finest.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write slices of the one scan with that map."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scan and model, a line each.")
    ] = False,
) -> None:
    """Judge one or several scans; a scan that fails does not stop the others."""
    from contextlib import ExitStack

    from ctedge.bundle.files import shipped_bundles
    from ctedge.cli.failures import say_error
    from ctedge.doors.by_task import load_doors, wait_for_networks
    from ctedge.errors import CTEdgeError
    from ctedge.quality import looking_once
    from ctedge.readers.picture import is_picture

    models = model or shipped_bundles()
    explain = heatmap is not None or overlay is not None
    if explain and len(scans) > 1:
        raise typer.BadParameter("--heatmap and --overlay take one scan at a time")
    if explain:
        _require_maps(heatmap, overlay, scans[0], models)  # not after minutes
    if explain and runtime is None and precision is None and device != "gpu":
        runtime, precision = "onnxruntime", "fp32"  # nothing else draws the finest map
    how = {"series": series, "acquisition": acquisition, "select": select, "on_gap": on_gap}
    asked = {"assess": assess, "strict": strict, "explain": explain}
    failed = answered = False
    with ExitStack() as stack:
        stack.enter_context(looking_once())
        doors = load_doors(models, device=device, runtime=runtime, precision=precision)
        for door in doors:
            stack.enter_context(door)
        for path in scans:
            try:
                judge = _of_picture if is_picture(path) else _of_scan
                for result in judge(path, doors, how, **asked):
                    if explain and not answered:
                        _write_maps(result, heatmap, overlay)
                    _say(result.to_json(), as_json=as_json)
                    answered = True
            except CTEdgeError as error:
                wait_for_networks(doors)  # that there is none is no scan's fault, and raised here
                if not error.of_one_scan:
                    raise
                failed = True
                say_error(path, error, as_json=as_json)
        if answered and not as_json:
            from ctedge.cli.output import print_origin

            print_origin(door.bundle for door in doors)
    if failed:
        raise typer.Exit(1)


def _of_scan(
    path: str, doors: list[Door[Any]], how: dict[str, Any], *, explain: bool, **asked: bool
) -> Iterator[Any]:
    """What each model answers. The scan is read once, and looked at once (`looking_once`).

    The time of both is in the timings of each answer.
    """
    from dataclasses import replace

    from ctedge.clock import Clock, with_earlier
    from ctedge.readers import read_scan, read_slices

    read = read_slices if all(door.bundle.task == "slices" for door in doors) else read_scan
    clock = Clock()
    with clock.stage("read"):
        scan = read(path, **how)
    earlier_ms = clock.stages_ms
    for number, door in enumerate(doors):
        result = door.predict(scan, explain=explain and not number, **asked)
        timings_ms = result.timings_ms
        yield replace(result, timings_ms=with_earlier(timings_ms, earlier_ms))
        if not number and "assess" in timings_ms:
            earlier_ms = {**earlier_ms, "assess": timings_ms["assess"]}


def _of_picture(
    path: str, doors: list[Door[Any]], how: dict[str, Any], *, explain: bool, **asked: bool
) -> Iterator[Any]:
    """What the models for slices answer; where there is none, what any other says of pictures."""
    from ctedge.readers import refuse_options
    from ctedge.slices import SliceClassifier

    refuse_options(path, how)
    fitting = [door for door in doors if isinstance(door, SliceClassifier)] or doors
    for number, door in enumerate(fitting):
        yield door.predict(path, explain=explain and not number, **asked)


def _say(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:  # what draws tables takes as long to import as a runtime
        typer.echo(json.dumps(document))
    else:
        from ctedge.cli.output import print_result

        print_result(document)


def _require_maps(
    heatmap: Path | None, overlay: Path | None, scan: str, models: Sequence[str]
) -> None:
    """Refuse maps that could not, or must not, be written where they are wanted."""
    from ctedge.cli.outputs import require_places
    from ctedge.montage import require_png
    from ctedge.nifti_writer import require_nifti

    require_places({"--heatmap": heatmap, "--overlay": overlay}, scan, models)
    if heatmap is not None:
        require_nifti(heatmap)
    if overlay is not None:
        require_png(overlay)


def _write_maps(result: Any, heatmap: Path | None, overlay: Path | None) -> None:
    """Write the map of an answer; of several slices that of the one of the highest probability."""
    from ctedge.prediction import SlicesPrediction

    answer = result.highest if isinstance(result, SlicesPrediction) else result
    said = answer.category if hasattr(answer, "category") else answer.label
    if answer.explanation is None:
        return
    if heatmap is not None:
        answer.explanation.write_nifti(heatmap)
    if overlay is not None:
        caption = f"{answer.explanation.method}: {said}"
        answer.explanation.write_overlay(overlay, caption=caption)
