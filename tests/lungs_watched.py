"""A small network that finds lungs, and scans whose planes note how they are read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bundle_factory import description_of, golden_case
from ctedge import CTScan, ModelBundle
from ctedge.bundle.golden import pack_levels
from ctedge_export.writer import write_bundle
from lungmask_factory import SMALL


def bands() -> bytes:
    """A network of one layer: right lung below -735 HU, left lung from there to -500, else none."""
    shape = [1, *SMALL.shape]
    value = helper.make_tensor_value_info
    slopes = np.array([200, 0, 100], np.float32).reshape(3, 1, 1, 1)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "slopes", "bias"], ["logits"], "bands")],
        "bands",
        [value("image", TensorProto.FLOAT, ["batch", *shape])],
        [value("logits", TensorProto.FLOAT, ["batch", 3, *SMALL.shape])],
        [
            numpy_helper.from_array(slopes, "slopes"),
            numpy_helper.from_array(np.array([-50, 0, -17.8], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def write_bands(path: Path) -> ModelBundle:
    """Its bundle, for inputs of 48 x 48 pixels."""
    levels = np.zeros(SMALL.shape, np.uint8)
    levels[:12], levels[12:36] = 60, 200  # a quarter left lung, half of it none, the rest right
    return write_bundle(
        path,
        description=description_of(
            "lungs", SMALL, golden=[golden_case("quarters", {"right": 0.25, "left": 0.25})]
        ),
        members={
            "model.onnx": bands(),
            "MODEL_CARD.md": b"# bands\n",
            "golden/quarters.npy.gz": pack_levels(levels),
        },
    )


@dataclass
class Watched:
    """Planes (X, Y) of an array that note which are asked for, and how many are held at a time.

    Attributes:
        half_way: called when half of the planes that were asked for are given.
    """

    voxels: np.ndarray
    half_way: Callable[[], object] = lambda: None
    asked: list[list[int]] = field(default_factory=list)
    most_held: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.voxels.shape

    def array(self) -> np.ndarray:
        raise AssertionError("the whole scan was asked for")

    def each(self, indices: Sequence[int]) -> Generator[np.ndarray, None, None]:
        self.asked.append(list(indices))
        held = []
        for count, index in enumerate(indices):
            if count == len(indices) // 2:
                self.half_way()
            plane = self.voxels[:, :, index].copy()
            held = [one for one in held if one() is not None] + [weakref.ref(plane)]
            self.most_held = max(self.most_held, len(held))
            yield plane


def watched(scan: CTScan, **options: Callable[[], object]) -> tuple[CTScan, Watched]:
    planes = Watched(scan.voxels, **options)
    return replace(scan, planes=planes), planes
