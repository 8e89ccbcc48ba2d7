"""A small bundle whose manifest says on which runtimes the gates of a precision passed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bundle_factory import golden_case, put_member, read_document, seal, variant_of
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from engine_factory import write_engine_bundle
from precision_factory import SPEC, network, weights


def write_small(path: Path) -> ModelBundle:
    """A small network of the published shape with one golden case."""
    bundle = write_engine_bundle(path, model=network(weights()).SerializeToString())
    levels = np.random.default_rng(8).integers(0, 256, SPEC.shape, dtype=np.uint8)
    batch = levels[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
    answers = OnnxRuntime(bundle.model, name="small").run(batch)
    document = read_document(path)
    put_member(path, document, "golden/noise.npy.gz", pack_levels(levels))
    case = golden_case("noise", {name: values.item() for name, values in answers.items()})
    seal(path, document | {"golden": [case]})
    return ModelBundle.load(path)


def gated_copy(
    plain: Path,
    folder: Path,
    files: Mapping[str, bytes],
    precisions: Mapping[str, Mapping[str, bool]],
) -> ModelBundle:
    """A copy with these precisions, of these files, that passed their gates or did not."""
    shutil.copytree(plain, folder)
    document = read_document(folder)
    for precision, passed in precisions.items():
        put_member(folder, document, f"model.{precision}.onnx", files[precision])
        document["variants"][precision] = variant_of(precision, passed)
    seal(folder, document)
    return ModelBundle.load(folder)
