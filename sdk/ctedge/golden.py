"""Golden cases: inputs whose answers are known, stored as 8-bit volumes (gzip of .npy)."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.errors import GateFailed, InvalidBundle

if TYPE_CHECKING:
    from ctedge.bundle import ModelBundle
    from ctedge.runtimes import Runtime

#: Largest |difference| from a golden answer, by output: the same that the export's gate allows.
#: logit: float32 rounding through 18 nodes gives about 1e-6; 1e-4 moves a probability by at most
#: 2.5e-5, a hundredth of what decides any label.
#: score: the same 1e-4 relative to its scale of 0 to 100; a CTSI step is 4, a category 20.
#: probability: that of the logit through a sigmoid, whose slope is at most 1/4, and rounding.
TOLERANCES = {"logit": 1e-4, "score": 1e-2, "probability": 2.6e-5}

_NPY_HEADER_BYTES = 4096
_GZIP = 31


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenCase:
    """An input whose answers are known.

    Attributes:
        name: what the volume shows.
        input: float32, `spec.shape` in the order of `spec.axes`, values k/255 in 0..1, no batch
            or channel axis.
        outputs: the trained network's answer, by output name.
    """

    name: str
    input: npt.NDArray[np.float32]
    outputs: Mapping[str, float]


def pack_volume(levels: npt.NDArray[np.uint8]) -> bytes:
    """A golden input as it is stored; equal volumes give equal bytes.

    Args:
        levels: uint8, `spec.shape`; level k stands for the network input k/255.
    """
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(levels), allow_pickle=False)
    return gzip.compress(stream.getvalue(), compresslevel=9, mtime=0)


def unpack_volume(data: bytes, name: str, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """A golden input as the network takes it: float32 of `shape`, values k/255.

    Args:
        data: the stored bytes; never inflated beyond the size of one volume.
        name: the member's name, for the message.
        shape: the shape it must have.

    Raises:
        InvalidBundle: no 8-bit volume of that shape.
    """
    voxels = int(np.prod(shape, dtype=np.int64))
    try:
        inflate = zlib.decompressobj(_GZIP)
        raw = inflate.decompress(data, voxels + _NPY_HEADER_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise ValueError("more or less data than one 8-bit volume")
        levels = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
        if levels.dtype != np.uint8 or levels.shape != shape:
            raise ValueError(f"{levels.dtype} of shape {levels.shape}")
    except Exception as error:  # NumPy parses the header as Python, and fails in many ways
        raise InvalidBundle(
            f"the golden input {name} is broken",
            found=error,
            expected=f"gzip of an .npy file, uint8, shape {shape}",
            fix="export the bundle again",
        ) from error
    volume: npt.NDArray[np.float32] = levels.astype(np.float32)
    volume /= np.float32(255)
    return volume


def check_golden(bundle: ModelBundle, runtime: Runtime) -> tuple[int, float]:
    """Run a bundle's golden cases on a runtime.

    Returns:
        How many cases there are, and the largest |difference| from the trained network's answers.

    Raises:
        GateFailed: there is no golden case, or one is answered otherwise than it was.
    """
    cases = bundle.golden()
    if not cases:
        raise GateFailed(
            f"{bundle.name} has no golden case to check",
            fix="export it again with `ctedge export onnx`",
        )
    largest = 0.0
    for case in cases:
        answers = runtime.run(case.input[np.newaxis, np.newaxis])
        for output, expected in case.outputs.items():
            found = float(answers[output].reshape(-1)[0])
            difference = abs(found - expected)
            if not difference <= TOLERANCES[output]:
                raise GateFailed(
                    f"the golden case {case.name!r} of {bundle.name} is answered otherwise",
                    found=f"{output} {found:.6g}, off by {difference:.3g}",
                    expected=f"{expected:.6g} within {TOLERANCES[output]:g}",
                    fix=f"do not use this bundle on {runtime.name} here; report both versions",
                )
            largest = max(largest, difference)
    return len(cases), largest
