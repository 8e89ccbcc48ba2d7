"""Does a map point at the lesions? Its share inside them, against what chance gives.

    python benchmarks/explanation.py BUNDLE -o benchmarks/results/explanation.json

On phantoms, whose lesions are known to the voxel: Grad-CAM where it was published (last pooling),
LayerCAM at each earlier pooling, and occlusion (how far the logit falls when a block of lung is
painted over with healthy lung, in batches) as a method that needs no map, on fewer phantoms because
it takes hundreds of answers. Chance is the lesions' share of the volume, and of the lungs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import result_file
from onnx import TensorProto, helper

from ctedge import CTScan, ModelBundle, preprocess
from ctedge.bench.machine import BenchMachine
from ctedge.bundle.maps import CAM, LAYER_CAM, MAP_METHODS, MapRecord
from ctedge.explanation import Explanation
from ctedge.onnx_file.parts import answers_of
from ctedge.phantom import Phantom, draw_patient, render
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.network.grad_cam import GraphMap, grad_cam
from ctedge_export.network.layer_cam import layer_cam

GRID = (128, 128, 64)
FIRST_SEED = 70_000  # far from the seeds of the training sets
SHARES = (0.02, 0.5)  # of the lungs, drawn evenly

#: A block of so many voxels of the network's input; healthy lung has about -860 HU.
BLOCK = (16, 16, 8)
HEALTHY = (-860.0 + 1000.0) / 1400.0
BATCH = 8

PACKAGES = ("onnx",)

Floats = npt.NDArray[np.float32]
Draw = Callable[[Floats, npt.NDArray[np.bool_]], tuple[Floats, MapRecord]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A phantom as the network sees it, with its truth on the scan's grid."""

    phantom: Phantom
    scan: CTScan
    volume: Floats
    lungs: npt.NDArray[np.bool_]


def cases(bundle: ModelBundle, count: int) -> Iterator[Case]:
    rng = np.random.default_rng(FIRST_SEED)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        patient = draw_patient(seed, lesion_share=float(rng.uniform(*SHARES)))
        phantom = render(patient, shape=GRID)
        lungs = CTScan.from_array(np.where(phantom.lung_mask, 400, -1000).astype(np.int16))
        yield Case(
            phantom=phantom,
            scan=CTScan.from_array(phantom.voxels),
            volume=preprocess(CTScan.from_array(phantom.voxels), bundle.volume_spec),
            lungs=preprocess(lungs, bundle.volume_spec) > 1 / 2,
        )


def by_map(model: onnx.ModelProto, maps: list[GraphMap]) -> Draw:
    """Draws the last of some maps; the others are what it is made of."""
    explained = onnx.ModelProto()
    explained.CopyFrom(model)
    for found in maps:
        explained.graph.node.extend(found.nodes)
        explained.graph.initializer.extend(found.weights)
    found = maps[-1]
    explained.graph.output.append(
        helper.make_tensor_value_info(found.name, TensorProto.FLOAT, ["batch", *found.grid])
    )
    runtime = OnnxRuntime(explained.SerializeToString(), name=found.name)
    record = MapRecord(
        name=found.name,
        method=MAP_METHODS[found.name],
        shape=found.grid,
        origin=found.origin,
        step=found.step,
    )

    def draw(volume: Floats, _lungs: npt.NDArray[np.bool_]) -> tuple[Floats, MapRecord]:
        outputs = ["logit", "probability", found.name]
        answers = runtime.run(volume[np.newaxis, np.newaxis], outputs=outputs)
        return answers[found.name][0], record

    return draw


