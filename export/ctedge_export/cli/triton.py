"""`ctedge export triton`: only typer is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def triton(  # noqa: PLR0913, PLR0917 (one parameter an option)
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A NAME.ctedge folder, or a shipped name.")
    ],
    repository: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="REPO", help="The model repository to write, or to add to."
        ),
    ],
    runtime: Annotated[
        Literal["onnxruntime", "tensorrt"] | None,
        typer.Option(help="tensorrt serves the bundle's engine.  [default: onnxruntime]"),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option("--engine", metavar="ENGINE", help="Serve this TensorRT engine."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"] | None,
        typer.Option(help="[default: fp32, or the engine's]"),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="For the network.  [default: cpu; fp16, bf16 and engines: cuda]"),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Batches of 1 to this.  [default: 1; slices: 8; the engine's]"
        ),
    ] = None,
    instances: Annotated[
        int, typer.Option(min=1, max=64, help="Of preprocessing and network each.")
    ] = 1,
    voxels: Annotated[
        Literal["int16", "float32"], typer.Option(help="The type of the HU that clients send.")
    ] = "int16",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace this model; others in REPO stay.")
    ] = False,
) -> None:
    """Write a model repository of Triton Inference Server: preprocessing, network, ensemble."""
    from ctedge_export.triton.export import export_triton

    path = export_triton(
        bundle,
        repository,
        runtime=runtime,
        engine=engine,
        precision=precision,
        device=device,
        max_batch=max_batch,
        instances=instances,
        voxels=voxels,
        overwrite=overwrite,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(path)
