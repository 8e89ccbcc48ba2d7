"""Options that several commands take: what a model is to run on."""

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
