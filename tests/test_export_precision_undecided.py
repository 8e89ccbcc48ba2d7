"""Where rounding shows most: the gate shows chests of which a network is least sure."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import precision_factory
from ctedge_export.gates import numeric
from ctedge_export.gates import undecided as search
from ctedge_export.gates.inputs import GateInput, gate_inputs, gate_twins
from ctedge_export.gates.result import GateResult
from ctedge_export.gates.runners import Runner, onnx_runner
from ctedge_export.gates.undecided import undecided
from ctedge_export.precision import precision as exporter
from engine_factory import SPEC
from precision_factory import Weights

TWINS = gate_twins(SPEC)

#: Six halvings leave 1/64 of the way between two twins, over which a probability changes by less.
NEAR_EVEN = 0.1


def mean_power(one: GateInput) -> float:
    """A network of its own kind, which looks at what is bright."""
    return float(np.square(one.values).mean())


def mean_brightness(one: GateInput) -> float:
    return float(one.values.mean())


@pytest.mark.parametrize("sees", [mean_brightness, mean_power])
def test_whatever_a_network_sees_the_gate_finds_chests_that_leave_it_undecided(sees) -> None:
    healthy, diseased = TWINS[0]
    low, high = sees(healthy), sees(diseased)

    def probability(one: GateInput) -> float:
        turned = 12 * ((sees(one) - low) / (high - low) - 0.5)
        return float(1 / (1 + np.exp(-turned)))

    found = undecided(TWINS[:1], probability)
    assert abs(probability(found[0]) - 0.5) < NEAR_EVEN
    assert found[0].name == f"undecided-{diseased.name}"


def test_an_undecided_chest_lies_between_its_twins_and_is_nobody_elses_input() -> None:
    healthy, diseased = TWINS[0]
    answers = {healthy: 0.0, diseased: 1.0}
    (one,) = undecided(TWINS[:1], lambda shown: answers.get(shown, 0.7))
    assert (one.levels >= np.minimum(healthy.levels, diseased.levels)).all()
    assert (one.levels <= np.maximum(healthy.levels, diseased.levels)).all()
    assert one.name not in {shown.name for shown in gate_inputs(SPEC)}
    assert len({twin.name for pair in TWINS for twin in pair}) == 2 * len(TWINS)


def test_a_network_that_never_changes_sides_has_none() -> None:
    assert undecided(TWINS, lambda one: 0.9) == ()
    assert undecided(TWINS, lambda one: 0.1) == ()


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 5e-3), ("bf16", 2e-2), ("int8", 4e-2)])
def test_what_was_searched_for_has_a_limit_of_its_own(precision: str, limit: float) -> None:
    inputs = (replace(TWINS[0][1], name="faint", undecided=True), *TWINS[0])
    reference = {one.name: {"probability": 0.5} for one in inputs}

    def check(off: float) -> GateResult:
        answers = itertools.chain([0.5 + off], itertools.repeat(0.5))

        def run(batch: np.ndarray) -> dict[str, np.ndarray]:
            return {"probability": np.array([[next(answers)] for _ in batch], np.float32)}

        runner = Runner(name="played", version="1", run=run)
        return numeric.check(reference, runner, inputs, precision=precision)

    assert check(0.99 * limit).passed
    broken = [figure.name for figure in check(1.01 * limit).figures if not figure.holds]
    assert broken == ["max |dprobability| where undecided"]


def of_two_minds(drawn: Weights) -> None:
    """Let the head cross 1/2 between the first twins, healthy below."""
    runner = onnx_runner(precision_factory.network(drawn, "classifier").SerializeToString())
    low, high = (runner.run(one.batch)["logit"].item() for one in TWINS[0])
    scale = 8 / (high - low)
    drawn["dense2.weight"] *= scale
    drawn["dense2.bias"] = np.array([-scale * (low + high) / 2], np.float32)


def test_a_precision_is_gated_where_the_network_is_undecided(tmp_path: Path, monkeypatch) -> None:
    few = TWINS[0]
    monkeypatch.setattr(exporter, "gate_inputs", lambda spec: few)
    monkeypatch.setattr(exporter, "gate_phantoms", lambda spec: ())
    monkeypatch.setattr(search, "gate_twins", lambda spec: TWINS[:2])
    bundle = precision_factory.write(
        tmp_path / "two.ctedge", task="classifier", change=of_two_minds
    )
    bench = exporter.make_bench(bundle)
    first = bench.inputs[0]
    assert first.undecided
    assert len({one.name for one in bench.inputs}) == len(bench.inputs) > len(few)
    assert abs(bench.answers[first.name]["probability"] - 0.5) < NEAR_EVEN
    scored = exporter.make_bench(
        precision_factory.write(tmp_path / "score.ctedge", task="severity")
    )
    assert scored.inputs == few
