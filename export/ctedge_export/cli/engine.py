"""`ctedge export build-engine` and `inspect`: only typer is imported here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ctedge_export.engine.inspect import Inspection

_MIB = 1 << 20


def build_engine(  # noqa: PLR0913, PLR0917 - one parameter an independent choice
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A NAME.ctedge folder, or a shipped name.")
    ],
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        typer.Option(help="A member that is missing is made and gated."),
    ] = "fp16",
    runtime: Annotated[
        Literal["tensorrt", "tensorrt-rtx"] | None,
        typer.Option(help="[default: what works here]"),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=4096, help="Batches of 1 to this.")] = 1,
    workspace: Annotated[
        int | None,
        typer.Option(min=1, metavar="MIB", help="Scratch memory.  [default: all of the GPU's]"),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Kept timings.  [default: one a GPU, in the user cache]"),
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How long to search.  [default: TensorRT's]")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For newer TensorRTs of this major too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from 8.0 on.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="SM", help="tensorrt-rtx: sm86, or sm86,sm120, or portable.  [default: here]"
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw the model's Grad-CAM too, with every answer.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="ENGINE", help="[default: in BUNDLE/engines]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an engine that stands there.")
    ] = False,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Keep what fails its gate: NAME.failed/.")
    ] = False,
) -> None:
    """Build a TensorRT engine; exit code 3 when it answers otherwise than its model."""
    from ctedge_export.engine.make import build_engine as run
    from ctedge_export.engine.progress import bars
    from ctedge_export.engine.settings import Settings

    settings = Settings(
        max_batch=max_batch,
        workspace_bytes=None if workspace is None else workspace * _MIB,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        target=target,
        explain=explain,
    )
    with bars() as watcher:
        path = run(
            bundle,
            precision=precision,
            runtime=runtime,
            settings=settings,
            timing_cache=timing_cache,
            output=output,
            overwrite=overwrite,
            keep_failed=keep_failed,
            watcher=watcher,
            say=lambda line: typer.echo(line, err=True),
        )
    typer.echo(path)


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="ENGINE|ONNX", help="A .engine file, or an .onnx file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Show layers, precisions, tactics, formats, memory and identity of an engine or ONNX file."""
    from ctedge_export.engine.inspect import inspect_file

    found = inspect_file(file)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(found)


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble((found.path.name, "bold"), f"  by its {found.source}"))
    if found.unopened is not None:
        console.print(Text(f"not opened here: {found.unopened}", "yellow"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in _facts(found).items():
        facts.add_row(name, Text(value))
    console.print(facts)
    columns = {
        "layer": [row.name for row in found.rows],
        "type": [row.kind for row in found.rows],
        "precision": [row.precision for row in found.rows],
        "format": [row.format for row in found.rows],
        "tactic": [row.tactic for row in found.rows],
        "weights": [f"{row.weight_bytes:,}" if row.weight_bytes else "" for row in found.rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(*shown, box=None, header_style="dim")
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
    missing = [name for name in columns if name not in shown]
    if missing:
        console.print(Text(f"not known from the {found.source}: {', '.join(missing)}", "dim"))


def _facts(found: Inspection) -> dict[str, str]:
    facts = {name.replace("_", " "): str(value) for name, value in found.facts.items()}
    facts["memory"] = ", ".join(f"{name} {size:,} bytes" for name, size in found.memory.items())
    facts["layers"] = f"{len(found.rows)}; {_shares(found.layers.shares)}"
    convolutions = _shares(found.layers.convolutions)
    facts["convolutions"] = f"{convolutions or 'none'} (by the {found.layers.source})"
    record = found.record
    if record is None:
        return facts
    site, gate = record.machine, record.device_gate
    built = f"{site.gpu}, {site.compute_capability}, driver {site.driver}, CUDA {site.cuda}"
    targets = ", ".join(record.target.compute_capabilities)
    return facts | {
        "precision": record.precision,
        "runtime": f"{record.runtime} {record.runtime_version}",
        "runs on": f"{record.target.name}: {record.target.gpu or 'any GPU'}, {targets}"
        f"{' or newer' * record.target.or_newer}",
        "built on": built if site.gpu else "a machine without a GPU",
        "model": f"{record.onnx_member} of {record.bundle}, sha256 {record.onnx_sha256}",
        "input": f"{record.input_name} (1 to {record.max_batch}, "
        f"{', '.join(map(str, record.input_shape))})",
        "outputs": ", ".join(record.outputs),
        "builder": ", ".join(f"{key} {value}" for key, value in record.builder.items()),
        "gates": ", ".join(record.gates) or "none",
        "device gate": gate.state + (f" on {gate.machine.gpu}" if gate.machine else ""),
        "sha256": record.sha256,
    }


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