def by_occlusion(model: bytes) -> Draw:
    runtime = OnnxRuntime(answers_of(model), name="occlusion")

    def draw(volume: Floats, lungs: npt.NDArray[np.bool_]) -> tuple[Floats, MapRecord]:
        shape = tuple(n // size for n, size in zip(volume.shape, BLOCK, strict=True))
        cells = np.zeros(shape, np.float32)
        before = runtime.run(volume[np.newaxis, np.newaxis])["logit"].item()
        places = [
            (cell, block)
            for cell in np.ndindex(*shape)
            if lungs[
                block := tuple(slice(i * n, (i + 1) * n) for i, n in zip(cell, BLOCK, strict=True))
            ].any()
        ]
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            shown = np.repeat(volume[np.newaxis], len(some), axis=0)
            for row, (_, block) in zip(shown, some, strict=True):
                row[block] = np.where(lungs[block], HEALTHY, row[block])
            after = runtime.run(shown[:, np.newaxis])["logit"].ravel()
            for (cell, _), logit in zip(some, after, strict=True):
                cells[cell] = max(before - logit, 0.0)
        return cells, MapRecord(
            name="occlusion",
            method="occlusion",
            shape=shape,
            origin=tuple((size - 1) / 2 for size in BLOCK),
            step=tuple(map(float, BLOCK)),
        )

    return draw


def judged(
    bundle: ModelBundle, draw: Draw, shown: list[Case], answer: Callable[[Floats], object]
) -> dict[str, Any]:
    """How well one way points, and what it costs in CPU time of plain answers."""
    whole, within, costs = [], [], []
    for case in shown:
        start = time.process_time()
        cells, record = draw(case.volume, case.lungs)
        between = time.process_time()
        answer(case.volume)
        costs.append((between - start) / (time.process_time() - between))
        explanation = Explanation(
            cells=cells, scan=case.scan, spec=bundle.volume_spec, record=record
        )
        heat = explanation.heatmap()
        lesions, lungs = case.phantom.lesion_mask, case.phantom.lung_mask
        inside = float(heat[lesions].sum())
        whole.append(inside / max(float(heat.sum()), 1e-12) / lesions.mean())
        within.append(inside / max(float(heat[lungs].sum()), 1e-12) / (lesions.sum() / lungs.sum()))
    return {
        "phantoms": len(shown),
        "cells": list(record.shape),
        "times_chance": _spread(whole),
        "times_chance_within_lungs": _spread(within),
        "cost_in_answers": round(float(np.median(costs)), 2),
    }


def _spread(values: list[float]) -> dict[str, float]:
    names = ("p25", "median", "p75")
    found = np.percentile(values, (25, 50, 75))
    return {name: round(float(value), 2) for name, value in zip(names, found, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--occluded", type=int, default=4)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    machine = BenchMachine.here()
    bundle = ModelBundle.load(options.bundle, task="classifier")
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(answers_of(bundle.model)))
    cam = grad_cam(model, answer="logit")
    plain = OnnxRuntime(answers_of(bundle.model), name="answers")

    def answer(volume: Floats) -> object:
        return plain.run(volume[np.newaxis, np.newaxis])

    shown = list(cases(bundle, options.count))
    ways = {
        f"{MAP_METHODS[CAM]}, last pooling (published)": by_map(model, [cam]),
        **{
            f"{MAP_METHODS[LAYER_CAM]}, pooling {pooling + 1}": by_map(
                model, [cam, layer_cam(model, cam, pooling=pooling)]
            )
            for pooling in (2, 1, 0)
        },
    }
    rows = {name: judged(bundle, draw, shown, answer) for name, draw in ways.items()}
    rows[f"occlusion, {' x '.join(map(str, BLOCK))}"] = judged(
        bundle, by_occlusion(bundle.model), shown[: options.occluded], answer
    )
    document = {
        "what": "share of a map inside the lesions over their share of the volume, of the lungs",
        "model_digest": bundle.digest,
        "phantoms": {
            "count": options.count,
            "first_seed": FIRST_SEED,
            "grid": GRID,
            "lesion_share": SHARES,
        },
        "rows": rows,
    }
    result_file.write(
        options.output,
        machine=machine,
        packages=PACKAGES,
        body=document,
    )
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
