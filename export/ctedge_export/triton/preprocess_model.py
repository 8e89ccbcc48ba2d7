"""A CT volume becomes the network's input by ctedge's own preprocessing: Triton's Python backend.

`ctedge export triton` lays this file into a model repository as it is; what it has to know stands
in the `parameters` of the `config.pbtxt` beside it.

    in   hu        (X, Y, Z), HU
         affine    (4, 4) float64, voxel index to mm in RAS+, as in NIfTI; left out: the axes grow
                   towards Left, Anterior and Superior, and nothing is known of the voxel's size
    out  prepared  (N, C, ...) float32: one volume, or every slice from inferior to superior
         quality   what was seen of the scan, as JSON

A scan that cannot be judged makes an error of its own request; the others are answered.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found] # Triton has it

import ctedge
from ctedge.errors import CTEdgeError, RuntimeUnavailable, UnsupportedGeometry
from ctedge.extras import require
from ctedge.lungs import segment_lungs
from ctedge.preprocessing import resample
from ctedge.quality import LungsSeen, Quality, TrainedOn, judge, with_flags
from ctedge.scan import CTScan
from ctedge.slice_input import slices_of_scan
from ctedge.spec import SliceSpec, spec_from_json
from ctedge.tensor import network_batch

Prepared = tuple[npt.NDArray[np.float32], Quality]


class TritonPythonModel:
    """What the Python backend calls: `initialize` once, then `execute` for each lot of requests."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract; raising here keeps the model from being served."""
        parameters = json.loads(args["model_config"])["parameters"]
        said = {key: value["string_value"] for key, value in parameters.items()}
        if said["ctedge"] != ctedge.__version__:
            raise RuntimeUnavailable(
                "this model repository was made with another version of ctedge",
                found=f"ctedge {ctedge.__version__} where Triton runs",
                expected=f"ctedge {said['ctedge']}",
                fix="install that version there, or run `ctedge export triton` again with this one",
            )
        self._spec = spec_from_json(json.loads(said["spec"]), task=said["task"])
        self._trained = TrainedOn.of(json.loads(said["provenance"]))
        self._max_batch = int(said["max_batch"])
        if not isinstance(self._spec, SliceSpec) and self._spec.lungs_only:
            require("scipy.ndimage", extra="lungs", purpose="finding the lungs")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in order."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            batch, quality = self._prepare(_scan_of(request))
        except CTEdgeError as error:
            return _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001 - raised, it would fail the other requests too
            return _refusal(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        told = np.array([json.dumps(asdict(quality)).encode()], dtype=np.object_)
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor("prepared", batch), pb_utils.Tensor("quality", told)]
        )

    def _prepare(self, scan: CTScan) -> Prepared:
        """As the doors of ctedge do before they run their network."""
        spec, trained = self._spec, self._trained
        if isinstance(spec, SliceSpec):
            return self._prepare_slices(scan, spec)
        lungs = segment_lungs(scan) if spec.lungs_only else None
        prepared = resample(scan, spec, lung_mask=lungs.on(scan) if lungs else None)
        quality = judge(scan, prepared, spec=spec, trained=trained)
        if lungs is not None:
            quality = with_flags(replace(quality, lungs=LungsSeen.of(lungs)), scan, trained)
        return network_batch(prepared.volume[np.newaxis], spec), quality

    def _prepare_slices(self, scan: CTScan, spec: SliceSpec) -> Prepared:
        slices = scan.shape[2]
        if slices > self._max_batch:
            raise UnsupportedGeometry(
                f"{scan.source}: more slices than the network takes at once",
                found=f"{slices} slices",
                expected=f"at most {self._max_batch} a request",
                fix="send them in several requests, or export with a larger --max-batch",
            )
        prepared = slices_of_scan(scan, range(slices), spec)
        return network_batch(prepared.volume, spec), judge(scan, prepared, least_slices=1)


def _scan_of(request: Any) -> CTScan:
    voxels = pb_utils.get_input_tensor_by_name(request, "hu").as_numpy()
    affine = pb_utils.get_input_tensor_by_name(request, "affine")
    if affine is None:
        return CTScan.from_array(voxels)
    return CTScan.from_oriented(voxels, affine.as_numpy(), source="array")


def _refusal(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
