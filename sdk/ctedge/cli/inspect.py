"""`ctedge inspect`: what a bundle is, after every digest was checked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.lung_spec import LungMaskSpec
    from ctedge.spec import Spec


def inspect(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A bundle folder, or a shipped bundle's name.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as it stands.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Verify a bundle's digests and operators, and show what it holds."""
    if as_json and card:
        raise typer.BadParameter("--json and --card exclude each other")

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ctedge.bundle.model_bundle import ModelBundle

    verified = ModelBundle.load(bundle)
    if as_json:
        typer.echo(json.dumps(verified.manifest, indent=2))
        return
    if card:
        typer.echo(verified.card)
        return
    rows = {
        "task": verified.task,
        "labels": ", ".join(verified.labels),
        **_decision(verified),
        "digest": verified.digest,
        "spec": _spec_line(verified.lung_spec if verified.task == "lungs" else verified.spec),
        "input": f"{verified.input_name} (N, {', '.join(map(str, verified.input_shape))})",
        "outputs": ", ".join(verified.output_names),
        "precisions": "\n".join(_precisions(verified)),
        "gates": _lines(verified.gates),
        "metrics": _lines(verified.metrics),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    console = Console(highlight=False)
    console.print(Text.assemble((verified.name, "bold"), "  every digest holds"))
    console.print(table)
    console.print("\n--card shows the model card, --json the whole manifest", style="dim")


def _decision(bundle: ModelBundle) -> dict[str, str]:
    threshold = bundle.manifest["threshold"]
    if threshold is None:
        return {}
    return {"threshold": f"{bundle.labels[-1]} from a probability of {threshold:.4g} on"}


def _precisions(bundle: ModelBundle) -> Iterable[str]:
    """Each precision with the size of its file, what stays float, and where its gates passed."""
    yield f"fp32, {len(bundle.model) / 1e6:.1f} MB"
    for name in bundle.variants:
        variant = bundle.variant(name)
        kept = f", {' '.join(variant.kept_float)} in float" if variant.kept_float else ""
        runtimes = (f"{one}{'' if ok else ' did not'}" for one, ok in variant.runtimes.items())
        size = f"{len(bundle.model_bytes(name)) / 1e6:.1f} MB"
        yield f"{name}, {size}{kept}; gates passed: {', '.join(runtimes)}"


def _spec_line(spec: Spec | LungMaskSpec) -> str:
    from ctedge.spec import SliceSpec

    size = " x ".join(str(n) for n in spec.shape)
    line = f"{spec.name}: {size}, axes grow towards {', '.join(spec.axes)}"
    line += f", {spec.hu_window[0]:g} to {spec.hu_window[1]:g} HU"
    if isinstance(spec, SliceSpec):
        line += f", three channels less {_list(spec.mean)}, divided by {_list(spec.deviation)}"
    return line


def _list(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def _lines(facts: dict[str, object], depth: int = 0) -> str:
    """Names and values, one a line; lists of cases only by their count, and nothing empty."""
    lines = []
    for key, value in facts.items():
        if _is_empty(value):
            continue
        start = f"{'  ' * depth}{key.replace('_', ' ')}"
        if isinstance(value, dict) and "value" in value:
            lines.append(f"{start}: {_number(value['value'])} {_interval(value.get('ci95'))}")
        elif isinstance(value, dict):
            lines += [start, _lines(value, depth + 1)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{start}: {len(value)}")
        else:
            lines.append(f"{start}: {_said(value)}")
    return "\n".join(lines)


def _is_empty(value: object) -> bool:
    """Whether nothing stands in a list or a dict, nor in those that it holds."""
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    return isinstance(value, list) and not value


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else _number(value)


def _interval(bounds: object) -> str:
    if not isinstance(bounds, list):
        return ""
    return f"(95 % interval {' to '.join(_number(bound) for bound in bounds)})"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
