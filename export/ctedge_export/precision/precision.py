"""From a bundle to the same bundle with its network in further precisions, each gated.

They are held against Keras' answers, which the manifest holds, and where it does not, against those
of the bundle's own FP32 file: Keras itself is not needed. All precisions asked for pass, or nothing
is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ctedge.bundle.manifest import CARD_NAME, ENGINES_NAME
from ctedge.bundle.maps import LAYER_CAM
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import PRECISIONS
from ctedge.errors import GateFailed, OutputError, counted
from ctedge.extras import require
from ctedge.onnx_file.parts import without
from ctedge_export.card import card_with_variants
from ctedge_export.gates import structural
from ctedge_export.gates.cases import (
    CALIBRATION_COUNT,
    calibration_phantoms,
    gate_phantoms,
    read_cases,
    read_scans,
)
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.numeric import answers_of
from ctedge_export.gates.recorded import reference
from ctedge_export.gates.result import GateResult
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.gates.undecided import undecided_inputs
from ctedge_export.kept import keep
from ctedge_export.lock import written_by_one
from ctedge_export.precision.variant import Bench, Variant, make_variant
from ctedge_export.reference import check_reference
from ctedge_export.writer import check_target, write_bundle

Say = Callable[[str], None]
_Path = str | os.PathLike[str]

#: Of the task gate's scans, phantoms or given ones, this many join the numeric gate.
_LABELLED_INPUTS = 24


def export_precision(  # noqa: PLR0913 (keyword-only options)
    bundle: _Path,
    to: Sequence[str],
    *,
    output: _Path | None = None,
    data: _Path | None = None,
    calibration: _Path | None = None,
    overwrite: bool = False,
    keep_failed: bool = False,
    say: Say | None = None,
) -> ModelBundle:
    """Add precisions to a bundle.

    Args:
        bundle: a bundle's folder, or, with `output`, the name of a shipped one.
        to: precisions, of "fp16", "bf16" and "int8".
        output: the folder `NAME.ctedge` to write; None changes the bundle where it stands.
        data: labelled scans for the gates (see `gates.cases`); None means phantoms.
        calibration: scans for the ranges of INT8; None means phantoms that no gate sees.
        overwrite: replace an output that stands there, and variants that the bundle has.
        keep_failed: when a gate fails, keep model and figures in `NAME.failed/`.
        say: told of each step, one line at a time.

    Raises:
        GateFailed: a precision does not answer as the network does; nothing is written.
        BundleError: no bundle, damaged, without the FP32 gate's result, or not of our making.
        DatasetError: scans that cannot be used.
        OutputError: it cannot be written; the bundle is as it was.
        MissingExtra: onnx or ONNX Runtime is not installed.
    """
    say = say or (lambda line: None)
    source = ModelBundle.load(bundle)
    target = _target(source, bundle, output, to, overwrite=overwrite)
    fix = "name another output"
    if target.resolve() == source.path.resolve():
        fix = _elsewhere(source, to)
    with written_by_one(target, fix=fix):
        source = ModelBundle.load(bundle)  # as another process left it
        _target(source, bundle, output, to, overwrite=overwrite)
        return _export(source, target, to, data, calibration, keep_failed=keep_failed, say=say)


def add_precision(
    source: ModelBundle, precision: str, *, keep_failed: bool, say: Say
) -> ModelBundle:
    """One precision more, where the bundle stands; `export_precision` for who holds its lock."""
    target = _target(source, source.path, None, [precision], overwrite=False)
    return _export(source, target, [precision], None, None, keep_failed=keep_failed, say=say)


def _export(  # noqa: PLR0913 (what export_precision was told)
    source: ModelBundle,
    target: Path,
    to: Sequence[str],
    data: _Path | None,
    calibration: _Path | None,
    *,
    keep_failed: bool,
    say: Say,
) -> ModelBundle:
    require("onnx", extra="export", purpose="writing another precision")
    require("onnxruntime", extra="cpu", purpose="gating another precision")
    check_reference(source)
    say(f"{source.name}: manifest {source.digest[:12]}, FP32 gate passed against Keras")
    bench = make_bench(source, data=data, calibration=calibration)
    say(f"FP32 answered {counted(len(bench.inputs), 'input')} and {bench.source}")
    variants = []
    for precision in dict.fromkeys(to):
        made = make_variant(bench, precision, say)
        if made.failed is not None:
            error = _failure(made, made.failed)
            if keep_failed:
                say(keep(target, made.record["member"], made.onnx_bytes, made.record, error))
            raise error
        variants.append(made)
    written = _write(source, target, variants)
    say(f"written: {target}, manifest {written.digest[:12]}")
    return written


def make_bench(
    source: ModelBundle, *, data: _Path | None = None, calibration: _Path | None = None
) -> Bench:
    """What the variants of a bundle are held against: FP32's answers to inputs and cases.

    Args:
        source: a bundle that `check_reference` took.
        data, calibration: as `export_precision` takes them.
    """
    import onnx

    spec, inputs = source.spec, gate_inputs(source.spec)
    # LayerCAM reads every layer in FP32; Grad-CAM only what stays in float.
    network = without(source.model, LAYER_CAM)
    if data is None:
        cases = gate_phantoms(spec)
    else:
        cases = read_cases(data, spec, task=source.task, labels=source.labels)
    runner = onnx_runner(network)
    faint = undecided_inputs(runner, spec, task=source.task)
    inputs = (*faint, *(case.shown for case in cases[:_LABELLED_INPUTS]), *inputs)
    scans = None if calibration is None else read_scans(calibration, spec)
    shown = {one.name: one for one in (*inputs, *(case.shown for case in cases))}
    answers = answers_of(runner, tuple(shown.values()))
    return Bench(
        onnx_bytes=network,
        model=onnx.load_from_string(network),
        task=source.task,
        threshold=None if source.task == "severity" else source.threshold,
        inputs=inputs,
        cases=cases,
        source=counted(len(cases), "phantom" if data is None else "given scan"),
        answers=answers,
        reference=reference(source.gates, answers, cases),
        scans=lambda: scans or calibration_phantoms(spec),
        calibrated_on=f"{CALIBRATION_COUNT} phantoms, half of them changed in grey levels or noise"
        if scans is None
        else counted(len(scans), "given scan"),
    )


def _target(
    source: ModelBundle, bundle: _Path, output: _Path | None, to: Sequence[str], *, overwrite: bool
) -> Path:
    unknown = [precision for precision in to if precision not in PRECISIONS]
    if unknown or not to:
        raise OutputError(
            "no such precision",
            found=", ".join(unknown) or "none",
            expected=" or ".join(PRECISIONS),
            fix="name one with --to",
        )
    there = [precision for precision in to if precision in source.variants]
    if there and not overwrite:
        raise OutputError(
            f"{source.name} has its network in {', '.join(there)} already",
            fix="add --overwrite to make it again",
        )
    if output is not None:
        check_target(Path(output), overwrite=overwrite)
        return Path(output)
    if not Path(bundle).is_dir():
        raise OutputError(
            f"{source.name} is a shipped bundle, which is not changed where it stands",
            fix=f"name an output: -o {source.name}.ctedge",
        )
    check_target(Path(bundle), overwrite=True, fix=_elsewhere(source, to))
    return Path(bundle)


def _elsewhere(source: ModelBundle, to: Sequence[str]) -> str:
    """The command that leaves a bundle as it is."""
    named = " ".join(f"--to {precision}" for precision in to)
    return (
        f"write another bundle: ctedge export precision {source.argument} {named} -o OTHER.ctedge"
    )


def _write(source: ModelBundle, target: Path, variants: Sequence[Variant]) -> ModelBundle:
    described = source.manifest
    members = {name: source.member(name) for name in source.member_names}
    records = described.setdefault("variants", {})
    for made in variants:
        records[made.precision] = made.record
        members[made.record["member"]] = made.onnx_bytes
    if CARD_NAME in members:
        members[CARD_NAME] = card_with_variants(source.card, records).encode()
    result = structural.check(source.model, task=source.task)
    described["gates"] = {**described["gates"], "structural": result.to_json()}
    return write_bundle(
        target,
        description=described,
        members=members,
        overwrite=target.exists(),
        name=source.name if target == source.path else None,
        engines=source.path / ENGINES_NAME,
    )


def _failure(made: Variant, failed: GateResult) -> GateFailed:
    return GateFailed(
        f"{made.precision} does not answer as the network does; first layer that departs:"
        f" {made.departs}",
        found=f"{failed.gate} gate: {failed}",
        expected="within the limits, with at most half of the convolutions kept in float",
        fix="take another precision; --keep-failed keeps the file to study",
    )
