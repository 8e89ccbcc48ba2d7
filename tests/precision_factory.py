"""Bundles to make other precisions of: the published shape of network with few channels.

Weights are drawn as He initialisation draws them; nothing is trained and Keras is not needed.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from typer.testing import CliRunner

from bundle_factory import description_of
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.manifest import TASK_OUTPUTS
from ctedge.bundle.model_bundle import ModelBundle
from ctedge_export.cli import app
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.network.onnx_model import finished_model
from ctedge_export.writer import write_bundle
from engine_factory import SPEC  # one spec: what gates show is drawn once
from made_once import made_once

CHANNELS = (1, 4, 4, 8, 8)
DENSE = 16

CARD = "# plain\n\n## Conversion\n\nNone.\n\n## Training\n\n- none\n\n## Notes\n\n### By hand\n"

Weights = dict[str, np.ndarray]


def weights() -> Weights:
    """Of all layers; the head is scaled so that answers spread over a few units."""
    rng = np.random.default_rng(5)
    drawn: Weights = {}
    for number, (into, out) in enumerate(itertools.pairwise(CHANNELS), start=1):
        drawn[f"conv{number}.weight"] = rng.normal(
            0, (2 / (27 * into)) ** 0.5, (out, into, 3, 3, 3)
        )
        drawn[f"conv{number}.bias"] = rng.normal(0, 0.05, out)
    drawn["dense1.weight"] = rng.normal(0, (2 / CHANNELS[-1]) ** 0.5, (CHANNELS[-1], DENSE))
    drawn["dense1.bias"] = rng.normal(0, 0.1, DENSE)
    drawn["dense2.weight"] = rng.normal(0, (2 / DENSE) ** 0.5, (DENSE, 1))
    drawn["dense2.bias"] = np.zeros(1)
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def network(values: Mapping[str, np.ndarray], task: str = "classifier") -> onnx.ModelProto:
    """The network as `ctedge export onnx` writes it."""
    make = onnx.helper.make_node
    nodes, tensor = [], "volume"
    for n in range(1, len(CHANNELS)):
        nodes += [
            make(
                "Conv",
                [tensor, f"conv{n}.weight", f"conv{n}.bias"],
                [f"conv{n}"],
                f"conv{n}",
                kernel_shape=[3, 3, 3],
            ),
            make("Relu", [f"conv{n}"], [f"relu{n}"], f"relu{n}"),
            make(
                "MaxPool",
                [f"relu{n}"],
                [f"pool{n}"],
                f"pool{n}",
                kernel_shape=[2, 2, 2],
                strides=[2, 2, 2],
            ),
        ]
        tensor = f"pool{n}"
    answer = TASK_OUTPUTS[task][0]
    nodes += [
        make("GlobalAveragePool", [tensor], ["average"], "average"),
        make("Flatten", ["average"], ["flatten"], "flatten", axis=1),
        make("Gemm", ["flatten", "dense1.weight", "dense1.bias"], ["dense1"], "dense1"),
        make("Relu", ["dense1"], ["relu5"], "relu5"),
        make("Gemm", ["relu5", "dense2.weight", "dense2.bias"], [answer], "dense2"),
    ]
    if task == "classifier":
        nodes.append(make("Sigmoid", [answer], ["probability"], "sigmoid"))
    tensors = [numpy_helper.from_array(array, name) for name, array in values.items()]
    return finished_model(nodes, tensors, task=task, spec=SPEC, properties={})


def write(
    path: Path,
    *,
    task: str = "classifier",
    change: Callable[[Weights], None] = lambda drawn: None,
    **changes: Any,
) -> ModelBundle:
    """Write a bundle; `change` spoils the weights, `changes` replace keys of its manifest."""
    drawn = weights()
    change(drawn)
    data = network(drawn, task).SerializeToString(deterministic=True)
    golden = gate_inputs(SPEC)[-1]
    answers = onnx_runner(data).run(golden.batch)
    case = {
        "name": golden.name,
        "input": "golden/chest.npy.gz",
        "outputs": {name: float(np.nan_to_num(value.item())) for name, value in answers.items()},
    }
    return write_bundle(
        path,
        description=description_of(task, SPEC, golden=[case], **changes),
        members={
            "model.onnx": data,
            "golden/chest.npy.gz": pack_levels(golden.levels),
            "MODEL_CARD.md": CARD.encode(),
        },
    )


@functools.cache
def plain(base: Path) -> ModelBundle:
    """An unspoilt severity network, written once in a session.

    Its scores spread over a dozen points. (The order of an untrained classifier's answers means
    nothing.)
    """

    def spread(drawn: Weights) -> None:
        drawn["dense2.weight"] *= 25

    return write(base / "plain.ctedge", task="severity", change=spread)


def every_precision(base: Path) -> ModelBundle:
    """All precisions of the plain bundle, made by the command, in a bundle with an engine."""

    def make(target: Path) -> None:
        shutil.copytree(plain(base).path, target)
        (target / "engines").mkdir()
        (target / "engines" / "device.engine").write_bytes(b"engine")
        arguments = ["precision", str(target), "--to", "fp16", "--to", "bf16", "--to", "int8"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == ""
        said = ("subnormal", "percentile calibration", "onnxruntime-cpu-int8: passed", "written")
        for words in said:
            assert words in done.stderr

    return ModelBundle.load(made_once(base, "all.ctedge", make))
