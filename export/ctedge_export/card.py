"""The model card, made from what the run and the gate know. Nothing in it is written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ctedge.errors import counted
from ctedge.run_folder import RunFolder
from ctedge.spec import SliceSpec
from ctedge_export.gates.conversion import Held

_USES = {
    "classifier": (
        "Tells whether a chest CT looks like those it was trained to call"
        " `{positive}`, as a probability of 0 to 1."
    ),
    "severity": (
        "Estimates how much of the lungs is affected on a chest CT, as a score of 0 to 100."
    ),
    "slices": (
        "Tells of single axial slices of chest CT whether they look like those it was trained to"
        " call `{positive}`, as a probability of 0 to 1 a slice. It says nothing of the slices"
        " that it was not given."
    ),
}


def model_card(run: RunFolder, held: Held, *, name: str, notes: str = "") -> str:
    """The card in Markdown.

    Args:
        run: the training it comes from.
        held: what the conversion's gates measured.
        name: the bundle's name.
        notes: Markdown to append, as it is.
    """
    positive = run.labels[-1] if run.labels else ""
    sections = [
        f"# {name}",
        "\n".join(_warnings(run)),
        "## Intended use",
        _USES[run.task].format(positive=positive)
        + " For research, teaching and integration tests with CT of the chest."
        " It is not for diagnosis, triage or treatment decisions.",
        "## Input and output",
        "\n".join(_interface(run)),
        "## Training data",
        "\n".join(_facts(run.document["data"])) or "Not recorded.",
        "## Metrics",
        "\n".join(_facts(run.document["metrics"])) or "Not recorded.",
        "## Conversion",
        _conversion(held),
    ]
    if run.document["training"]:
        sections += ["## Training", "\n".join(_facts(run.document["training"]))]
    if notes.strip():
        sections += ["## Notes", notes.strip()]
    return "\n\n".join(sections) + "\n"


def card_with_variants(card: str, variants: Mapping[str, Mapping[str, Any]]) -> str:
    """The card with a section on the other precisions, in the place of an older one.

    Args:
        card: the bundle's card.
        variants: the manifest's records, by precision.
    """
    before, found, rest = card.partition(f"{_PRECISIONS}\n")
    if found:
        after = rest.partition("\n## ")[2]
        card = f"{before}## {after}" if after else before
    parts = [_PRECISIONS, _HELD_AGAINST]
    for precision, record in sorted(variants.items()):
        parts += [f"### {precision.upper()}", "\n".join(_precision(record))]
    section = "\n\n".join(parts)
    for heading in ("\n## Training\n", "\n## Notes\n"):
        if heading in card:
            before, _, after = card.partition(heading)
            return f"{before}\n{section}\n{heading}{after}"
    return f"{card.rstrip()}\n\n{section}\n"


def _conversion(held: Held) -> str:
    numeric, task = held.numeric, held.further["task"]
    return (
        f"Keras to ONNX (FP32). Largest difference in `{numeric.output}` over"
        f" {counted(len(numeric.comparisons), 'input')}: {numeric.max_difference:.2g}"
        f" (allowed: {numeric.tolerance:g}). Decisions against those of Keras on"
        f" {task.details['source']}: {_figures(task.to_json())}."
    )


_PRECISIONS = "## Other precisions"
_HELD_AGAINST = (
    "Held against the answers of the trained network, and against the FP32 model of this bundle on"
    " inputs that were not shown to that; on synthetic inputs unless said otherwise."
)


def _precision(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"- file: `{record['member']}`, opset {record['opset']}"
    kept = ", ".join(f"`{name}`" for name in record["kept_float"])
    yield f"- convolutions kept in float: {kept or 'none'}"
    calibration = record["calibration"]
    if calibration and "share_of_multiplications" in calibration:
        share = calibration["share_of_multiplications"]
        yield f"- share of the convolutions' multiplications in it: {share:.1%}"
    if calibration and {"scans", "chosen"} <= set(calibration):
        yield f"- calibrated on: {_text(calibration['scans'])}; ranges by: {calibration['chosen']}"
    for name, gates in record["gates"]["runtimes"].items():
        numeric, task = gates["numeric"], gates["task"]
        passed = numeric["passed"] and task["passed"]
        yield f"- {name} ({_text(gates['version'])}): {'passed' if passed else 'NOT passed'}"
        on = f" over {counted(len(numeric['inputs']), 'input')}" if "inputs" in numeric else ""
        yield f"  - numeric gate{on}: {_figures(numeric)}"
        yield f"  - task gate on {_text(task.get('source'))}: {_figures(task)}"


def _figures(gate: Mapping[str, Any]) -> str:
    figures = gate.get("figures") or {}
    found = (
        f"{name} {'no number' if one['value'] is None else format(one['value'], '.2g')}"
        f" (allowed: {one['limit']:g})"
        for name, one in figures.items()
    )
    return "; ".join(found) or "no figures"


def _warnings(run: RunFolder) -> Iterator[str]:
    yield "> **Not a medical device.** Not approved for clinical use by anyone, anywhere."
    yield ">"
    synthetic = run.document["data"].get("synthetic")
    if synthetic:
        yield (
            "> **Synthetic training data.** It has learnt from computer-made phantoms and has"
            " never seen a patient; its figures say nothing about patients."
        )
    elif run.document["data"].get("synthetic_scans"):
        count = run.document["data"]["synthetic_scans"]
        are = "is" if count == 1 else "are"
        yield f"> **{count} of its training scans {are} synthetic**, made by a computer."
    elif synthetic is None:
        yield "> **Origin of the training data not recorded.**"


def _interface(run: RunFolder) -> Iterator[str]:
    spec = run.spec
    size = " x ".join(map(str, spec.shape))
    low, high = spec.hu_window
    axes = ", ".join(spec.axes)
    if isinstance(spec, SliceSpec):
        yield (
            f"- Preprocessing `{spec.name}`: one slice, {size} pixels, axes growing towards {axes},"
            " in three equal channels."
        )
        yield (
            f"- HU from {low:g} to {high:g} become 0 to 1; a picture's black and white are taken"
            " for these."
        )
        if any(spec.mean) or set(spec.deviation) != {1.0}:
            mean, deviation = (", ".join(map(_text, part)) for part in (spec.mean, spec.deviation))
            yield f"- The channels are then taken less {mean} and divided by {deviation}."
    else:
        outside = ", voxels outside the lungs 0." if spec.lungs_only else "."
        yield f"- Preprocessing `{spec.name}`: {size} voxels, axes growing towards {axes}."
        yield f"- HU from {low:g} to {high:g} become 0 to 1{outside}"
    if run.labels:
        yield f"- Labels: {', '.join(f'`{label}`' for label in run.labels)}."
    if run.threshold is not None:
        yield (
            f"- `{run.labels[-1]}` from a probability of {_text(run.threshold)} on, a threshold"
            " chosen on the validation data."
        )


def _facts(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """A nested list of names and values; a value with an interval in one line."""
    for key, value in values.items():
        start = f"{'  ' * depth}- {str(key).replace('_', ' ')}"
        if isinstance(value, Mapping) and "value" in value:
            yield f"{start}: {_with_interval(value)}"
        elif isinstance(value, Mapping) and value:
            yield f"{start}:"
            yield from _facts(value, depth + 1)
        else:
            yield f"{start}: {_text(value)}"


def _with_interval(metric: Mapping[str, Any]) -> str:
    interval = metric.get("ci95")
    if isinstance(interval, list) and len(interval) == 2:
        return f"{_text(metric['value'])} (95 % interval {' to '.join(map(_text, interval))})"
    return _text(metric["value"])


def _text(value: object) -> str:
    if value is None:
        return "not defined"
    if value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split())
