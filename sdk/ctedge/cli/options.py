"""Options that several commands take: what a model is to run on, what is read, what is asked."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "gpu"],
    typer.Option(help="What is named is strict; gpu is one of Intel's."),
]
RuntimeOption = Annotated[
    Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"] | None,
    typer.Option(help="[default: the fastest whose gate passed]"),
]
PrecisionOption = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"] | None,
    typer.Option(help="[default: the fastest whose gate passed]"),
]

#: Which slices of a DICOM folder are meant, as `read_scan` takes it.
SeriesOption = Annotated[
    str | None,
    typer.Option(
        metavar="UID", help="Of DICOM: the series to read, by its UID (see `ctedge dicom list`)."
    ),
]
AcquisitionOption = Annotated[
    int | None, typer.Option(metavar="N", help="Of DICOM: the one of several acquisitions to read.")
]
SelectOption = Annotated[
    Literal["chest"] | None,
    typer.Option(help="Of DICOM: let rules choose the chest among several series."),
]
OnGapOption = Annotated[
    Literal["error", "resample"],
    typer.Option(help="Of DICOM: what to do where slices are missing; resample fills them in."),
]

AssessOption = Annotated[
    bool, typer.Option("--assess", help="Look at the whole scan: is it fit? Lungs in mL.")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="A scan with red flags is an error, not an answer.")
]
